"""Where the code of a cell was typed: sent with it, as an engine has numbers of its own."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Typed"]


class Typed(NamedTuple):
    """Where the code of a cell was typed."""

    cell: str
    """``Cell In[7]``"""
    above: int
    """How many lines of that cell stand above the code."""

    def encode(self) -> bytes:
        return f"{self.above} {self.cell}".encode()

    @classmethod
    def decode(cls, data: bytes) -> Typed | None:
        """None for code that no cell has, and for what says nothing of that kind."""
        above, _, cell = data.decode(errors="replace").partition(" ")
        return cls(cell, int(above)) if cell and above.isdecimal() and len(above) < 7 else None
