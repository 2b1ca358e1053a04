"""Ten thousand short tasks while engines are killed, stopped and crashed at random moments.

What is drawn comes from a seed: ``CHAOS_SEED`` in the environment.  Rounds are added until
``CHAOS_SECONDS`` have passed (``make soak``: ten minutes); without it, there are two.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import psutil
import pytest

import ipyasyncresult as ipar
from tests.integration.conftest import hub_of, processes_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

SEED = int(os.environ.get("CHAOS_SEED", "1"))
SECONDS = float(os.environ.get("CHAOS_SECONDS", "0"))
ROUNDS = 2
TASKS = 5000  # a round
ENGINES = 3
PATIENCE = 120.0
"""Seconds after which a round that does not end is a failure."""


def work(n: int, seed: int) -> int:
    """Takes a moment, prints now and then, and may end its engine, in another way each time."""
    import ctypes
    import random

    draw = random.Random(f"{seed} {n} {time.monotonic()}")
    fate = draw.random()
    if fate < 0.002:
        os._exit(3)
    elif fate < 0.004:
        ctypes.string_at(0)
    elif fate < 0.006:
        os.kill(os.getpid(), signal.SIGKILL)
    elif fate < 0.02:
        print("task", n)
    time.sleep(draw.choice([0, 0, 0.001, 0.004]))
    if n % 97 == 0:
        raise ValueError(n)
    return n * n


@dataclass
class Chaos:
    """Does things to engines from outside, at random moments, until it is told to stop."""

    client: ipar.Client
    draw: random.Random
    done: Counter[str] = field(default_factory=Counter)
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self._stop.wait(self.draw.expovariate(1 / 0.15)):
            pids = [about["pid"] for about in self.client.engines.values() if about.get("pid")]
            if not pids:
                continue
            deed = self.draw.choice([self.kill, self.stop_and_go_on, self.stop_and_kill])
            with contextlib.suppress(ProcessLookupError):  # it died by itself
                deed(self.draw.choice(pids))
                self.done[deed.__name__] += 1

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)

    def stop_and_go_on(self, pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(self.draw.uniform(0, 0.1))
        os.kill(pid, signal.SIGCONT)

    def stop_and_kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(self.draw.uniform(0, 0.1))
        os.kill(pid, signal.SIGKILL)

    @contextlib.contextmanager
    def around(self) -> Iterator[None]:
        thread = threading.Thread(target=self.run, name="chaos")
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()


def one_round(client: ipar.Client, seed: int) -> Counter[str]:
    """Submit, do harm, and look at every task; how they ended, and what was done."""
    patient, proud = client.load_balanced_view(), client.load_balanced_view()
    patient.retries = 1000
    chaos = Chaos(client, random.Random(seed))
    with chaos.around():
        retried = [patient.apply_async(work, n, seed) for n in range(TASKS * 4 // 5)]
        retried_map = patient.map_async(work, range(TASKS // 10), [seed] * (TASKS // 10))
        once = [proud.apply_async(work, n, seed) for n in range(TASKS // 10)]
        taken_back = [proud.apply_async(work, n, seed) for n in range(20)]
        answers = client.abort([result.msg_ids[0] for result in taken_back])
        everything: list[ipar.AsyncResult] = [*retried, *once, *taken_back, retried_map]
        for result in everything:
            result.wait(timeout=PATIENCE)
            assert result.ready(), f"{result!r} never ends; {client.queue_status()}"
    ends: Counter[str] = Counter()
    for n, result in enumerate(retried):
        ends[check(result, n)] += 1
    for n, value in enumerate(retried_map.get(return_exceptions=True)):
        assert value == n * n or (n % 97 == 0 and isinstance(value, ValueError))
    assert ends["lost"] == 0
    for n, result in enumerate(once):
        ends[check(result, n)] += 1
    for n, result in enumerate(taken_back):
        end = check(result, n)
        ends[end] += 1
        assert (answers[result.msg_ids[0]] == "aborted") == (end == "aborted")
    assert client.outstanding == set()
    hub_says = {task["msg_id"]: task["status"] for task in client._connection.ask("tasks")}
    for result in everything:
        for msg_id, status in zip(result.msg_ids, all_of(result.status), strict=True):
            assert hub_says[msg_id] == status
    assert client._connection.ask("status")["unfinished"] == 0
    return ends + chaos.done


def all_of(status: Any) -> list[str]:
    return [status] if isinstance(status, str) else list(status)


def check(result: ipar.AsyncResult, n: int) -> str:
    """How it ended; fails if that does not fit to what the task does."""
    status = str(result.status)
    error = result.exception(0)
    expected = {"lost": ipar.EngineError, "aborted": ipar.TaskAborted, "error": ValueError}
    if status == "ok":
        assert error is None
        assert result.get() == n * n
    else:
        assert isinstance(error, expected[status])
        assert status != "error" or n % 97 == 0
    return status


def test_whatever_happens_to_engines_every_task_ends_once_with_the_right_value() -> None:
    with ipar.Cluster(n=ENGINES, restart_limit=1_000_000) as client:
        client[:].apply_sync(list)
        hub = hub_of(client)
        [nursery] = [one for one in hub.children() if one.children()]
        watched = [psutil.Process(), hub, nursery]
        ends: Counter[str] = Counter()
        until = time.monotonic() + SECONDS
        before: list[tuple[float, int]] = []
        rounds = 0
        while rounds < ROUNDS or time.monotonic() < until:
            ends += one_round(client, SEED + rounds)
            rounds += 1
            client.wait_for_engines(ENGINES, timeout=PATIENCE)
            client._connection.ask("purge", msg_ids=None)
            gc.collect()
            if not before:
                before = [footprint(process) for process in watched]
        print(f"{rounds} rounds: {dict(ends)}")
        assert ends["kill"] + ends["stop_and_kill"] > 0
        assert ends["stop_and_go_on"] > 0
        for process, (memory, files) in zip(watched, before, strict=True):
            now, open_now = footprint(process)
            assert now - memory < 40e6, process
            assert open_now <= files + 2, process
        processes = processes_of(client)
        assert client[:].apply_sync(abs, -1) == [1] * ENGINES
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert alive == []


def footprint(process: psutil.Process) -> tuple[float, int]:
    return process.memory_info().rss, process.num_fds()
