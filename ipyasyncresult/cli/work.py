"""``results`` and ``logs``: what was done, and what was said about it."""

from __future__ import annotations

import datetime as dt
import time
from collections import Counter
from pathlib import Path
from typing import Any

from traitlets import Bool, CaselessStrEnum, Integer, Unicode

from ipyasyncresult.cli.application import Command, NotThere
from ipyasyncresult.cli.clusters import chosen_cluster, running
from ipyasyncresult.cli.tables import paint, plain, table
from ipyasyncresult.client.client import Client
from ipyasyncresult.client.clusters import LOG, read_log
from ipyasyncresult.client.reading import call_ids, outputs_of, read_tasks, recent_calls
from ipyasyncresult.core.presenter import GROUPINGS, OutputQuery
from ipyasyncresult.core.timing import format_seconds
from ipyasyncresult.display.grouping import output_text
from ipyasyncresult.errors import HubError, UnknownTaskError
from ipyasyncresult.wire.runtime import cluster_folder

__all__ = ["Logs", "Results"]

_MOST_CALLS = 100_000
_STATES = ("ok", "running", "pending", "error", "lost", "aborted")


class Results(Command):
    """Calls that a cluster remembers, newest first; or one call, with what its tasks printed.

    A call is given by its number in the list (-1 is the newest), by its label, or by the id of a
    task.  Outputs are shown as text; results are not unpickled.
    """

    name = Unicode("ipyasyncresult results")
    words = "[CALL]"
    examples = Unicode(
        "ipyasyncresult results\n"
        "ipyasyncresult results -1\n"
        "ipyasyncresult results training --failed --cluster-id lab"
    )

    cluster_id = Unicode("", help="Which cluster; needed when there are several.").tag(
        config=True, argcompleter=running
    )
    limit = Integer(20, min=1, help="How many calls are listed.").tag(config=True)
    failed = Bool(False, help="Only what failed.").tag(config=True)
    groupby = CaselessStrEnum(
        list(GROUPINGS), "task", help="How the outputs of a call's tasks are grouped."
    ).tag(config=True)
    wait = Bool(False, help="Wait for the end of the call first.").tag(config=True)

    aliases: dict[Any, Any] = {  # noqa: RUF012
        "cluster-id": "Results.cluster_id",
        ("n", "limit"): "Results.limit",
        "groupby": "Results.groupby",
    }
    flags: dict[Any, Any] = {  # noqa: RUF012
        **Command.flags,
        "failed": ({"Results": {"failed": True}}, "Only what failed."),
        "wait": ({"Results": {"wait": True}}, "Wait for the end of the call first."),
    }

    def run(self) -> Any:
        """Ask the hub."""
        which = self.argument()
        described = chosen_cluster(self.cluster_id)
        with Client(described.cluster_id) as client:
            if which is None:
                return self._calls(client)
            return self._tasks(client, int(which) if which.lstrip("-").isdigit() else which)

    def _calls(self, client: Client) -> list[dict[str, Any]]:
        if not self.failed:
            return recent_calls(client, self.limit)
        calls = recent_calls(client, _MOST_CALLS)
        return [call for call in calls if _failed(call)][: self.limit]

    def _tasks(self, client: Client, which: int | str) -> list[dict[str, Any]]:
        try:
            if self.wait:
                client.get_result(which, block=True)
            ids = call_ids(client, which)
        except UnknownTaskError:
            raise NotThere(
                f"the cluster knows no task or call {which!r}: "
                "`ipyasyncresult results` lists its calls, -1 is the newest"
            ) from None
        tasks = read_tasks(client, ids)
        query = OutputQuery(self.groupby, "failed" if self.failed else None)
        self._outputs = outputs_of(tasks, query)
        for task in tasks:
            task["outputs"] = outputs_of([task], OutputQuery("time"))
            del task["records"]
        return [task for task in tasks if task["error"] or not self.failed]

    def show(self, found: Any) -> None:
        """A table of calls, or the outputs and failures of one."""
        if self.extra_args:
            self._show_tasks(found)
        elif not found:
            print("the cluster remembers no " + ("failures" if self.failed else "calls"))
        else:
            head = ("number", "submitted", "took", "tasks", "state", "name")
            print(table(head, [_row(call) for call in found], states=4))

    def _show_tasks(self, found: list[dict[str, Any]]) -> None:
        counted = Counter(task["status"] for task in found)
        states = ", ".join(f"{count} {status}" for status, count in counted.items())
        print(states or "nothing failed")
        for block in self._outputs:
            print(plain(output_text(block["prefix"], block["text"])), end="")
        for task in found:
            if (error := task["error"]) is not None:
                where = "" if task["engine_id"] is None else f" on engine {task['engine_id']}"
                print(paint(f"task {task['msg_id']}{where}: {task['status']}", "error"))
                print(plain(error["traceback"] or f"{error['name']}: {error['message']}").rstrip())


def _failed(call: dict[str, Any]) -> bool:
    return any(call["counts"].get(status) for status in ("error", "lost", "aborted"))


def _row(call: dict[str, Any]) -> tuple[object, ...]:
    counts = call["counts"]
    counted = ", ".join(f"{counts[status]} {status}" for status in _STATES if counts.get(status))
    submitted = dt.datetime.fromtimestamp(call["submitted"], dt.UTC).astimezone()
    completed = call["completed"]
    return (
        call["number"],
        submitted.strftime("%m-%d %H:%M:%S"),
        "" if completed is None else format_seconds(max(0.0, completed - call["submitted"])),
        call["tasks"],
        counted,
        call["label"] or call["fname"],
    )


class Logs(Command):
    """What the hub of a cluster wrote: engines that died, messages that were dropped."""

    name = Unicode("ipyasyncresult logs")
    words = "[CLUSTER]"
    offered = staticmethod(running)
    examples = Unicode("ipyasyncresult logs\nipyasyncresult logs training -n 200 --follow")

    lines = Integer(50, min=0, help="How many lines, the last ones.").tag(config=True)
    follow = Bool(False, help="Go on with what comes, until the cluster ends.").tag(config=True)

    aliases: dict[Any, Any] = {("n", "lines"): "Logs.lines"}  # noqa: RUF012
    flags: dict[Any, Any] = {  # noqa: RUF012
        **Command.flags,
        ("f", "follow"): (
            {"Logs": {"follow": True}},
            "Go on with what comes, until the cluster ends.",
        ),
    }

    def run(self) -> dict[str, Any]:
        """Read the end of the file."""
        cluster_id = chosen_cluster(self.argument()).cluster_id
        self._file = cluster_folder(cluster_id) / LOG
        try:
            lines, self._position = read_log(cluster_id, self.lines)
        except HubError as error:
            raise NotThere(str(error)) from None
        return {"cluster_id": cluster_id, "lines": lines}

    def show(self, found: dict[str, Any]) -> None:
        """The lines; with ``--follow`` also those to come."""
        if not found["lines"] and self.lines and not self.follow:
            print(f"the hub of cluster {found['cluster_id']} had nothing to say")
        for line in found["lines"]:
            print(plain(line))
        if self.follow:
            for text in _growing(self._file, self._position):
                print(plain(text), end="", flush=True)


def _growing(path: Path, position: int) -> Any:
    """What is appended to a file, until it is removed."""
    with path.open(errors="replace") as file:
        file.seek(position)
        while True:
            if text := file.read():
                yield text
            elif not path.exists():
                return
            else:
                time.sleep(0.2)
