"""``results`` and ``logs``: what was done, and what was said about it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import time
from collections import deque
from pathlib import Path
from typing import Any

from traitlets import Bool, CaselessStrEnum, Integer, Unicode

from ipyasyncresult.cli.application import Command, NotThere
from ipyasyncresult.cli.clusters import chosen_cluster
from ipyasyncresult.cli.tables import paint, plain, table
from ipyasyncresult.client.calls import Call, gather_calls
from ipyasyncresult.client.client import Client
from ipyasyncresult.client.reading import read_result, read_task
from ipyasyncresult.core.presenter import GROUPINGS, OutputQuery
from ipyasyncresult.core.timing import format_seconds
from ipyasyncresult.display.grouping import block_text, group
from ipyasyncresult.errors import UnknownTaskError
from ipyasyncresult.wire.runtime import cluster_folder

__all__ = ["Logs", "Results"]


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

    cluster_id = Unicode("", help="Which cluster; needed when there are several.").tag(config=True)
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
                calls = gather_calls(client.db_query())
                if self.failed:
                    calls = [call for call in calls if call.failed]
                return [dataclasses.asdict(call) for call in calls[: self.limit]]
            return self._one(client, int(which) if which.lstrip("-").isdigit() else which)

    def _one(self, client: Client, which: int | str) -> dict[str, Any]:
        try:
            result = read_result(client, which)
        except UnknownTaskError as error:
            raise NotThere(str(error)) from None
        if self.wait:
            result.wait()
        query = OutputQuery(self.groupby, "failed" if self.failed else None)
        self._text = "".join(block_text(block) for block in group(result.tasks(), query))
        return {
            "summary": result.summary(),
            "tasks": [
                read_task(record)
                for record in result.records
                if record.failed_items or not self.failed
            ],
        }

    def show(self, found: Any) -> None:
        """A table of calls, or the outputs and failures of one."""
        if isinstance(found, dict):
            self._show_one(found)
        elif not found:
            print("the cluster remembers no " + ("failures" if self.failed else "calls"))
        else:
            head = ("number", "submitted", "took", "tasks", "state", "label")
            print(table(head, [_row(Call(**call)) for call in found], states=4))

    def _show_one(self, found: dict[str, Any]) -> None:
        print(found["summary"])
        print(plain(self._text), end="")
        for task in found["tasks"]:
            if (error := task["error"]) is not None:
                where = (
                    f"engine {task['engine_id']}" if task["engine_id"] is not None else "no engine"
                )
                print(paint(f"task {task['msg_id']} on {where}: {task['status']}", "error"))
                print(plain(error["traceback"] or f"{error['name']}: {error['message']}").rstrip())


def _row(call: Call) -> tuple[object, ...]:
    counted = ", ".join(f"{count} {status}" for status, count in call.counts.items())
    return (
        call.number,
        dt.datetime.fromtimestamp(call.submitted, dt.UTC).astimezone().strftime("%m-%d %H:%M:%S"),
        "" if call.took is None else format_seconds(call.took),
        len(call.msg_ids),
        counted,
        call.label,
    )


class Logs(Command):
    """What the hub of a cluster wrote: engines that died, messages that were dropped."""

    name = Unicode("ipyasyncresult logs")
    words = "[CLUSTER]"
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
        self._file = cluster_folder(cluster_id) / "hub.log"
        try:
            with self._file.open(errors="replace") as file:
                last = deque(file, maxlen=self.lines)
                self._position = file.tell()
        except FileNotFoundError:
            raise NotThere(f"cluster {cluster_id} has no log") from None
        return {"cluster_id": cluster_id, "lines": [line.rstrip("\n") for line in last]}

    def show(self, found: dict[str, Any]) -> None:
        """The lines; with ``--follow`` also those to come."""
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
