"""Names of ipyparallel's ``Client``, so that notebooks written for it go on to work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ipyasyncresult.client.targets import Targets
from ipyasyncresult.core.asyncresult import AsyncResult
from ipyasyncresult.core.clientprotocol import ClientProtocol
from ipyasyncresult.core.ledger import Ledger

if TYPE_CHECKING:
    from ipyasyncresult.client.directview import DirectView

__all__ = ["FamiliarNames", "ids_of"]


class FamiliarNames:
    """Each is a few words over the client's own methods.  Any thread."""

    ledger: Ledger

    if TYPE_CHECKING:  # what the class that inherits this has

        @property
        def ids(self) -> list[int]: ...
        @property
        def outstanding(self) -> set[str]: ...
        def direct_view(self, targets: Targets = "all", **flags: Any) -> DirectView: ...

    def __iter__(self) -> Iterator[DirectView]:
        """A view of each engine."""
        return (self.direct_view(engine_id) for engine_id in self.ids)

    def broadcast_view(
        self, targets: Targets = "all", is_coalescing: bool = False, **flags: Any
    ) -> DirectView:
        """A direct view: every view here sends what is common to its engines in one message."""
        del is_coalescing
        return self.direct_view(targets, **flags)

    def activate(self, targets: Targets = "all", suffix: str = "") -> DirectView:
        """Make ``%px{suffix}`` and its family work on these engines; the view they use.

        Raises
        ------
        RuntimeError
            Outside IPython.
        """
        view = self.direct_view(targets)
        view.block = True
        view.activate(suffix)
        return view

    def wait_interactive(
        self,
        jobs: AsyncResult | str | Iterable[AsyncResult | str] | None = None,
        interval: float = 1.0,
        timeout: float | None = -1,
    ) -> None:
        """Wait for results or ids, by default for everything outstanding, and show progress.

        Raises
        ------
        TimeoutError
            When `timeout` seconds passed before the end.  The tasks go on.
        """
        ids = self.outstanding
        if jobs is not None:
            ids &= ids_of(jobs)
        client: ClientProtocol = self  # type: ignore[assignment]  # the class that inherits this
        records = self.ledger.pending(ids)
        AsyncResult.over(client, records, "tasks").wait_interactive(interval, timeout)


def ids_of(jobs: AsyncResult | str | Iterable[AsyncResult | str]) -> set[str]:
    """The ids of tasks that are given as results, as ids, or as several of them."""
    several = [jobs] if isinstance(jobs, AsyncResult | str) else list(jobs)
    return {i for job in several for i in ([job] if isinstance(job, str) else job.msg_ids)}
