"""Results that the scheduler keeps: published as data sets, found by id or label.

There are two data sets for what was submitted together: one tells of the tasks, and is what others
read; one has the futures, by which the scheduler keeps the results, and is read by nobody.  Who
reads futures asks for all of them, also for those that were taken back and are unknown by now.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import logging
import pickle
import time
from collections.abc import Iterator
from typing import Any

from ipyasyncresult.backends.client import BackendClient
from ipyasyncresult.backends.recall import Call, Entry
from ipyasyncresult.core.task import TaskRecord
from ipyasyncresult.core.waiting import check_timeout
from ipyasyncresult.errors import TimeoutError, UnknownTaskError
from ipyasyncresult.wire import messages as m

__all__ = ["HELD", "PREFIX", "KeepsResults"]

_log = logging.getLogger(__name__)

PREFIX = "ipyasyncresult-"
"""With it begin sessions, and so ids, topics and data sets."""

HELD = "held-by-"
"""With it begins the name of the data set with the futures."""

_SECONDS = 0.25
"""For which submissions are collected before they are published."""


class KeepsResults(BackendClient):
    """The part of a Dask client that has the scheduler keep what was submitted."""

    def __init__(self, dask: Any, keep: int) -> None:
        self.dask = dask
        self._keep = keep
        self._futures: dict[str, Any] = {}  # of unfinished tasks
        # The following belong to Dask's event loop.
        self._unpublished: list[tuple[Entry, Any]] = []  # with futures, which hold the results
        self._publishing: set[asyncio.Future[None]] = set()
        self._published: list[tuple[str, int]] = []  # data sets and how many tasks each has
        self._set = 0  # number of the last data set: when it was made, in milliseconds

    def _keep_later(self, submitted: list[tuple[Entry, Any]]) -> None:
        if self._keep:
            if not self._unpublished:
                asyncio.get_running_loop().call_later(_SECONDS, self._publish_soon)
            self._unpublished += submitted

    def _keep_no_cancelled(self) -> None:
        self._unpublished = [(e, f) for e, f in self._unpublished if f.status != "cancelled"]

    def _publish_soon(self) -> None:
        submitted, self._unpublished = self._unpublished, []
        if submitted:
            task = asyncio.ensure_future(self._publish(submitted))
            self._publishing.add(task)
            task.add_done_callback(self._publishing.discard)

    async def _publish(self, submitted: list[tuple[Entry, Any]]) -> None:
        """Have the scheduler keep what was submitted, and let go of the oldest beyond the limit."""
        self._set = max(self._set + 1, int(time.time() * 1000))
        name = f"{self.session}-{self._set}"
        # Those that were taken back meanwhile are unknown to the scheduler.
        submitted = [(entry, f) for entry, f in submitted if f.status != "cancelled"]
        # As bytes: Dask looks for futures in all that is published, and pickles it piece by piece.
        about = pickle.dumps([_describe(entry) for entry, _ in submitted], 5)
        futures = [future for _, future in submitted]
        try:
            await self.dask.publish_dataset(futures, name=HELD + name)
            await self.dask.publish_dataset(about, name=name)
            self._published.append((name, len(submitted)))
            while sum(count for _, count in self._published[1:]) >= self._keep:
                oldest, _ = self._published.pop(0)
                await self.dask.unpublish_dataset(oldest)
                await self.dask.unpublish_dataset(HELD + oldest)
        except Exception:  # noqa: BLE001  what it may raise depends on what is gone
            if self.dask.status == "running":
                _log.exception("the scheduler does not keep %d tasks", len(submitted))

    def wait_until_kept(self, timeout: float | None = -1) -> None:
        """Wait until the scheduler keeps what was submitted so far, for other sessions.

        Raises
        ------
        TimeoutError
            When that took longer than `timeout` seconds.
        """
        try:
            self.dask.sync(self._keep_all, callback_timeout=check_timeout(timeout))
        except builtins.TimeoutError as error:
            raise TimeoutError(f"the scheduler did not take it within {timeout} s") from error

    async def _keep_all(self) -> None:
        if self._unpublished:
            self._publish_soon()
        if self._publishing:
            await asyncio.wait(self._publishing)

    def _find_call(self, which: str) -> Call | None:
        for tasks in self._published_tasks():
            chosen = [t for t in tasks if which in (t["msg_id"], t["label"])]
            if chosen:
                last = chosen[-1]
                group = m.Group(*last["group"]) if last["group"] else None
                if group is None:
                    return Call((last["msg_id"],), None, last["label"])
                same = [t["msg_id"] for t in tasks if t["group"] == last["group"]]
                return Call(tuple(same), group, last["label"])
        return None

    def _published_names(self) -> list[str]:
        names = [n for n in self.dask.list_datasets() if str(n).startswith(PREFIX)]
        return sorted(names, key=lambda n: int(n.rpartition("-")[2]), reverse=True)

    def _published_tasks(self) -> Iterator[list[dict[str, Any]]]:
        """What is told of the tasks, the newest first."""
        for name in self._published_names():
            with contextlib.suppress(KeyError):  # taken away meanwhile
                yield pickle.loads(self.dask.get_dataset(name))

    def _fetch(self, msg_ids: list[str]) -> list[TaskRecord]:
        wanted = set(msg_ids)
        about: dict[str, dict[str, Any]] = {}
        for tasks in self._published_tasks():
            about.update({task["msg_id"]: task for task in tasks if task["msg_id"] in wanted})
            if len(about) == len(wanted):
                break
        if missing := [i for i in msg_ids if i not in about]:
            raise UnknownTaskError(f"the Dask scheduler keeps no task {missing[0]!r}")
        records = []
        for msg_id in msg_ids:
            task = about[msg_id]
            record = TaskRecord(msg_id, task["submitted"])
            record.items, record.label = task["items"], task["label"]
            records.append(record)
        self.ledger.submit_many(records)
        self._listen_to({msg_id.rpartition("-")[0] for msg_id in msg_ids} - {self.session})
        futures = self._futures_of(msg_ids)
        self._take_back([msg_id for msg_id in msg_ids if msg_id not in futures])
        self._futures.update(futures)
        self._watch_futures(list(futures.values()))
        return records

    def _futures_of(self, keys: list[str]) -> dict[str, Any]:
        """Futures of those of these tasks that the scheduler knows."""
        from distributed import Future

        ask = self.dask.run_on_scheduler
        # Without a future, this client would not hear what it is told below.
        futures: dict[str, Any] = {key: Future(key, self.dask) for key in ask(known_keys, keys)}
        # Somebody may have purged them meanwhile.
        return {key: futures[key] for key in ask(want_keys, list(futures), self.dask.id)}

    def hub_history(self) -> list[str]:
        """Ids of all tasks that the scheduler keeps, oldest first."""
        kept = reversed(list(self._published_tasks()))
        return [task["msg_id"] for tasks in kept for task in tasks]

    def purge_results(self, jobs: Any = "all", targets: Any = ()) -> int:
        """Let the scheduler forget all results of this package; how many data sets there were."""
        del targets
        if jobs != "all":
            raise ValueError(f"jobs must be 'all', not {jobs!r}: Dask forgets data sets as a whole")
        names = self._published_names()
        for name in names:
            self.dask.unpublish_dataset(name)
            self.dask.unpublish_dataset(HELD + name)
        return len(names)

    purge_hub_results = purge_results

    def _watch_futures(self, futures: list[Any]) -> None:
        raise NotImplementedError

    def _listen_to(self, sessions: set[str]) -> None:
        raise NotImplementedError


def known_keys(keys: list[str], dask_scheduler: Any = None) -> list[str]:
    """Those of these tasks that the scheduler knows; the others were taken back or purged."""
    tasks = dask_scheduler.tasks
    # Older versions of Dask make an empty task of whatever somebody has a future of.
    return [key for key in keys if key in tasks and tasks[key].run_spec is not None]


def want_keys(keys: list[str], client: str, dask_scheduler: Any = None) -> list[str]:
    """The same; from now on they are kept for this client, and it is told how they end."""
    known = known_keys(keys, dask_scheduler)
    dask_scheduler.client_desires_keys(known, client)
    return known


def _describe(entry: Entry) -> dict[str, Any]:
    group = entry.group
    return {
        "msg_id": entry.record.msg_id,
        "label": entry.record.label,
        "submitted": entry.record.submitted,
        "items": entry.record.items,
        "group": None
        if group is None
        else (group.group_id, group.fname, group.kind, group.partition, group.ordered),
    }
