"""What each backend can do, as a table: made from the records that errors and widget use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from ipyasyncresult.backends.protocol import known_backends, load_backend
from ipyasyncresult.core.capabilities import OWN_ENGINES, Capabilities

__all__ = ["CapabilityTable", "capabilities"]

_ROWS = {
    "outputs": "outputs per task",
    "rich_outputs": "rich displays",
    "live_outputs": "live output",
    "cells": "`%%px` cells, push and pull",
    "addressed_engines": "addressed engines",
    "abort_queued": "abort what is queued",
    "interrupt_running": "interrupt what runs",
    "stored_results": "results after a restart",
    "retry": "retry what failed",
    "time_limits": "time limits of tasks",
    "shared_memory": "objects themselves, not copies",
}


class CapabilityTable:
    """Rows of things to be done, columns of backends; prints as text.

    Attributes
    ----------
    columns : list of Capabilities
    """

    def __init__(self, columns: Sequence[Capabilities]) -> None:
        self.columns: list[Capabilities] = list(columns)

    def rows(self) -> list[list[str]]:
        """Head and rows, as text."""
        names = [field.name for field in fields(Capabilities) if field.name != "backend"]
        head = ["", *(column.backend for column in self.columns)]
        body = [
            [_ROWS[name], *("yes" if getattr(one, name) else "no" for one in self.columns)]
            for name in names
        ]
        return [head, *body]

    def markdown(self) -> str:
        """The table as it stands in the documentation."""
        head, *rows = self.rows()
        lines = [head, ["---"] * len(head), *rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    _repr_markdown_ = markdown

    def __str__(self) -> str:
        rows = self.rows()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )

    __repr__ = __str__


def capabilities() -> CapabilityTable:
    """What own engines and each known backend can do.  Imports none of their libraries."""
    return CapabilityTable(
        [OWN_ENGINES, *(load_backend(name).CAPABILITIES for name in known_backends())]
    )
