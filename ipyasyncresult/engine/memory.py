"""Did the kernel kill a process because memory ran out?  A counter before and after tells."""

from __future__ import annotations

from pathlib import Path

__all__ = ["OutOfMemory", "find_counters"]

_CGROUPS = Path("/sys/fs/cgroup")
_SELF = Path("/proc/self/cgroup")
_VMSTAT = Path(
    "/proc/vmstat"
)  # of the whole machine: better than nothing, where it is all there is


def find_counters(cgroup: str, root: Path = _CGROUPS) -> list[Path]:
    """Files with a line ``oom_kill N`` for a process of these control groups, the nearest first.

    Parameters
    ----------
    cgroup : str
        What ``/proc/<pid>/cgroup`` holds.
    root : Path
        Where control groups are mounted.
    """
    found = []
    for line in cgroup.splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        # In a container the path may be the host's, and its own files stand at the top.
        for folder in (path.lstrip("/"), ""):
            if "memory" in controllers.split(","):
                found.append(root / "memory" / folder / "memory.oom_control")
            elif controllers == "":
                found.append(root / folder / "memory.events")
    return [path for path in dict.fromkeys(found) if _count(path) is not None]


class OutOfMemory:
    """Watches the counters of this process, which are those of its children.

    Parameters
    ----------
    counters : list of Path, optional
        By default those of this process's control groups, or else the machine's.
    """

    def __init__(self, counters: list[Path] | None = None) -> None:
        if counters is None:
            try:
                counters = find_counters(_SELF.read_text())
            except OSError:
                counters = []
        self._counters = counters or [_VMSTAT]
        self._seen = self._total()

    def has_struck(self) -> bool:
        """Whether it killed something since the last call."""
        seen, self._seen = self._seen, self._total()
        return self._seen > seen

    def _total(self) -> int:
        return sum(_count(path) or 0 for path in self._counters)


def _count(path: Path) -> int | None:
    try:
        text = path.read_text()
    except OSError:
        return None
    for line in text.splitlines():
        name, _, number = line.partition(" ")
        if name == "oom_kill":
            return int(number)
    return None
