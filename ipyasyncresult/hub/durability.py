"""What of a hub outlives it: the store it opens, and what it does with what the last hub left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ipyasyncresult.hub.archive import Archive
from ipyasyncresult.hub.engines import EngineKeeper
from ipyasyncresult.hub.records import EngineState
from ipyasyncresult.hub.recovery import Adoption, Recovered, read_journal
from ipyasyncresult.hub.segments import Segments
from ipyasyncresult.hub.settings import HubSettings
from ipyasyncresult.hub.state import HubState
from ipyasyncresult.wire import messages as m
from ipyasyncresult.wire.runtime import remove_folder, state_folder

if TYPE_CHECKING:
    from pathlib import Path

    from ipyasyncresult.hub.clients import ClientLine
    from ipyasyncresult.hub.journal import Journal
    from ipyasyncresult.hub.nanny import Nanny
    from ipyasyncresult.hub.store import Store

__all__ = ["Durability"]


class Durability:
    """A hub's store, if it has one.  The hub's thread only.

    Parameters
    ----------
    settings : HubSettings
    arrays : Path or None
        The cluster's shared memory.

    Attributes
    ----------
    arrays : Path or None
    archive : Archive
    journal : Journal or None
    taking_over : bool
        Whether engines of the last hub may still hold what seems to wait.

    Raises
    ------
    StoreError
        When the store cannot be used.
    """

    def __init__(self, settings: HubSettings, arrays: Path | None) -> None:
        self._persist = settings.persist
        self.arrays = arrays
        self.store: Store | None = None
        self.journal: Journal | None = None
        self._adoption: Adoption | None = None
        self.taking_over = False
        self._told = ""  # the problem that clients know of
        self._behind_bytes = settings.behind_bytes
        self._told_behind = False
        inherited: frozenset[str] = frozenset()
        if arrays is not None and settings.nursery_fd is not None:
            inherited = frozenset(file.name for file in arrays.iterdir())
        stored = settings.durability == "store"
        segments = Segments(stored=stored, inherited=inherited)
        if not stored:
            self.archive = Archive(settings.archive_bytes, segments=segments)
            return
        # Who has no store need not import SQLite.
        from ipyasyncresult.hub.journal import Journal
        from ipyasyncresult.hub.paging import Pager
        from ipyasyncresult.hub.store import Store

        self.store = Store(
            state_folder(settings.cluster_id, create=True),
            survive=settings.persist,
            max_bytes=settings.store_max_bytes,
            shared=arrays,
        )
        self.archive = Archive(settings.memory_bytes, Pager(self.store), segments)
        self.journal = Journal(self.store, self.archive, settings.keep_bytes, settings.keep_seconds)

    def take_over(self, state: HubState, keeper: EngineKeeper, nanny: Nanny) -> None:
        """Go on where the last hub ended."""
        recovered = Recovered() if self.journal is None else read_journal(self.journal, state)
        living: Mapping[str, Any] = nanny.living or {"engines": [], "exited": []}
        adoption = Adoption(keeper, state, recovered, living)
        self._adoption = adoption if living["engines"] else None
        self.taking_over = self._adoption is not None

    def adopt(self, now: float, send: Callable[[EngineState, bytes], bool]) -> None:
        """Ask the last hub's engines what they hold: for as long as work is held back for them, and
        later those that could not be reached, as they were stopped."""
        if self._adoption is None:
            return
        introduce = m.encode(m.Introduce())
        self._adoption.introduce(lambda engine: send(engine, introduce))
        if self._adoption.is_over(now):
            self.taking_over = False
            if not self._adoption.silent:
                self._adoption = None

    @property
    def holds_back(self) -> bool:
        """Whether no task is to be given out now.

        Until it is known what the last hub's engines hold.  And while the disk is far behind:
        results that come faster than it takes them would fill the memory, here and in the engines,
        which keep what is not stored.  A disk that takes nothing at all holds back nobody, as no
        result would ever come.
        """
        store = self.store
        return self.taking_over or (
            store is not None and store.behind > self._behind_bytes and not store.problem
        )

    def tick(self, clients: ClientLine) -> None:
        """Now and then: retention, and say why tasks wait, once."""
        if self.journal is None or self.store is None:
            return
        self.journal.tick()
        if self.holds_back and not self.taking_over and not self._told_behind:
            self._told_behind = True
            clients.tell(
                m.Notice(
                    f"the disk does not keep up: {self.store.behind / 1e6:,.0f} MB wait to be "
                    "stored, and tasks begin as fast as it takes them"
                )
            )

    def tell(
        self,
        clients: ClientLine,
        engines: Mapping[bytes, EngineState],
        send: Callable[[EngineState, bytes], bool],
    ) -> None:
        """Something was stored, or could not be: tell who is concerned."""
        assert self.journal is not None
        assert self.store is not None
        for who, number in self.journal.safe():
            _, is_engine, uuid = who.partition(":")
            if not is_engine:
                clients.send(who, m.Safe(number))
            elif uuid.encode() in engines:
                send(engines[uuid.encode()], m.encode(m.Stored(number)))
        problem = self.store.problem
        if problem != self._told:
            self._told = problem
            clients.tell(
                m.Notice(
                    f"the cluster cannot store results ({problem}): they are in memory only"
                    if problem
                    else "the cluster stores results again, those that were in memory included"
                )
            )

    def describe(self) -> dict[str, Any] | None:
        """Plain data about the store."""
        return self.store.describe() if self.store is not None else None

    def close(self) -> None:
        """Write what waits; what nobody can come back to is removed."""
        if self.journal is None or self.store is None:
            return
        self.journal.end_of_turn()
        self.store.close()
        if not self._persist:
            remove_folder(self.store.path.parent)
