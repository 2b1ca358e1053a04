"""``Cluster``: a hub and engines on this machine, from their start to their end."""

from __future__ import annotations

import atexit
import importlib
import os
import site
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

import msgspec

from ipyasyncresult.client.defaults import with_cluster_options
from ipyasyncresult.client.reattach import register_client
from ipyasyncresult.core.arguments import check_bytes, check_count, check_number
from ipyasyncresult.core.tracebacks import interrupts_of_the_user
from ipyasyncresult.errors import StartError
from ipyasyncresult.wire.limits import explain_limit
from ipyasyncresult.wire.runtime import (
    clean_stale_folders,
    cluster_folder,
    ends_within,
    new_cluster_id,
    read_cluster_file,
    remove_folder,
)
from ipyasyncresult.wire.sharedfolder import make_arrays_folder
from ipyasyncresult.wire.transport import check_transport

if TYPE_CHECKING:  # imported while the hub does the same
    from ipyasyncresult.client.client import Client

__all__ = ["Cluster", "usable_cpus"]

T = TypeVar("T")

_START_TIMEOUT = 60.0  # seconds; a machine under load, a cold disk
_STOP_TIMEOUT = 5.0  # seconds


def usable_cpus() -> int:
    """How many CPUs this process may use: affinity and cgroup limits count."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:
        count = os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            count = min(count, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):
        pass  # no cgroup v2: affinity is all there is
    return count


class Cluster:
    """Engines on this machine.

    Parameters
    ----------
    n : int, optional
        How many engines; by default as many as CPUs that this process may use.
    cluster_id : str, optional
        A name for it; by default a random one.
    persist : bool
        Outlive this process; ``connect(cluster_id=...)`` finds it again.  When its hub dies another
        one takes its place, and a cluster that is started again under the id of one that died
        finds its results and its queue.
    output_limit : int
        Characters of printed text kept per task.
    result_limit : int
        Bytes of one result, by default 2 GiB; a task that returns more fails.
    restart_limit : int
        How many deaths per engine within a minute until no more are started.
    durability : str, optional
        ``'store'``: tasks and results are on disk, too, so that they outlive every process;
        ``'memory'``: in the hub's memory only.  By default a persistent cluster has a store.
    idle : float, optional
        Seconds without a client and without work after which the cluster stops itself.
    keep_bytes, keep_days : int, float
        Results that a client has got are dropped above this size and age, the oldest first.
        Those that nobody got are kept.
    store_max_bytes : int, optional
        The files of the store take no more; what does not fit is in memory until there is room.
    arrays_limit : int, optional
        Bytes of shared memory for large arrays; by default half of what ``/dev/shm`` holds.  What
        does not fit in, and with 0 everything, travels through the sockets.
    transport : str
        ``'ipc'``: Unix sockets that only this user reaches.  ``'tcp'``: ports, encrypted, with keys
        that only this user can read.
    interface : str
        Where ``'tcp'`` listens: an address, or the name of an interface.

    Examples
    --------
    >>> with Cluster(n=4) as client:
    ...     client[:].apply_sync(os.getpid)
    """

    hub_module = "ipyasyncresult.hub"  # what ``python -m`` starts

    @with_cluster_options
    def __init__(
        self,
        n: int | None = None,
        *,
        cluster_id: str | None = None,
        persist: bool = False,
        output_limit: int = 1_000_000,
        result_limit: int = 1 << 31,
        restart_limit: int = 5,
        durability: Literal["store", "memory"] | None = None,
        idle: float | None = None,
        keep_bytes: int = 1 << 30,
        keep_days: float = 30.0,
        store_max_bytes: int | None = None,
        arrays_limit: int | None = None,
        transport: str = "ipc",
        interface: str = "127.0.0.1",
    ) -> None:
        count = usable_cpus() if n is None else n
        self.n: int = check_count(count, "n", 0, what="a number of engines")
        self.cluster_id: str = cluster_id or new_cluster_id()
        self.persist = persist
        # Nobody could come back to the results of a cluster that ends with its client or its hub.
        self.durability: str = _checked(durability) or ("store" if persist else "memory")
        result_limit = check_bytes(result_limit, "result_limit", 1)
        self.transport = transport
        if arrays_limit is not None:
            arrays_limit = check_bytes(arrays_limit, "arrays_limit")
        self._arrays_limit = arrays_limit
        self._engine_options: dict[str, Any] = {
            "output_limit": check_bytes(output_limit, "output_limit"),
            "result_limit": result_limit,
            "keep": persist and self.durability == "store",
        }
        self._options = {
            "interface": check_transport(transport, interface),
            "restart_limit": check_count(restart_limit, "restart_limit", 0),
            "idle": None if idle is None else float(check_number(idle, "idle", 0)),
            "keep_bytes": check_bytes(keep_bytes, "keep_bytes"),
            "keep_seconds": 86400.0 * float(check_number(keep_days, "keep_days", 0)),
            "store_max_bytes": None
            if store_max_bytes is None
            else check_bytes(store_max_bytes, "store_max_bytes"),
        }
        self._hub: subprocess.Popen[bytes] | None = None
        self._client: Client | None = None
        self._folder = cluster_folder(self.cluster_id)
        self._finalizer: Any = None

    # -- start -----------------------------------------------------------------------------------

    def start_cluster_sync(self) -> Self:
        """Start hub and engines; returns when the hub listens.

        Raises
        ------
        StartError
            With the end of what the hub printed; or when there is a cluster of this name.
        """
        if self._hub is not None:
            return self
        _reap()
        clean_stale_folders()
        try:
            self._folder = cluster_folder(self.cluster_id, create=True)
        except FileExistsError:
            raise StartError(
                f"cluster {self.cluster_id!r} is there already: connect(cluster_id=...) joins it, "
                "`ipyasyncresult stop` ends it; a second one needs another name"
            ) from None
        arrays = make_arrays_folder(self._folder, self._arrays_limit)
        self._engine_options["arrays"] = str(arrays)
        log = os.open(self._folder / "hub.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._hub = subprocess.Popen(
                [sys.executable, "-P", "-m", self.hub_module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(),
                start_new_session=True,  # Ctrl-C in a terminal is for the client
            )
        except OSError as error:
            remove_folder(self._folder)
            raise StartError(f"the hub did not start: {explain_limit(error)}") from error
        finally:
            os.close(log)
        self._finalizer = weakref.finalize(self, _stop, self._hub, self._folder, self.persist)
        atexit.register(self._finalizer)
        self._send_settings(self._hub)
        return self

    def _send_settings(self, hub: subprocess.Popen[bytes]) -> None:
        settings = {
            "cluster_id": self.cluster_id,
            "engines": self.n,
            "persist": self.persist,
            "durability": self.durability,
            "transport": self.transport,
            **self._options,
            "engine_settings": {
                "folder": str(self._folder),
                "import_path": [path or str(Path.cwd()) for path in sys.path],
                **self._engine_options,
            },
        }
        assert hub.stdin is not None
        assert hub.stdout is not None
        try:
            hub.stdin.write(msgspec.json.encode(settings) + b"\n")
            hub.stdin.close()
            importlib.import_module("ipyasyncresult.client.client")
            answer = hub.stdout.readline()
        except BrokenPipeError:
            answer = b""
        finally:
            hub.stdout.close()
        if answer != b"ready\n":
            hub.wait()
            printed = (self._folder / "hub.log").read_text(errors="replace")[-2000:]
            self.stop_cluster_sync()
            raise StartError(f"the hub did not start (exit code {hub.returncode}):\n{printed}")

    def connect_client_sync(self) -> Client:
        """A new client of the running cluster."""
        from ipyasyncresult.client.client import Client

        client = Client(self.cluster_id)
        register_client(client)
        return client

    def start_and_connect_sync(self, n: int | None = None, activate: bool = False) -> Client:
        """Start, connect, and wait until all engines are up.

        The cluster ends when this client is closed (unless ``persist=True``).

        Parameters
        ----------
        n : int, optional
            How many engines; by default as the cluster was made with.
        activate : bool
            Make ``%px`` and its family use these engines.

        Raises
        ------
        StartError
            When the hub or the engines do not start.
        """
        if n is not None:
            self.n = n
        try:
            with interrupts_of_the_user():
                self.start_cluster_sync()
                if self._client is None or self._client.closed:
                    self._client = self.connect_client_sync()
                    if not self.persist:
                        self._client.call_at_close(self.stop_cluster_sync)
                self._client.wait_for_engines(self.n, timeout=_START_TIMEOUT)
        except BaseException:
            self.stop_cluster_sync()
            raise
        if activate:
            self._client.activate()
        return self._client

    def add_engines(self, n: int = 1) -> list[int]:
        """Start `n` more engines, wait until they are up; their ids."""
        if self._client is None:
            raise RuntimeError("the cluster is not started: start_and_connect_sync() does that")
        return self._client.add_engines(n)

    # -- stop ------------------------------------------------------------------------------------

    def stop_cluster_sync(self) -> None:
        """End engines, hub and files, within 5 seconds; idempotent."""
        client, self._client = self._client, None
        if self._finalizer is not None:
            _stop(self._hub, self._folder, persist=False)
            self._finalizer.detach()
            atexit.unregister(self._finalizer)
            self._finalizer = None
            self._hub = None
        if client is not None:
            client.close()

    async def start_cluster(self) -> Self:
        """:meth:`start_cluster_sync` for asyncio."""
        return await _in_thread(self.start_cluster_sync)

    async def connect_client(self) -> Client:
        """:meth:`connect_client_sync` for asyncio."""
        return await _in_thread(self.connect_client_sync)

    async def start_and_connect(self, n: int | None = None, activate: bool = False) -> Client:
        """:meth:`start_and_connect_sync` for asyncio."""
        client = await _in_thread(self.start_and_connect_sync, n)
        if activate:
            client.activate()  # here: the shell belongs to this thread
        return client

    async def stop_cluster(self) -> None:
        """:meth:`stop_cluster_sync` for asyncio."""
        await _in_thread(self.stop_cluster_sync)

    def __enter__(self) -> Client:
        return self.start_and_connect_sync()

    def __exit__(self, *_: object) -> None:
        self.stop_cluster_sync()

    async def __aenter__(self) -> Client:
        return await self.start_and_connect()

    async def __aexit__(self, *_: object) -> None:
        await self.stop_cluster()

    def __repr__(self) -> str:
        state = "running" if self._hub is not None else "not started"
        return f"<Cluster({self.cluster_id}): {self.n} engines, {state}>"


async def _in_thread(call: Callable[..., T], *args: Any) -> T:
    import asyncio  # who awaits has it already

    return await asyncio.to_thread(call, *args)


def _checked(durability: str | None) -> str | None:
    if durability not in (None, "store", "memory"):
        raise ValueError(f"durability must be 'store', 'memory' or None, not {durability!r}")
    return durability


def _environment() -> dict[str, str]:
    """The hub's environment: with ``-P`` it must find this package where this process found it."""
    environment = dict(os.environ)
    parent = str(Path(__file__).resolve().parents[2])
    if parent not in (*site.getsitepackages(), site.getusersitepackages()):
        paths = [parent, environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    return environment


def _stop(hub: subprocess.Popen[bytes] | None, folder: Path, persist: bool) -> None:
    """End the hub; it ends its engines and removes its files."""
    if persist:
        if hub is not None:
            hub.returncode = 0  # it goes on: Popen must not warn about that
            _outliving.add(hub.pid)
        return
    if hub is not None and hub.poll() is None:
        hub.terminate()
        if not ends_within(hub.pid, _STOP_TIMEOUT):  # Popen.wait looks every 50 ms only
            hub.kill()
        hub.wait()
    described = read_cluster_file(folder)
    if described is None or (hub is not None and described.pid == hub.pid):
        remove_folder(folder)


_outliving: set[int] = set()  # pids of hubs that may go on after their Cluster


def _reap() -> None:
    """Take notice of the ends of such hubs, or they stay in the table of processes."""
    for pid in list(_outliving):
        try:
            ended = os.waitpid(pid, os.WNOHANG)[0] == pid
        except ChildProcessError:  # not ours: this is a fork of the process that started it
            ended = True
        if ended:
            _outliving.discard(pid)
