"""A clock that goes only when it is wound."""

from __future__ import annotations

__all__ = ["ManualClock"]


class ManualClock:
    """Call it for the time, in seconds since the epoch; it moves with :meth:`advance` only.

    Parameters
    ----------
    start : float
        What it shows at first; by default the first second of 2026 (UTC).
    """

    def __init__(self, start: float = 1_767_225_600.0) -> None:
        self._now = start

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass; less than nothing is a ValueError."""
        if not seconds >= 0:  # nan, too
            raise ValueError(f"seconds must be >= 0, not {seconds!r}")
        self._now += seconds
