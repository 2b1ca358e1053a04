"""What a hub is told when it starts."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["HubSettings", "read_settings"]


class HubSettings(msgspec.Struct, kw_only=True):
    """Read from standard input as one line of JSON.

    Attributes
    ----------
    cluster_id : str
    engines : int
        How many to start.
    persist : bool
        Outlive the process that started the hub.
    engine_settings : dict
        Passed on to the engines: import path, folder, environment.
    archive_bytes : int
        Above this, the oldest finished tasks are forgotten.
    restart_limit, restart_window : int, float
        When so many engines died within so many seconds, no more are started.
    transport, interface : str
        ``'ipc'``, or ``'tcp'`` and where to listen.
    force_versions : bool
        Accept clients and engines of other versions.
    """

    cluster_id: str
    engines: int
    persist: bool = False
    engine_settings: dict[str, Any] = {}
    archive_bytes: int = 1 << 30
    restart_limit: int = 5
    restart_window: float = 60.0
    transport: str = "ipc"
    interface: str = "127.0.0.1"
    force_versions: bool = False


def read_settings(line: bytes) -> HubSettings:
    """The settings; ``msgspec.DecodeError`` when they are none."""
    return msgspec.json.decode(line, type=HubSettings)
