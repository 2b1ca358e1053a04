"""Which process writes the segments of a name: a hub that takes over may have never heard of it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ipyasyncresult.wire.runtime import is_alive, process_start

__all__ = ["is_owner_dead", "name_owner"]

_PROCESS = "process"


def name_owner(folder: Path, owner: str) -> None:
    """Write down which process writes segments of this name: this one."""
    me = os.getpid()
    with contextlib.suppress(OSError):  # full: then nothing is removed before the cluster ends
        file = os.open(
            folder / f"{owner}.{_PROCESS}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        with os.fdopen(file, "w") as described:
            described.write(f"{me} {process_start(me) or 0}")


def is_owner_dead(folder: Path, owner: str) -> bool:
    """Whether the process that wrote segments of this name is gone, for all that is known."""
    try:
        pid, start = (folder / f"{owner}.{_PROCESS}").read_text().split()
        return not is_alive(int(pid), int(start))
    except (OSError, ValueError):
        return False
