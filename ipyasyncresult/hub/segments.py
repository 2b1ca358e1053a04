"""Who uses which segment of shared memory.  Pure: no file, socket or clock.

A segment is in use as long as a task needs it (as an argument), the archive keeps it (as a result),
the store has no copy of it yet, or a process has it mapped.  When nobody does, its owner may write
there again; when that makes no sense, or there is no owner any more, its file is removed.
Decisions are collected in ``free``, ``drops``, ``rests`` and ``departed`` and carried out by the
server.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from ipyasyncresult.wire.buffers import KEPT_APART, READ, Reference, next_name, reference_of

__all__ = ["Segments"]

DEFAULT_READ_BUDGET = 64 << 20
"""Bytes of results that were read and let go by everybody and are remembered all the same."""


class Segment:
    """One use of a segment: from the message that brought it until nobody needs it."""

    __slots__ = (
        *("apart", "holders", "kept", "name", "owner", "place", "reads", "size", "unstored"),
        "work",
    )

    def __init__(self, reference: Reference) -> None:
        self.name = reference.name
        self.owner = reference.owner
        self.place = reference.place
        self.size = reference.size
        self.work = 0  # tasks that have it as an argument
        self.kept = 0  # ended tasks in the archive that have it as a result, or may run again
        self.unstored = 0  # messages with it that the store has not written yet
        self.reads = 0  # how often somebody read it and gave it back
        self.holders: dict[str, int] = {}  # sessions and engines: how often it was sent there
        self.apart = False  # somebody may look at it for ever: never to be written again


class Segments:
    """Counts what is in use.  The hub's thread only.

    Parameters
    ----------
    read_budget : int
        A result that was read, and that nobody holds any more, is kept as long as all such take no
        more bytes than this; then the one that was let go first is.
    stored : bool
        There is a store, which copies everything: the archive keeps nothing here.
    inherited : collection of str
        Names of what was there when another hub died.  That one knew, and this one does not, who
        has it mapped: it is not written again.
    """

    def __init__(
        self,
        read_budget: int = DEFAULT_READ_BUDGET,
        *,
        stored: bool = False,
        inherited: Collection[str] = (),
    ) -> None:
        self.read_budget = read_budget
        self._stored = stored
        self.inherited = inherited
        self.revive: Callable[[str], None] = _nothing  # told the name of what it did not know yet
        self.kept_bytes = 0  # of what the archive keeps
        self._known: dict[str, Segment] = {}
        self._read: OrderedDict[str, Segment] = OrderedDict()  # kept within the budget
        self._read_bytes = 0
        # Given back to their owners, by place: those of this while, and of the while before.
        self._resting: dict[str, str] = {}
        self._resting_long: dict[str, str] = {}
        # Decisions for the server to carry out:
        self.free: dict[str, list[str]] = {}  # by owner
        self.drops: dict[str, list[str]] = {}  # by owner: never to be written again
        self.rests: dict[str, list[str]] = {}  # by owner: free for long, by the name to come
        self.departed: list[str] = []  # owners that ended: what they left can go

    # -- tasks and results -----------------------------------------------------------------------

    def _enter(self, frame: Any) -> Segment | None:
        reference = reference_of(frame)
        if reference is None:
            return None
        segment = self._known.get(reference.name)
        if segment is None:
            segment = self._known[reference.name] = Segment(reference)
            segment.apart = reference.name in self.inherited
            self.revive(reference.name)
            self._resting.pop(segment.place, None)
            self._resting_long.pop(segment.place, None)
        return segment

    def add_work(self, frames: Iterable[Any]) -> None:
        """A task came whose arguments these are."""
        for frame in frames:
            segment = self._enter(frame)
            if segment is not None:
                segment.work += 1
                self._hold_again(segment)

    def end_work(self, frames: Iterable[Any]) -> None:
        """The task needs them no more."""
        for segment in self._of(frames):
            segment.work -= 1
            self._look_at(segment)

    def keep_work(self, frames: Iterable[Any]) -> None:
        """The task ended, and the archive keeps its arguments: it may run again."""
        if self._stored:
            self.end_work(frames)
            return
        for segment in self._of(frames):
            segment.work -= 1
            self._keep(segment)

    def add_result(self, frames: Iterable[Any]) -> None:
        """The archive keeps a result."""
        for frame in () if self._stored else frames:
            segment = self._enter(frame)
            if segment is not None:
                self._keep(segment)

    def _keep(self, segment: Segment) -> None:
        if not segment.kept:
            self.kept_bytes += segment.size
        segment.kept += 1

    def forget(self, frames: Iterable[Any]) -> None:
        """The archive forgets a result, or the arguments of a task that ended."""
        for segment in self._of(frames):
            if segment.kept:  # else the budget was used up
                segment.kept -= 1
                if not segment.kept:
                    self._not_kept(segment)
                self._look_at(segment)

    def _not_kept(self, segment: Segment) -> None:
        self.kept_bytes -= segment.size
        self._hold_again(segment)

    def add_unstored(self, frames: Iterable[Any]) -> None:
        """The store is about to copy these."""
        for frame in frames:
            segment = self._enter(frame)
            if segment is not None:
                segment.unstored += 1

    def end_unstored(self, frames: Iterable[Any]) -> None:
        """The store has them."""
        for segment in self._of(frames):
            segment.unstored -= 1
            self._look_at(segment)

    def have(self, frames: Iterable[Any]) -> bool:
        """Whether everything to which these refer is still there."""
        references = map(reference_of, frames)
        return all(one is None or one.name in self._known for one in references)

    def _of(self, frames: Iterable[Any]) -> Iterable[Segment]:
        for frame in frames:
            reference = reference_of(frame)
            segment = None if reference is None else self._known.get(reference.name)
            if segment is not None:
                yield segment

    # -- processes -------------------------------------------------------------------------------

    def lend(self, holder: str, frames: Sequence[Any]) -> None:
        """These frames are sent to a session or an engine, which has them mapped from now on."""
        for segment in self._of(frames):
            segment.holders[holder] = segment.holders.get(holder, 0) + 1
            self._hold_again(segment)

    def give_back(self, holder: str, released: Iterable[tuple[str, int]]) -> None:
        """What it does not use any more: names, and bits that say how it was used."""
        for name, bits in released:
            segment = self._known.get(name)
            if segment is None or holder not in segment.holders:
                continue
            segment.holders[holder] -= 1
            if not segment.holders[holder]:
                del segment.holders[holder]
            segment.apart |= bool(bits & KEPT_APART)
            segment.reads += bool(bits & READ)
            self._look_at(segment)

    def gone(self, holder: str) -> None:
        """A session or an engine ended; what it had mapped it may still look at."""
        for segment in list(self._known.values()):
            if segment.holders.pop(holder, 0):
                segment.apart = True
                self._look_at(segment)
        self.departed.append(holder)

    def _hold_again(self, segment: Segment) -> None:
        """It is no longer one that only the budget for what was read keeps."""
        if self._read.pop(segment.name, None) is not None:
            self._read_bytes -= segment.size

    def _look_at(self, segment: Segment) -> None:
        """Somebody uses it less: is that the end?"""
        if segment.holders or segment.work > 0 or segment.unstored > 0:
            return
        if segment.kept:
            if segment.reads >= segment.kept and segment.name not in self._read:
                self._read[segment.name] = segment
                self._read_bytes += segment.size
                self._keep_to_budget()
            return
        self._known.pop(segment.name, None)
        if segment.apart:
            self.drops.setdefault(segment.owner, []).append(segment.name)
        else:
            self.free.setdefault(segment.owner, []).append(segment.name)
            self._resting[segment.place] = next_name(segment.name)

    def _keep_to_budget(self) -> None:
        while self._read_bytes > self.read_budget:
            oldest = next(iter(self._read.values()))
            oldest.kept = 0
            self._not_kept(oldest)
            self._look_at(oldest)

    # -- memory that nobody uses -----------------------------------------------------------------

    def rest(self) -> None:
        """Called now and then: what was free all the while is given back to the machine."""
        for place, name in self._resting_long.items():
            self.rests.setdefault(place.partition(".")[0], []).append(name)
        self._resting_long = self._resting
        self._resting = {}

    def in_use(self) -> set[str]:
        """Names of all segments that somebody uses."""
        return set(self._known)


def _nothing(_name: str) -> None:
    """No hub was there before."""
