"""Where the hub listens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipyasyncresult.hub.settings import HubSettings
from ipyasyncresult.wire.localsockets import LocalDoor
from ipyasyncresult.wire.sockets import Door

if TYPE_CHECKING:
    from ipyasyncresult.hub.gate import Gate

__all__ = ["NoGate", "open_doors"]


class NoGate:
    """Of doors in a folder that nobody else may enter: there is nobody to ask."""

    refused = 0

    def handles(self) -> list[Any]:
        """Nothing to poll."""
        return []

    def take_in(self) -> None:
        """Nobody to ask."""

    def close(self) -> None:
        """Nothing to close."""


def open_doors(settings: HubSettings, folder: Path) -> tuple[Door, Door, Gate | NoGate]:
    """The hub's doors for clients and for engines, open, and who decides what comes in."""
    if settings.transport == "tcp":
        from ipyasyncresult.hub.gate import open_gate  # and with it ZeroMQ

        return open_gate(settings, folder)
    return LocalDoor(folder / "clients"), LocalDoor(folder / "engines"), NoGate()
