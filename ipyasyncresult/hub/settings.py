"""What a hub is told when it starts."""

from __future__ import annotations

from typing import Any, Literal

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
        Outlive the process that started the hub; and when the hub dies, another one takes its
        place.
    engine_settings : dict
        Passed on to the engines: import path, folder, environment.
    durability : str
        ``'store'``: tasks and results are kept on disk, too; ``'memory'``: they are not.
    archive_bytes : int
        Without a store: above this, the oldest finished tasks are forgotten.
    memory_bytes : int
        With one: above this, contents of finished tasks are on disk only.
    behind_bytes : int
        With one: when so much waits in the hub's memory to be written, no task is given out until
        the disk has caught up.
    keep_bytes, keep_seconds : int, float
        Delivered results are forgotten, the oldest first, above this size and age.
    store_max_bytes : int, optional
        The files of the store take no more.
    idle : float, optional
        A hub without clients and work ends after so many seconds.
    nursery_fd : int, optional
        The line to the nursery that started this hub, after the last one died.
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
    durability: Literal["store", "memory"] = "memory"
    archive_bytes: int = 1 << 30
    memory_bytes: int = 128 << 20
    behind_bytes: int = 512 << 20
    keep_bytes: int = 1 << 30
    keep_seconds: float = 30 * 86400.0
    store_max_bytes: int | None = None
    idle: float | None = None
    nursery_fd: int | None = None
    restart_limit: int = 5
    restart_window: float = 60.0
    transport: str = "ipc"
    interface: str = "127.0.0.1"
    force_versions: bool = False

    @property
    def durable(self) -> bool:
        """Whether tasks outlive the hub's process."""
        return self.persist and self.durability == "store"


def read_settings(line: bytes) -> HubSettings:
    """The settings; ``msgspec.DecodeError`` when they are none."""
    return msgspec.json.decode(line, type=HubSettings)
