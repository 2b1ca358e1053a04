"""The server's clients of clusters.  Everything that waits does so in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from ipyasyncresult.client.client import Client
from ipyasyncresult.client.clusters import list_clusters
from ipyasyncresult.client.reading import watch
from ipyasyncresult.config import ServerOptions
from ipyasyncresult.errors import HubError, IpyAsyncResultError, StartError

__all__ = ["Bridge"]

_log = logging.getLogger(__name__)

_THREADS = 8
_SILENCE = 30.0  # seconds without a word until a hub is taken for dead
_LOOK = 1.0  # seconds between two looks for new clusters, as long as somebody is interested
_REST = 5.0  # seconds until a cluster whose news stopped, and that lives, is asked again
_WAITING = 200  # events that a slow reader may be behind

_RECENT = 1000  # ends of tasks that a page that is opened later gets to see

T = TypeVar("T")
Event = tuple[str, Any]


class Bridge:
    """Between the server's loop and the clusters.

    The methods that are coroutines, and ``subscribe``, belong to the loop's thread.
    """

    def __init__(self, options: ServerOptions) -> None:
        self.options = options
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="ipyasyncresult-page")
        self._lock = threading.Lock()
        self._clients: dict[str, Client] = {}  # guarded by _lock
        self._feeds: dict[str, _Feed] = {}  # the loop's thread only
        self._readers: set[Reader] = set()  # as above
        self._looker: asyncio.Task[None] | None = None
        self._newcomer = asyncio.Event()
        self._silent: dict[str, float] = {}  # clusters whose news stopped: when, in the loop's time

    # -- questions -------------------------------------------------------------------------------

    async def run(self, call: Callable[..., T], *args: Any) -> T:
        """Call something that may wait."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, call, *args)

    async def ask(self, cluster_id: str, call: Callable[..., T], *args: Any) -> T:
        """Call something with the client of a cluster.

        Raises
        ------
        HubError
            When this user has no such cluster.
        """
        return await self.run(lambda: call(self._client(cluster_id), *args))

    def _client(self, cluster_id: str) -> Client:
        """Any thread."""
        with self._lock:
            client = self._clients.get(cluster_id)
        if client is not None and not client.closed:
            return client
        if cluster_id not in {one.cluster_id for one in list_clusters()}:
            raise HubError(f"no cluster {cluster_id!r} is running")
        # Without the lock: a hub that does not answer must not hold up the others' pages.
        made = Client(cluster_id)
        with self._lock:
            client = self._clients.get(cluster_id)
            if client is None or client.closed:
                client, self._clients[cluster_id] = made, made
        if client is not made:
            made.close()  # another thread was faster
        return client

    async def clusters(self) -> list[dict[str, Any]]:
        """The clusters that run, oldest first."""
        return await self.run(self._list)

    def _list(self) -> list[dict[str, Any]]:
        with self._lock:
            ended = [name for name, client in self._clients.items() if client.closed]
            closing = [self._clients.pop(name) for name in ended]
        for client in closing:
            client.close()  # its cluster is gone; its thread and its sockets go, too
        return _describe_clusters()

    async def start(self, n: int | None, cluster_id: str | None, folder: str) -> dict[str, Any]:
        """Start a cluster that outlives this server; its id and how many engines it has.

        A process of its own does it, as a person in a terminal would: the hub is then nobody's
        child here, and its engines import what lies in `folder`.

        Raises
        ------
        StartError
            With what that process said.
        """
        command = [sys.executable, "-m", "ipyasyncresult", "start", "--json"]
        command += [] if n is None else ["-n", str(n)]
        command += [] if cluster_id is None else ["--cluster-id", cluster_id]
        package = str(Path(__file__).parents[2])
        environment = {name: value for name, value in os.environ.items() if name != "JUPYTER_TOKEN"}
        paths = [*filter(None, [environment.get("PYTHONPATH")]), package]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=folder,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        printed, errors = await process.communicate()
        if process.returncode:
            raise StartError(errors.decode(errors="replace").strip() or "the cluster did not start")
        started: dict[str, Any] = json.loads(printed)
        return started

    # -- events ----------------------------------------------------------------------------------

    def subscribe(self, cluster_id: str | None) -> Reader:
        """Events from now on: which clusters there are, and the news of one of them.

        Raises
        ------
        BlockingIOError
            When too many are reading.
        """
        if len(self._readers) >= self.options.most_readers:
            raise BlockingIOError(f"{len(self._readers)} pages are reading already")
        reader = Reader(self, cluster_id)
        self._readers.add(reader)
        self._newcomer.set()
        if self._looker is None:
            self._looker = asyncio.create_task(self._look_for_clusters())
        self.feed(reader)
        return reader

    def feed(self, reader: Reader) -> None:
        """Let it have the news of its cluster."""
        if reader.cluster_id is not None:
            feed = self._feeds.get(reader.cluster_id)
            if feed is None:
                feed = self._feeds[reader.cluster_id] = _Feed(self, reader.cluster_id)
            feed.add(reader)

    def unsubscribe(self, reader: Reader) -> None:
        """No more events for this one."""
        self._readers.discard(reader)
        if reader.cluster_id in self._feeds:
            self._feeds[reader.cluster_id].remove(reader)

    def feed_ended(self, cluster_id: str) -> None:
        """Its thread ended."""
        self._feeds.pop(cluster_id, None)
        self._silent[cluster_id] = asyncio.get_running_loop().time()

    def _ask_again(self, living: set[str]) -> None:
        """A hub may have been silent for a while only: its readers must not stay without news."""
        now = asyncio.get_running_loop().time()
        self._silent = {name: since for name, since in self._silent.items() if name in living}
        for reader in [*self._readers]:
            name = reader.cluster_id
            if name in living and name not in self._feeds:
                since = self._silent.get(name)  # None: it did not live yet when it was asked for
                if since is None or now >= since + _REST:
                    self.feed(reader)

    async def _look_for_clusters(self) -> None:
        """Tell which clusters there are, whenever that changes, and at once to who is new."""
        shown: Any = None
        known: set[Reader] = set()
        while self._readers:
            self._newcomer.clear()
            # Who comes while they are listed may know more than this list, and gets the next one.
            waiting = [*self._readers]
            try:
                found = await self.clusters()
            except Exception:  # noqa: BLE001  pages must not stay without news for it
                _log.exception("the clusters cannot be listed")
            else:
                for reader in waiting:
                    if found != shown or reader not in known:
                        reader.put(("clusters", found))
                shown, known = found, set(waiting)
                self._ask_again({one["cluster_id"] for one in found})
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._newcomer.wait(), _LOOK)
        self._looker = None


class Reader:
    """One page that reads events.  The loop's thread only; to be closed."""

    def __init__(self, bridge: Bridge, cluster_id: str | None) -> None:
        self.cluster_id = cluster_id
        self._bridge = bridge
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue()

    def put(self, event: Event) -> None:
        """One more event; who is too far behind is sent away, and begins anew."""
        if self._queue.qsize() > _WAITING:
            self.close()
        else:
            self._queue.put_nowait(event)

    async def get(self) -> Event | None:
        """The next event; None at the end."""
        return await self._queue.get()

    def close(self) -> None:
        """End it; idempotent."""
        self._bridge.unsubscribe(self)
        self._queue.put_nowait(None)


class _Feed:
    """The news of one cluster, by a thread that asks its hub and waits."""

    def __init__(self, bridge: Bridge, cluster_id: str) -> None:
        self._bridge = bridge
        self._cluster_id = cluster_id
        self._loop = asyncio.get_running_loop()
        self._readers: set[Reader] = set()  # the loop's thread writes, ours looks
        self._last: dict[str, Any] | None = None
        self._ends: deque[dict[str, Any]] = deque(maxlen=_RECENT)
        name = f"ipyasyncresult-feed-{cluster_id}"
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)

    def add(self, reader: Reader) -> None:
        """What is known comes at once."""
        self._readers.add(reader)
        if not self._thread.ident:  # behind the first reader: without any, it ends
            self._thread.start()
        if self._last is not None:
            known = {**self._last, "ends": list(self._ends), "ended": 0, "calls": []}
            reader.put(("news", known))

    def remove(self, reader: Reader) -> None:
        """The thread ends after its next answer, if nobody is left then."""
        self._readers.discard(reader)

    def _serve(self) -> None:
        reason = ""  # nobody reads any more
        try:
            client = self._bridge._client(self._cluster_id)
            first = True
            while self._readers:
                news = watch(client, first=first, timeout=_SILENCE)
                first = False
                self._tell(self._deliver, news)
        except Exception as error:  # noqa: BLE001  a feed that only stopped would not be replaced
            if not isinstance(error, IpyAsyncResultError | OSError):
                _log.exception("the news of cluster %s stopped", self._cluster_id)
            reason = str(error) or type(error).__name__
        self._tell(self._end, reason)

    def _tell(self, call: Callable[..., None], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the server ends
            self._loop.call_soon_threadsafe(call, *args)

    def _deliver(self, news: dict[str, Any]) -> None:
        self._last = news
        self._ends.extend(news["ends"])
        for reader in [*self._readers]:
            reader.put(("news", news))

    def _end(self, reason: str) -> None:
        self._bridge.feed_ended(self._cluster_id)
        for reader in [*self._readers]:
            if reason:
                reader.put(("ended", {"reason": reason}))  # it goes on to hear of other clusters
            else:
                self._bridge.feed(reader)  # it came while the thread was ending


def _describe_clusters() -> list[dict[str, Any]]:
    found = [dataclasses.asdict(one) for one in list_clusters()]
    for one in found:
        del one["folder"]  # nobody's business in a browser
    return found
