"""Rows of text, aligned, as wide as the terminal, and in colour where somebody looks."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable, Sequence

__all__ = ["ago", "paint", "plain", "table"]

_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\))")

_COLOURS = {
    "ok": "32",
    "running": "36",
    "pending": "33",
    "lost": "31",
    "error": "31",
    "aborted": "35",
    "bad": "31",
    "warning": "33",
    "head": "1",
}


def table(head: Sequence[str], rows: Iterable[Sequence[object]], *, states: int = -1) -> str:
    """Aligned columns under a head; the last column gives way where the terminal ends.

    Parameters
    ----------
    head : sequence of str
    rows : iterable of sequences
        Anything that has a ``str``; None is empty.
    states : int
        Position of the column that is coloured by the state in it.
    """
    cells = [[_clean(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    room = _room() - sum(widths[:-1]) - 2 * (len(widths) - 1)
    widths[-1] = max(len(head[-1]), 8, min(widths[-1], room))
    lines = [paint("  ".join(map(str.ljust, head, widths)).rstrip(), "head")]
    for row in cells:
        fitted = [_cut(cell, width).ljust(width) for cell, width in zip(row, widths, strict=True)]
        if states >= 0:
            fitted[states] = paint(fitted[states], row[states].split(" ")[-1])
        lines.append("  ".join(fitted).rstrip())
    return "\n".join(lines)


def paint(text: str, state: str) -> str:
    """The text in the colour of a state, where a person sees colours."""
    code = _COLOURS.get(state)
    if code is None or os.environ.get("NO_COLOR") or not sys.stdout.isatty():
        return text
    return f"\033[{code}m{text}\033[0m"


def ago(seconds: float) -> str:
    """How long something lasts, in the largest unit that says enough: ``42 s``, ``3 h``."""
    for limit, divisor, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / divisor:.0f} {unit}"
    return f"{seconds / 86_400:.0f} days"


def _room() -> int:
    """Columns; what is piped into a file or a pager is not cut."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def plain(text: str) -> str:
    """Text of a task without what would command the terminal: colours, bells, titles."""
    text = _ESCAPES.sub("", text)
    return "".join(c if c.isprintable() or c in "\n\t" else "·" for c in text)


def _clean(cell: object) -> str:
    """One line that a terminal takes for text: labels are the user's, and may hold anything."""
    return "" if cell is None else plain(str(cell)).replace("\n", "·").replace("\t", " ")
