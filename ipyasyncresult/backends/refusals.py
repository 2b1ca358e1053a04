"""What not every cluster can do, refused with an error that says so."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Any

from ipyasyncresult.client.anyclient import AnyClient
from ipyasyncresult.client.directview import DirectView
from ipyasyncresult.client.targets import Targets
from ipyasyncresult.core.asyncresult import AsyncResult
from ipyasyncresult.errors import CapabilityError

__all__ = ["RefusesByDefault"]


class RefusesByDefault(AnyClient):
    """A backend that can do one of these does it in a method of its own."""

    _ends_single_engines = False

    def _refuse_unless(self, capability: str, what: str) -> None:
        if not getattr(self.capabilities, capability):
            raise CapabilityError(f"{self.capabilities.backend} cannot give {what}")

    def wait_for_engines(
        self, n: int | None = None, *, timeout: float | None = -1, block: bool = True
    ) -> None:
        """Wait until `n` engines are there."""
        raise CapabilityError(f"{self.capabilities.backend} does not say when workers come")

    def direct_view(self, targets: Targets = "all", **flags: Any) -> DirectView:
        """A view of certain engines: what is called through it runs on each of them.

        Raises
        ------
        CapabilityError
            When tasks cannot be sent to a worker of one's choice.
        """
        self._refuse_unless(
            "addressed_engines", "engines to address: use client.load_balanced_view()"
        )
        return super().direct_view(targets, **flags)

    def interrupt(
        self,
        msg_ids: AsyncResult | str | Sequence[str] | None = None,
        sig: int | str = signal.SIGINT,
    ) -> dict[str, str]:
        """Raise KeyboardInterrupt in running tasks; says per task what happened.

        Raises
        ------
        CapabilityError
            When this backend cannot.
        """
        self._refuse_unless(
            "interrupt_running",
            "an interrupt of running tasks: abort() takes back those that have not started",
        )
        return {}

    def send_signal(
        self, sig: int | str = signal.SIGINT, targets: Targets = None, block: bool = True
    ) -> dict[str, str]:
        """Send a signal to engine processes."""
        raise CapabilityError(f"{self.capabilities.backend} cannot signal its workers")

    def hub_history(self) -> list[str]:
        """Ids of all tasks that the cluster keeps, oldest first."""
        self._refuse_unless("stored_results", "a history: it keeps no results")
        return []

    def purge_results(self, jobs: Any = "all", targets: Any = ()) -> Any:
        """Let the cluster forget results."""
        self._refuse_unless("stored_results", "anything to purge: it keeps no results")

    purge_hub_results = purge_results

    def purge_everything(self) -> Any:
        """:meth:`purge_results`, of all."""
        return self.purge_results()

    def restart(self, targets: Targets = "all", **_: Any) -> None:
        """Replace engines by new ones."""
        raise CapabilityError(f"{self.capabilities.backend} cannot restart its engines")

    def shutdown(
        self,
        targets: Any = "all",
        restart: bool = False,
        hub: bool = True,
        block: bool = True,
        timeout: float = 5.0,
    ) -> None:
        """End the cluster, and close.

        Raises
        ------
        CapabilityError
            When only certain engines shall end, or be restarted, and this backend cannot.
        """
        del timeout
        if restart:
            raise CapabilityError(f"{self.capabilities.backend} cannot restart its engines")
        if targets != "all" and not self._ends_single_engines:
            raise CapabilityError(
                f"{self.capabilities.backend} cannot end single engines: targets must be 'all'"
            )
        self._shut_down(targets, hub, block)
        if targets == "all":
            self.close()

    def _shut_down(self, targets: Any, hub: bool, block: bool) -> None:
        """End the cluster, or as much of it as is asked for."""
        raise NotImplementedError
