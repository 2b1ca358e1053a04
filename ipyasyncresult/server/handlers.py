"""What the routes have in common, and the routes that answer with JSON."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado import web

from ipyasyncresult.client.client import Client
from ipyasyncresult.client.clusters import read_log, stop_cluster
from ipyasyncresult.client.reading import (
    call_ids,
    outputs_of,
    read_tasks,
    recent_calls,
    tasks_of_call,
)
from ipyasyncresult.core.presenter import OutputQuery
from ipyasyncresult.errors import (
    HubError,
    StartError,
    TimeoutError,
    UnknownTaskError,
    VersionMismatch,
)
from ipyasyncresult.server.bridge import Bridge
from ipyasyncresult.wire.runtime import cluster_folder

__all__ = [
    "AbortHandler",
    "CallsHandler",
    "ClusterHandler",
    "ClustersHandler",
    "InterruptHandler",
    "JsonHandler",
    "LogHandler",
    "TaskHandler",
    "TasksHandler",
]

_MOST_ROWS = 500
_STATUS = (
    (HubError, 404),
    (UnknownTaskError, 404),
    (VersionMismatch, 409),
    (StartError, 409),
    (TimeoutError, 504),
    (ValueError, 400),
    (TypeError, 400),
    (OSError, 500),
)
"""What an error is to HTTP; the first that fits."""

T = TypeVar("T")
Method = TypeVar("Method", bound=Callable[..., Any])


def may_execute(method: Method) -> Method:
    """Authorized to run code: who starts, stops or interrupts does more than write."""
    decorated: Method = authorized("execute")(method)
    return decorated


class JsonHandler(APIHandler):
    """A route of the API.  Each method of a subclass is authenticated and authorized by itself."""

    auth_resource = "ipyasyncresult"

    @property
    def bridge(self) -> Bridge:
        """The server's clients."""
        bridge: Bridge = self.settings["ipyasyncresult"]
        return bridge

    @property
    def content_security_policy(self) -> str:
        """Whatever a task printed: opened as a document, it can do nothing."""
        return "default-src 'none'; sandbox; frame-ancestors 'none'"

    def set_default_headers(self) -> None:
        """Nothing of this is to be kept anywhere."""
        super().set_default_headers()
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")

    async def ask(self, cluster_id: str, call: Callable[..., T], *args: Any) -> T:
        """Ask a cluster, with what goes wrong as HTTP has it."""
        return await self.translated(lambda: self.bridge.ask(cluster_id, call, *args))

    async def translated(self, call: Callable[[], Awaitable[T]]) -> T:
        """Await what `call` gives; our errors become statuses."""
        try:
            return await call()
        except Exception as error:
            for kind, status in _STATUS:
                if isinstance(error, kind):
                    # The % of a log message is nobody's to fill in.
                    message = str(error).replace("%", "%%")
                    raise web.HTTPError(status, message) from error
            raise

    def body(self, **kinds: type) -> dict[str, Any]:
        """The JSON object that came, checked: an entry has its kind, or is None, and no other is
        there."""
        given = self.get_json_body()
        given = {} if given is None else given
        if not isinstance(given, dict):
            raise web.HTTPError(400, "the body must be a JSON object")
        for name, value in given.items():
            if name not in kinds:
                raise web.HTTPError(400, f"there is no {name[:40]!r}; there is {sorted(kinds)}")
            if value is not None and type(value) is not kinds[name]:
                raise web.HTTPError(400, f"{name} must be {kinds[name].__name__}")
        return {name: given.get(name) for name in kinds}

    def number(self, name: str, default: int, most: int) -> int:
        """A number from the query."""
        text = self.get_query_argument(name, str(default))
        if not text.isascii() or not text.isdecimal() or int(text[:10]) > most:
            raise web.HTTPError(400, f"{name} must be a number from 0 to {most}")
        return int(text)

    def answer(self, found: Any, status: int = 200) -> None:
        """Send it."""
        self.set_status(status)
        self.finish(json.dumps(found, default=str))

    def may_change(self) -> None:
        """Refuse where the configuration says so."""
        if self.bridge.options.read_only:
            raise web.HTTPError(403, "ServerOptions.read_only is set")


class ClustersHandler(JsonHandler):
    """``/api/clusters``."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Those that run."""
        self.answer(await self.translated(self.bridge.clusters))

    @web.authenticated
    @may_execute
    async def post(self) -> None:
        """Start one: ``{"n": 4, "cluster_id": "name"}``, both optional."""
        self.may_change()
        wish = self.body(n=int, cluster_id=str)
        n, cluster_id = wish["n"], wish["cluster_id"] or None
        most = self.bridge.options.most_engines
        if n is not None and not 0 <= n <= most:
            raise web.HTTPError(400, f"n must be a number of engines from 0 to {most}")
        if cluster_id is not None:
            try:
                cluster_folder(cluster_id)
            except (OSError, ValueError) as error:
                raise web.HTTPError(400, str(error)) from None
        folder = os.path.expanduser(self.settings["server_root_dir"])  # noqa: ASYNC240, PTH111
        started = await self.translated(lambda: self.bridge.start(n, cluster_id, folder))
        self.answer(started, 201)


class ClusterHandler(JsonHandler):
    """``/api/clusters/ID``."""

    @web.authenticated
    @authorized
    async def get(self, cluster_id: str) -> None:
        """Its hub, its engines, its queues."""
        self.answer(await self.ask(cluster_id, _status))

    @web.authenticated
    @may_execute
    async def delete(self, cluster_id: str) -> None:
        """Stop it."""
        self.may_change()
        await self.translated(lambda: self.bridge.run(stop_cluster, cluster_id))
        self.answer({"cluster_id": cluster_id, "outcome": "stopped"})


class CallsHandler(JsonHandler):
    """``/api/clusters/ID/calls?limit=50&skip=0``."""

    @web.authenticated
    @authorized
    async def get(self, cluster_id: str) -> None:
        """The latest calls, newest first."""
        limit = self.number("limit", 50, _MOST_ROWS)
        skip = self.number("skip", 0, 10**9)
        self.answer(await self.ask(cluster_id, recent_calls, max(limit, 1), skip))


class TasksHandler(JsonHandler):
    """``/api/clusters/ID/calls/CALL/tasks?limit=50&skip=0&failed=0``."""

    @web.authenticated
    @authorized
    async def get(self, cluster_id: str, call_id: str) -> None:
        """States and times of the tasks of a call."""
        limit, skip = self.number("limit", 50, _MOST_ROWS), self.number("skip", 0, 10**9)
        failed = bool(self.number("failed", 0, 1))
        self.answer(await self.ask(cluster_id, tasks_of_call, call_id, limit, skip, failed))


class TaskHandler(JsonHandler):
    """``/api/clusters/ID/tasks/TASK``."""

    @web.authenticated
    @authorized
    async def get(self, cluster_id: str, msg_id: str) -> None:
        """What it printed, as text, and how it failed."""
        self.answer(await self.ask(cluster_id, _read_task, msg_id))


class LogHandler(JsonHandler):
    """``/api/clusters/ID/log?lines=200``."""

    @web.authenticated
    @authorized
    async def get(self, cluster_id: str) -> None:
        """The last lines that the hub wrote: engines that died, messages that were dropped."""
        most = self.number("lines", 200, 10_000)
        lines, _ = await self.translated(lambda: self.bridge.run(read_log, cluster_id, most))
        self.answer({"cluster_id": cluster_id, "lines": lines})


class AbortHandler(JsonHandler):
    """``/api/clusters/ID/abort``."""

    @web.authenticated
    @may_execute
    async def post(self, cluster_id: str) -> None:
        """Take back what has not started: ``{"call_id": ...}`` or ``{"msg_ids": [...]}``."""
        self.may_change()
        wish = self.body(call_id=str, msg_ids=list)
        self.answer(await self.ask(cluster_id, _abort, wish["call_id"], wish["msg_ids"]))


class InterruptHandler(JsonHandler):
    """``/api/clusters/ID/interrupt``."""

    @web.authenticated
    @may_execute
    async def post(self, cluster_id: str) -> None:
        """KeyboardInterrupt in what runs: of a call, of tasks, or on engines.

        ``{"call_id": ...}``, ``{"msg_ids": [...]}`` or ``{"engines": [0, 1]}``.
        """
        self.may_change()
        wish = self.body(call_id=str, msg_ids=list, engines=list)
        if wish["engines"] is not None:
            engines = wish["engines"]
            if any(type(engine) is not int for engine in engines):
                raise web.HTTPError(400, "engines must be a list of numbers")
            self.answer(await self.ask(cluster_id, _signal, engines))
            return
        self.answer(await self.ask(cluster_id, _interrupt, wish["call_id"], wish["msg_ids"]))


# -------------------------------------------------------- with a client, in a thread that waits


def _status(client: Client) -> dict[str, Any]:
    queues = client.queue_status()
    return {
        **client.hub_status(),
        "waiting": queues.pop("unassigned"),
        "engines": [
            {"engine_id": engine_id, **about, **queues.get(engine_id, {})}
            for engine_id, about in client.engines.items()
        ],
    }


def _read_task(client: Client, msg_id: str) -> dict[str, Any]:
    found = read_tasks(client, [msg_id])
    if not found:
        raise UnknownTaskError(f"the hub does not know task {msg_id!r}")
    task = found[0]
    task["outputs"] = outputs_of(found, OutputQuery("time"))
    del task["records"]
    return task


def _chosen(client: Client, call_id: str | None, msg_ids: list[Any] | None) -> list[str]:
    if (call_id is None) == (msg_ids is None):
        raise ValueError("give either call_id or msg_ids")
    if msg_ids is None:
        assert call_id is not None
        return call_ids(client, call_id)
    if any(type(msg_id) is not str for msg_id in msg_ids):
        raise ValueError("msg_ids must be a list of strings")
    return msg_ids


def _abort(client: Client, call_id: str | None, msg_ids: list[Any] | None) -> dict[str, str]:
    return client.abort(_chosen(client, call_id, msg_ids))


def _interrupt(client: Client, call_id: str | None, msg_ids: list[Any] | None) -> dict[str, str]:
    return client.interrupt(_chosen(client, call_id, msg_ids))


def _signal(client: Client, engines: list[int]) -> dict[str, str]:
    if unknown := set(engines) - set(client.ids):
        raise UnknownTaskError(f"there is no engine {min(unknown)}")
    return client.send_signal(signal.SIGINT, engines)
