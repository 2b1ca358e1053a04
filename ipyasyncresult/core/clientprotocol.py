"""The narrow seam between results and whoever runs their tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ipyasyncresult.core.capabilities import Capabilities
from ipyasyncresult.core.ledger import Ledger
from ipyasyncresult.core.task import TaskRecord

if TYPE_CHECKING:
    from ipyasyncresult.core.asyncresult import AsyncResult

__all__ = ["ClientProtocol"]


class ClientProtocol(Protocol):
    """What a result needs of a client.  ``ipyasyncresult.testing.FakeClient`` is the smallest."""

    ledger: Ledger

    @property
    def capabilities(self) -> Capabilities:
        """What can be asked of it."""

    def abort(self, msg_ids: Sequence[str] | None = None) -> dict[str, str]:
        """Take back queued tasks; says per task what happened: aborted, running, finished."""

    def interrupt(
        self, msg_ids: Sequence[str] | None = None, sig: int | str = "SIGINT"
    ) -> dict[str, str]:
        """Signal running tasks (SIGINT: KeyboardInterrupt); says per task what happened."""

    def resubmit_records(self, records: Sequence[TaskRecord]) -> list[TaskRecord]:
        """Submit the same work again; new records with new ids."""

    def fetch_records(self, msg_ids: Sequence[str]) -> list[TaskRecord]:
        """Records of tasks that the hub knows and this client does not (or no longer)."""

    def engine_count(self) -> int:
        """How many engines can work on tasks now."""

    def reduce_result(self, result: AsyncResult) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """How to pickle a result: ids only, with what finds the cluster again."""
