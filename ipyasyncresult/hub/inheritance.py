"""Segments of which the last hub knew, and nobody has spoken to this one.

An owner does not give back by itself what it once sent, and who has it mapped does not say so
again.  So, once the owner is here, and what it had to send again has come, or when it is dead::

    name ──▶ name~           who has it mapped sends it on as a copy from now on
    name~ ──▶ name           a message that was under way speaks of it
    name~ ──▶ (removed)      nobody did; who has it mapped keeps the memory
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from pathlib import Path

from ipyasyncresult.wire.buffers import previous_name
from ipyasyncresult.wire.segmentowner import is_owner_dead

__all__ = ["Inheritance"]

GRACE = 10.0
"""Seconds that an owner is here, and that a message may be under way."""
_CONDEMNED = "~"


class Inheritance:
    """Finds what nobody needs any more.  The hub's thread only.

    Parameters
    ----------
    folder : Path
        The cluster's shared memory.
    names : collection of str
        What was there when this hub began.
    """

    def __init__(self, folder: Path, names: Collection[str]) -> None:
        self._folder = folder
        self._names = names
        self._since: dict[str, float] = {}  # by owner: since when it is here
        self._condemned: dict[str, float] = {}  # by name: since when; monotonic seconds
        self._departed: dict[str, float] = {}  # by owner: when it left this hub

    def revive(self, name: str) -> None:
        """A message speaks of this one."""
        if self._condemned.pop(name, None) is not None:
            with contextlib.suppress(OSError):
                if self._path(name).exists():  # its owner made it anew
                    self._path(name, _CONDEMNED).unlink()
                else:
                    self._path(name, _CONDEMNED).rename(self._path(name))

    def departed(self, owner: str, now: float) -> None:
        """It left, or died."""
        self._departed[owner] = now

    def take_departed(self, now: float) -> list[str]:
        """Owners that left long enough ago: nobody sends again what refers to them."""
        due = [owner for owner, since in self._departed.items() if now - since >= GRACE]
        for owner in due:
            del self._departed[owner]
        return due

    def look(
        self, now: float, in_use: Collection[str], is_here: Callable[[str], bool]
    ) -> dict[str, list[str]]:
        """Condemn, and remove what was condemned; by owner, what it need not keep in mind.

        Parameters
        ----------
        now : float
            Monotonic seconds.
        in_use : collection of str
            Names of what this hub knows.
        is_here : callable
            Whether an owner has introduced itself.
        """
        dropped: dict[str, list[str]] = {}
        for name, since in list(self._condemned.items()):
            if now - since >= GRACE:
                del self._condemned[name]
                with contextlib.suppress(OSError):
                    self._path(name, _CONDEMNED).unlink()
                # The last hub may have died between the next name and saying so.
                names = [name, previous_name(name)]
                dropped.setdefault(name.partition(".")[0], []).extend(names)
        for name in self._left(in_use):
            if self._is_settled(name.partition(".")[0], name, now, is_here):
                with contextlib.suppress(OSError):
                    self._path(name).rename(self._path(name, _CONDEMNED))
                    self._condemned[name] = now
        return dropped

    def _left(self, in_use: Collection[str]) -> list[str]:
        with contextlib.suppress(OSError):
            names = [file.name for file in self._folder.glob("*.*.*[0-9]")]
            return [name for name in names if name not in in_use]
        return []

    def _is_settled(
        self, owner: str, name: str, now: float, is_here: Callable[[str], bool]
    ) -> bool:
        if not is_here(owner):
            return is_owner_dead(self._folder, owner)
        return name in self._names and now - self._since.setdefault(owner, now) >= GRACE

    def _path(self, name: str, suffix: str = "") -> Path:
        return self._folder / f"{name}{suffix}"
