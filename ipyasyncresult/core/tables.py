"""Tables for people, as HTML and as text.  Pure; every cell is escaped and shortened."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

__all__ = ["html_table", "shown", "text_table"]

_LONGEST = 120  # characters of a cell
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_CELL = "vertical-align: top; padding: 1px 14px 1px 0"
# The padding is that of JupyterLab's text outputs: neighbours stand in one line.
_BLOCK = "font-size: 13px; line-height: 1.5; padding: 2px 8px"


def shown(value: Any) -> str:
    """A value as one line: times as on a clock, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, dt.datetime):
        return f"{value:%H:%M:%S}.{value.microsecond // 1000:03d}"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = value if isinstance(value, str) else _repr(value)
    text = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text[: 2 * _LONGEST].replace("\n", "⏎"))
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001  a __repr__ of the user's
        return f"<{type(value).__name__}: {type(error).__name__}>"


def html_table(
    title: str, head: Sequence[str], rows: Iterable[Sequence[Any]], *, more: int = 0
) -> str:
    """A table under a title; `more`: how many rows were left out.

    Columns under a `head` in which nothing stands are left out, too.
    """
    cells = [list(row) for row in rows]
    wanted = [n for n in range(len(head)) if any(shown(row[n]) for row in cells)]
    if head and cells:
        head = [head[n] for n in wanted]
        cells = [[row[n] for n in wanted] for row in cells]
    numeric = [
        all(type(cell) in (int, float) for cell in column) for column in zip(*cells, strict=True)
    ]
    lines = [f"<div><b>{escape(shown(title))}</b></div>"]
    if cells:
        rows_html = [_row("td", row, numeric) for row in cells]
        lines += ["<table>", *([_row("th", head, numeric)] if head else []), *rows_html, "</table>"]
    if more:
        lines.append(f"<div>{more:,} more</div>")
    return f'<div class="ipyasyncresult" style="{_BLOCK}">{"".join(lines)}</div>'


def _row(tag: str, cells: Sequence[Any], numeric: Sequence[bool]) -> str:
    sides = ["right" if number else "left" for number in numeric]
    inner = "".join(
        f'<{tag} style="text-align: {side}; {_CELL}">{escape(shown(cell))}</{tag}>'
        for cell, side in zip(cells, sides, strict=True)
    )
    return f"<tr>{inner}</tr>"


def text_table(rows: Iterable[Sequence[Any]]) -> str:
    """Columns of equal width."""
    cells = [[shown(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in cells]
    return "\n".join(line.rstrip() for line in lines)
