"""``start``, ``stop``, ``list``, ``status``: clusters of this machine."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from traitlets import Bool, Float, Unicode

from ipyasyncresult.cli.application import Command, NotThere, UsageError
from ipyasyncresult.cli.tables import ago, table
from ipyasyncresult.client.client import Client
from ipyasyncresult.client.cluster import Cluster
from ipyasyncresult.client.clusters import (
    ClusterInfo,
    forget_stored,
    list_clusters,
    stop_cluster,
    stored_clusters,
)
from ipyasyncresult.config import ClusterOptions
from ipyasyncresult.errors import HubError, IpyAsyncResultError, TimeoutError

__all__ = ["List", "Start", "Status", "Stop", "chosen_cluster"]


def running(**_typed: Any) -> list[str]:
    """Their names, for a shell that completes a word."""
    return [one.cluster_id for one in list_clusters()]


def chosen_cluster(cluster_id: str | None) -> ClusterInfo:
    """The cluster that a command is about; unnamed, the only persistent one, or the only one.

    Raises
    ------
    NotThere
        When there is none, or several to choose from.
    """
    living = list_clusters()
    if cluster_id:
        living = [one for one in living if one.cluster_id == cluster_id]
        if not living:
            raise NotThere(f"no cluster {cluster_id!r} is running: `ipyasyncresult list` has all")
    candidates = [one for one in living if one.persist] or living
    if not candidates:
        raise NotThere("no cluster is running: `ipyasyncresult start` starts one")
    if len(candidates) > 1:
        raise NotThere(f"say which cluster: {', '.join(one.cluster_id for one in candidates)}")
    return candidates[0]


class Start(Command):
    """Start engines on this machine that outlive this terminal.

    Notebooks and scripts join them: `connect()` takes the newest persistent cluster there is.
    """

    name = Unicode("ipyasyncresult start")
    words = ""
    examples = Unicode("ipyasyncresult start -n 4\nipyasyncresult start -n 8 --cluster-id training")

    cluster_id = Unicode("", help="A name for the cluster; by default a random one.").tag(
        config=True
    )

    classes = [ClusterOptions]  # noqa: RUF012
    aliases: dict[Any, Any] = {  # noqa: RUF012
        ("n", "engines"): "ClusterOptions.n",
        "idle": "ClusterOptions.idle",
        "cluster-id": "Start.cluster_id",
    }

    def run(self) -> dict[str, Any]:
        """Start it, wait until its engines are up, leave it."""
        wanted = ClusterOptions(config=self.config).changed()
        # Engines import what lies where the command was given, as a notebook there would; the
        # folder of this program is nothing of the user's.
        sys.path[0] = str(Path.cwd())
        cluster = Cluster(cluster_id=self.cluster_id or None, persist=True, **wanted)
        client = cluster.start_and_connect_sync()
        try:
            return {"cluster_id": client.cluster_id, "engines": len(client)}
        finally:
            client.close()

    def show(self, found: dict[str, Any]) -> None:
        """How to go on."""
        name = found["cluster_id"]
        count = found["engines"]
        print(f"started cluster {name} with {count} engine{'s' if count != 1 else ''}")
        print(f"  in Python:    client = ipyasyncresult.connect(cluster_id={name!r})")
        print("  in notebooks: %load_ext ipyasyncresult, then %%px cells")
        print(f"  to end it:    ipyasyncresult stop {name}")


class _ForEach(Command):
    """What is done to clusters one by one, whatever becomes of the others."""

    nothing = ""
    """Said when there is none."""

    def to_each(self, names: Iterable[str], act: Callable[[str], str]) -> dict[str, str]:
        """What `act` says of each, or why it could not."""
        outcome = {}
        for name in names:
            try:
                outcome[name] = act(name)
            except (HubError, TimeoutError, OSError) as error:
                outcome[name] = str(error)
                self.exit_code = 1
        return outcome

    def show(self, found: dict[str, str]) -> None:
        """A line per cluster."""
        if not found:
            print(self.nothing)
        for name, outcome in found.items():
            print(f"{name}: {outcome}")


class Stop(_ForEach):
    """Stop a cluster: its engines, its hub, its sockets.  What runs ends; what was stored stays."""

    name = Unicode("ipyasyncresult stop")
    nothing = "no cluster is running"
    words = "[CLUSTER ...]"
    examples = Unicode(
        "ipyasyncresult stop\nipyasyncresult stop training\nipyasyncresult stop --all"
    )

    all = Bool(False, help="Stop all clusters, those of notebooks too.").tag(config=True)
    flags: dict[Any, Any] = {  # noqa: RUF012
        **Command.flags,
        "all": ({"Stop": {"all": True}}, "Stop all clusters, those of notebooks too."),
    }

    offered = staticmethod(running)

    def run(self) -> dict[str, Any]:
        """Stop them, and wait for their ends."""
        if self.all and self.extra_args:
            raise UsageError("give names of clusters or --all, not both")
        if self.all:
            chosen = list_clusters()
        else:
            chosen = [chosen_cluster(name) for name in self.extra_args or [""]]

        def stop(name: str) -> str:
            stop_cluster(name)
            return "stopped"

        return self.to_each([one.cluster_id for one in chosen], stop)


class Forget(_ForEach):
    """Remove from disk what clusters that ended have stored: tasks, outputs, results."""

    name = Unicode("ipyasyncresult forget")
    nothing = "nothing is that old"
    words = "[CLUSTER ...]"
    examples = Unicode("ipyasyncresult forget lab\nipyasyncresult forget --older-than 30")

    older_than = Float(
        None, min=0, allow_none=True, help="All that were last written so many days ago."
    ).tag(config=True)
    aliases: dict[Any, Any] = {"older-than": "Forget.older_than"}  # noqa: RUF012

    def offered(self, **_typed: Any) -> list[str]:
        """Their names."""
        return [one.cluster_id for one in stored_clusters()]

    def run(self) -> dict[str, Any]:
        """Remove them."""
        if (self.older_than is None) == (not self.extra_args):
            raise UsageError("give names of clusters (`list --stored` has them), or --older-than")
        found = {one.cluster_id: one for one in stored_clusters()}
        names = self.extra_args
        if self.older_than is not None:
            limit = time.time() - self.older_than * 86_400
            names = [name for name, one in found.items() if one.changed <= limit]

        def forget(name: str) -> str:
            forget_stored(name)
            size = found[name].bytes if name in found else 0
            return f"forgotten, {size / 1e6:.1f} MB"

        return self.to_each(names, forget)


class List(Command):
    """Running clusters, oldest first."""

    name = Unicode("ipyasyncresult list")

    stored = Bool(False, help="Those that ended, and left their results on disk.").tag(config=True)
    flags: dict[Any, Any] = {  # noqa: RUF012
        **Command.flags,
        "stored": (
            {"List": {"stored": True}},
            "Those that ended, and left their results on disk.",
        ),
    }

    def run(self) -> list[dict[str, Any]]:
        """Ask each hub."""
        if self.stored:
            return [dataclasses.asdict(one) for one in stored_clusters()]
        return [_summary(one) for one in list_clusters()]

    def show(self, found: list[dict[str, Any]]) -> None:
        """A table."""
        if self.stored:
            _show_stored(found)
            return
        if not found:
            print("no cluster is running: `ipyasyncresult start` starts one")
            return
        now = time.time()
        rows = [
            (
                one["cluster_id"],
                one["engines"],
                one["unfinished"],
                one["clients"],
                ago(now - one["started"]),
                one["error"] or ("stays" if one["persist"] else "ends with its notebook"),
            )
            for one in found
        ]
        print(table(("cluster", "engines", "unfinished", "clients", "up for", ""), rows))


def _show_stored(found: list[dict[str, Any]]) -> None:
    if not found:
        print("no ended cluster has left results")
        return
    now = time.time()
    rows = [
        (one["cluster_id"], f"{one['bytes'] / 1e6:.1f} MB", ago(now - one["changed"]))
        for one in found
    ]
    print(table(("cluster", "on disk", "last written, ago"), rows))
    print("`ipyasyncresult start --cluster-id NAME` brings one back with its results,")
    print("`ipyasyncresult forget NAME` removes them")


def _summary(described: ClusterInfo) -> dict[str, Any]:
    found: dict[str, Any] = {
        "cluster_id": described.cluster_id,
        "pid": described.pid,
        "started": described.started,
        "persist": described.persist,
        "python": described.python,
        "package": described.package,
        "engines": None,
        "unfinished": None,
        "clients": None,
        "error": None,
    }
    try:
        with Client(described.cluster_id) as client:
            about = client.hub_status()
            found |= {
                "engines": len(client),
                "unfinished": about["unfinished"],
                "clients": about["clients"] - 1,  # without this one
            }
    except (IpyAsyncResultError, OSError) as error:
        found["error"] = str(error)
    return found


class Status(Command):
    """One cluster: its engines, what they do, and what waits."""

    name = Unicode("ipyasyncresult status")
    words = "[CLUSTER]"
    offered = staticmethod(running)

    def run(self) -> dict[str, Any]:
        """Ask its hub."""
        described = chosen_cluster(self.argument())
        with Client(described.cluster_id) as client:
            queues = client.queue_status()
            waiting = queues.pop("unassigned")
            engines = [
                {
                    "engine_id": engine_id,
                    "pid": about.get("pid"),
                    "state": _state_of(about, queues.get(engine_id, {})),
                    "since": about.get("since"),
                    **queues.get(engine_id, {}),
                }
                for engine_id, about in client.engines.items()
            ]
            return {
                **client.hub_status(),
                "started": described.started,
                "persist": described.persist,
                "waiting": waiting,
                "engine_list": engines,
            }

    def show(self, found: dict[str, Any]) -> None:
        """The hub in a line, the engines in a table."""
        engines = found["engine_list"]
        print(
            f"cluster {found['cluster_id']}: {len(engines)} engines, "
            f"{found['unfinished']} tasks unfinished, {found['waiting']} of them wait for any "
            f"engine; up for {ago(time.time() - found['started'])}"
        )
        rows = [
            (
                one["engine_id"],
                one["state"],
                one["pid"],
                one.get("tasks"),
                one.get("queue"),
                one.get("completed"),
            )
            for one in engines
        ]
        if rows:
            print(table(("engine", "state", "pid", "holds", "waits", "done"), rows, states=1))


def _state_of(engine: dict[str, Any], queue: dict[str, Any]) -> str:
    if not engine.get("up", True):
        return "starting"
    if engine.get("stopped"):
        return "stopped"
    return "running" if queue.get("tasks") else "idle"
