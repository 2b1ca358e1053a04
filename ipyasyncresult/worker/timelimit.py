"""How long a call may take: the clock of one task, and what its end turns into.

::

    main thread          start() ── call ── stop()   start() ── next item of the chunk ── stop()
    pump thread                       is_over()? ── SIGINT to the main thread  (is_due()? again)
    handler (main thread)                 take_due() ── raise TimedOut
    who watches the process (no GIL)          after GRACE more seconds: the engine is killed
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from ipyasyncresult.errors import TaskTimeout
from ipyasyncresult.worker.failures import cut_hidden_frames

__all__ = ["GRACE", "TimeLimit", "TimedOut", "task_timeout"]

GRACE = 5.0
"""Seconds that an interrupted call has to end before its engine, with all that is in its namespace,
is killed.  On a loaded machine the first traceback of a cell alone takes one or two of them."""

_LONGEST_CHAIN = 20


class TimedOut(KeyboardInterrupt):
    """Raised in user code whose time is up.

    A KeyboardInterrupt, so that ``except Exception`` lets it pass and everything that cleans up
    after Ctrl-C does so here.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"longer than {seconds:g} s")
        self.seconds = seconds


class TimeLimit:
    """The clock of a task, started anew for each item of a chunk.

    ``start`` and ``stop`` belong to the main thread, ``is_over`` to the pump.

    Parameters
    ----------
    seconds : float
        Per call.
    set_deadline : callable
        Told, in monotonic seconds, when the engine may be killed; 0.0: never.
    """

    __slots__ = ("_began", "_call", "_due", "_set_deadline", "_told", "seconds")

    def __init__(self, seconds: float, set_deadline: Callable[[float], None]) -> None:
        self.seconds: float = seconds
        self._set_deadline = set_deadline
        self._began = 0.0
        self._call = 0  # odd while a call runs
        self._told = 0  # the call of which `is_over` said so
        self._due = 0  # the same, until the handler has seen it

    def start(self) -> None:
        """A call begins (and the one before has ended)."""
        # In this order: the pump, which may look at any moment, must not see the new call with the
        # time of the one before.
        self._began = monotonic()
        self._call = (self._call + 1) | 1
        self._set_deadline(self._began + self.seconds + GRACE)

    def stop(self) -> None:
        """It has ended: a signal that is under way is for nobody."""
        self._call = (self._call + 1) & ~1
        self._set_deadline(0.0)

    def is_over(self) -> bool:
        """Whether the call that runs has had its time; says so once."""
        call = self._call
        if call % 2 == 0 or self._told == call or monotonic() - self._began < self.seconds:
            return False
        self._told = self._due = call
        return True

    def is_due(self) -> bool:
        """Whether that was said of the call that runs, and the handler has not seen it yet."""
        return self._due != 0 and self._due == self._call

    def take_due(self) -> TimedOut | bool:
        """In the handler: is this signal ours?  What to raise, True when its call has ended."""
        due, self._due = self._due, 0
        return TimedOut(self.seconds) if due and due == self._call else bool(due)


def task_timeout(error: BaseException) -> BaseException:
    """The error of a call: TaskTimeout where it comes of a :class:`TimedOut`, else as it is.

    User code may have turned the interrupt into an exception of its own: that one is the cause.
    """
    found: BaseException | None = error
    for _ in range(_LONGEST_CHAIN):
        if found is None or isinstance(found, TimedOut):
            break
        found = found.__cause__ or found.__context__
    if not isinstance(found, TimedOut):
        return error
    cut_hidden_frames(found.__traceback__)
    timeout = TaskTimeout(
        f"the call took longer than its time-out of {found.seconds:g} s and was interrupted"
    )
    if found is not error:
        timeout.__cause__ = error
    return timeout.with_traceback(found.__traceback__)
