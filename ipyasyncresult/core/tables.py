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
_CELL = "text-align: left; vertical-align: top; padding: 1px 12px 1px 0"


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
    """A table under a title; `more`: how many rows were left out."""
    lines = [f"<div><b>{escape(shown(title))}</b></div>", "<table>"]
    if head:
        lines.append(_row("th", head))
    lines += [_row("td", row) for row in rows]
    lines.append("</table>")
    if more:
        lines.append(f"<div>{more:,} more</div>")
    return f'<div class="ipyasyncresult" style="font-size: 13px">{"".join(lines)}</div>'


def _row(tag: str, cells: Sequence[Any]) -> str:
    inner = "".join(f'<{tag} style="{_CELL}">{escape(shown(cell))}</{tag}>' for cell in cells)
    return f"<tr>{inner}</tr>"


def text_table(rows: Iterable[Sequence[Any]]) -> str:
    """Columns of equal width."""
    cells = [[shown(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in cells]
    return "\n".join(line.rstrip() for line in lines)
