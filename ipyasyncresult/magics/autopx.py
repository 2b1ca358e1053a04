"""``%autopx``: every cell becomes a ``%%px`` cell, by one of IPython's input transformers.

IPython transforms each cell before it runs it, in the terminal and in every version of ipykernel
alike, and its history keeps what the user wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["AutoPx", "without_autopx"]

# The family stays here, or nobody could switch it off; without a % it may be automagic.
_STAYS = re.compile(r"%%?(?:auto)?px\w*|autopx\w*\s*$")


class AutoPx:
    """The transformer: cells go to ``%%px{suffix}``.

    Attributes
    ----------
    has_added : bool
        Whether the cell that came last has its header from here.
    """

    # A side effect is what it is for IPython: it then does not ask this whether a cell is complete,
    # which for one with a cell magic would take an empty line.
    has_side_effects = True

    def __init__(self, suffix: str = "") -> None:
        self._header = f"%%px{suffix}\n"
        self.has_added = False

    def __call__(self, lines: list[str]) -> list[str]:
        first = next((line.strip() for line in lines if line.strip()), "")
        self.has_added = bool(first) and not _STAYS.match(first)
        return [self._header, *lines] if self.has_added else lines


@contextmanager
def without_autopx(shell: Any) -> Iterator[None]:
    """Within the context cells are transformed as if no ``%autopx`` were on."""
    transforms: list[Any] = shell.input_transformers_cleanup
    kept = transforms[:]
    transforms[:] = [one for one in kept if not isinstance(one, AutoPx)]
    try:
        yield
    finally:
        transforms[:] = kept
