"""Tracebacks show the line that failed, under the name that it has in the notebook.

cloudpickle leaves out even the file's name.  A file is read where the traceback is made; what was
typed into a cell or at a prompt is in no file, so the lines of each function travel with its code.
A cell that ``%%px`` sends says where it was typed: an engine has numbers of its own.
"""

from __future__ import annotations

import linecache
import sys
from collections import OrderedDict
from collections.abc import Callable
from traceback import TracebackException
from types import CodeType
from typing import Any

import cloudpickle

__all__ = ["cell_of", "name_cells", "reduce_code"]

_MOST_LINES = 1000  # of one function; a longer one goes without
_MOST_CELLS = 1000  # that an engine remembers, the newest ones

# On the engine, by the name of their file: how tracebacks call them.
_cells: OrderedDict[str, str] = OrderedDict()

_reduce: Callable[[CodeType], tuple[Any, ...]] = cloudpickle.Pickler.dispatch_table[CodeType]


def reduce_code(code: CodeType) -> tuple[Any, ...]:
    """For a pickler's ``dispatch_table``."""
    make, args = _reduce(code)
    name, first = code.co_filename, code.co_firstlineno
    entry = linecache.cache.get(name)
    lines = ""
    if entry is not None and len(entry) > 1 and entry[1] is None:  # what is typed has no date
        last = max([line for _, _, line in code.co_lines() if line], default=first)
        if last - first < _MOST_LINES:
            lines = "".join(entry[2][first - 1 : last])
    return _make_code, (make, args, name, _name_here(name) if lines else "", first, lines)


def _name_here(filename: str) -> str:
    """``Cell In[7]`` for the file of a cell that was typed here, or is known here."""
    shell: Any = "IPython" in sys.modules and sys.modules["IPython"].get_ipython()
    named = shell and shell.compile.format_code_name(filename)
    return " ".join(named) if named else ""


def _make_code(
    make: type[CodeType], args: tuple[Any, ...], filename: str, cell: str, first: int, lines: str
) -> CodeType:
    """Called when it is unpickled."""
    if lines:
        _remember(filename, cell, first, lines.splitlines(keepends=True))
    return make(*args).replace(co_filename=filename)


def _remember(filename: str, cell: str, first: int, new: list[str]) -> None:
    known = linecache.cache.get(filename, ())
    # Never changed in place: a task may be looking at it.
    lines = list(known[2]) if len(known) > 1 else []
    lines += ["\n"] * (first - 1 + len(new) - len(lines))
    lines[first - 1 : first - 1 + len(new)] = new
    linecache.cache[filename] = (sum(map(len, lines)), None, lines, filename)
    _cells[filename] = cell
    _cells.move_to_end(filename)
    if len(_cells) > _MOST_CELLS:
        linecache.cache.pop(_cells.popitem(last=False)[0], None)


def cell_of(filename: str) -> str:
    """``Cell In[7]`` of the notebook, for code that came from there; else empty.  Any thread."""
    return _cells.get(filename, "")


def name_cells(described: TracebackException) -> None:
    """Let it say ``Cell In[7]`` where it has a file that nobody can open."""
    left: list[TracebackException | None] = [described]
    while left:
        one = left.pop()
        if one is not None:
            for frame in one.stack:
                name = frame.filename
                frame.filename = _name_here(name) or cell_of(name) or name
            left += [one.__cause__, one.__context__, *(one.exceptions or ())]
