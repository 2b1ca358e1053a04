"""Random and damaged messages to hub and engine over their real sockets: dropped and counted.

The peer that sends them has every access that there is: it introduced itself.  What it says is
drawn from a seed.  In the environment, ``FUZZ`` is the number of messages and ``FUZZ_SEED`` another
seed.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

import ipyasyncresult as ipar
from ipyasyncresult.hub.nanny import Nanny
from ipyasyncresult.wire import messages as m
from ipyasyncresult.wire.localsockets import LocalDoor
from ipyasyncresult.wire.sockets import make_poll
from ipyasyncresult.worker.functions import dump_arguments, dump_function
from tests.integration.conftest import hub_of
from tests.integration.faults.conftest import SOON
from tests.integration.faults.peers import Peer, intruder, puppets_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

COUNT = int(os.environ.get("FUZZ", "100_000"))
"""Messages in all; a third goes through each of the three doors."""
SEED = int(os.environ.get("FUZZ_SEED", "0"))
BATCH = 2000
MEMORY = 60e6
"""Bytes that a process may grow by: what an allocator keeps, not what a leak of COUNT would be."""

JUNK: list[Any] = [
    None, True, -1, 0, 1 << 40, -(1 << 62), 1.5, float("nan"), "", "x", "\x00" * 50, b"", b"\xff",
    [], [[]], [1, "a", None], {}, {"a": 1}, {"msg_ids": 3}, ["0-0"] * 3, {"0-0": "1-1"},
]  # fmt: skip


class Fuzz:
    """Draws messages: noise, damaged good ones, and good ones with wrong contents."""

    def __init__(self, seed: int, good: list[bytes], decode: Callable[[bytes], Any]) -> None:
        self.random = random.Random(seed)
        self.good = good
        self.decode = decode

    def draw(self) -> tuple[bytes, list[bytes]]:
        """Header and frames of a message; never one that means what it says."""
        while True:
            header = self.random.choice([self.noise, self.damaged, self.damaged, self.shuffled])()
            if not self.is_wish(header):
                break
        frames = [self.noise() for _ in range(self.random.choice([0, 0, 0, 1, 3]))]
        if self.random.random() < 0.02:
            return b"", [header, *frames]
        return header, frames

    def noise(self) -> bytes:
        return self.random.randbytes(self.random.choice([0, 1, 2, 8, 64, 500]))

    def damaged(self) -> bytes:
        data = bytearray(self.random.choice(self.good))
        for _ in range(self.random.randint(1, 4)):
            where = self.random.randrange(len(data)) if data else 0
            match self.random.randrange(4):
                case 0 if data:
                    data[where] ^= 1 << self.random.randrange(8)
                case 1 if data:
                    data[where] = self.random.choice(b"\x00\x7f\x80\x90\x91\xc0\xc1\xc4\xdf\xff")
                case 2:
                    del data[where : where + self.random.randint(1, 9)]
                case _:
                    data[where:where] = self.noise()
        return bytes(data)

    def shuffled(self) -> bytes:
        """A list of the length of a good one, with anything in the places."""
        import msgspec

        fields = msgspec.msgpack.decode(self.random.choice(self.good))
        for _ in range(self.random.randint(1, 2)):
            fields[self.random.randrange(1, len(fields))] = self.random.choice(JUNK)
        return msgspec.msgpack.encode(fields)

    def is_wish(self, header: bytes) -> bool:
        """Whether it ends, starts, signals or runs something: that would not be noise."""
        try:
            message = self.decode(header)
        except m.MALFORMED:
            return False
        if isinstance(message, m.Ask):
            return message.question == "add_engines"
        if isinstance(message, m.Run):
            return bool(message.tasks)
        return isinstance(message, m.Shutdown | m.Interrupt | m.Goodbye | m.Stop)


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.005)


@pytest.fixture
def from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules beside this file are found by hubs that are started."""
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))


class Watched:
    """Memory and descriptors of a process, before and after."""

    def __init__(self, process: psutil.Process) -> None:
        self.process = process
        self.memory = process.memory_info().rss
        self.descriptors = process.num_fds()

    def assert_flat(self) -> None:
        assert self.process.memory_info().rss - self.memory < MEMORY
        assert self.process.num_fds() <= self.descriptors + 2


def good_from_clients(session: str) -> list[bytes]:
    tasks = [m.Task(f"{session}-{n}", 0, b"arguments", frames=n % 2) for n in range(3)]
    messages = [
        m.Hello(session, m.PROTOCOL, "0", "0", 1),
        m.Submit([b"function"], tasks, m.Group("group", "f", "map")),
        m.Submit([b"function"], [m.Task("a", 0, b"", kind=m.CHUNK, items=7, label="label")]),
        m.Abort(1, ["a", "b"]),
        m.Interrupt(2, ["a"], [0, 1], 2),
        *(
            m.Ask(3, question, {"msg_ids": ["a"]})
            for question in ("subscribe", "tasks", "purge", "find", "resubmit", "queue_status")
        ),
    ]
    return [m.encode(message) for message in messages]


def test_noise_of_a_client_is_dropped_and_counted_and_costs_nothing() -> None:
    with ipar.Cluster(n=1) as client, intruder(client.cluster_id) as other:
        assert client[0].apply_sync(abs, -1) == 1
        socket, _ = other.introduce()
        fuzz = Fuzz(SEED + 1, good_from_clients(other.session), m.decode_from_client)
        before = None
        for number in range(COUNT // 3):
            socket.send(*fuzz.draw())
            if number % BATCH == 0:
                socket.swallow()
                client._connection.ask("status")  # and so the hub keeps up
                if before is None and number >= COUNT // 9:
                    before = Watched(hub_of(client))
        status = client._connection.ask("status")
        assert status["dropped_messages"] > COUNT // 12
        assert before is not None
        before.assert_flat()
        assert client[0].apply_sync(abs, -2) == 2
        assert client.load_balanced_view().map_sync(abs, range(-50, 0)) == list(range(50, 0, -1))


def test_good_messages_with_absurd_contents_do_no_harm() -> None:
    """Numbers out of range, names of another type, frames that are not there, unknown kinds."""
    with ipar.Cluster(n=2) as client, intruder(client.cluster_id) as other:
        pids = client[:].apply_sync(os.getpid)
        failed = client[0].apply_async(divmod, 1, 0)
        failed.wait(SOON)
        socket, _ = other.introduce()
        absolute = dump_function(abs)
        three = dump_arguments((-3,), {})[0]
        tasks: list[dict[str, Any]] = [
            {"function": -1},
            {"function": 7},
            {"frames": 3},
            {"frames": -3},
            {"kind": 99},
            {"kind": m.CHUNK},
            {"kind": m.CELL},
            {"target": -9},
            {"target": 1 << 40},
            {"items": -5},
            {"items": 1 << 60},
            {"retries": -1},
            {"timeout": -1.0},
            {"timeout": 1e300},
            {"timeout": float("nan")},
            {"timeout": float("inf")},
            {"timeout": 5e-324},
            {"options": 255},
            {"label": "x" * 100_000},
            {"msg_id": ""},
            {"msg_id": "\x00"},
        ]
        for number, fields in enumerate(tasks):
            given = {"msg_id": f"{other.session}-{number}", "function": 0, "arguments": three}
            socket.send(m.encode(m.Submit([absolute], [m.Task(**{**given, **fields})])))
        questions: list[tuple[str, dict[str, Any]]] = [
            ("resubmit", {"again": {failed.msg_ids[0]: 5}}),
            ("resubmit", {"again": {failed.msg_ids[0]: failed.msg_ids[0]}}),
            ("resubmit", {"again": {failed.msg_ids[0]: None}}),
            ("subscribe", {"msg_ids": "abc"}),
            ("subscribe", {"msg_ids": failed.msg_ids * 1000}),
            ("find", {"which": [1, None]}),
            ("find", {"which": 1 << 60}),
            ("find", {"which": True}),
            ("purge", {"msg_ids": [5, [], {}]}),
            ("tasks", {"msg_ids": {"a": 1}}),
            ("add_engines", {"count": -1}),
            ("add_engines", {"count": "many"}),
            ("add_engines", {"count": 1.5}),
            ("answer", {}),
            ("__init__", {"server": None}),
            ("status", {"session": "somebody else's"}),
        ]
        for request, (question, about) in enumerate(questions):
            socket.send(m.encode(m.Ask(request, question, about)))
        for number in (0, 999, -1, 1 << 40):  # signals that there are none
            socket.send(m.encode(m.Interrupt(100, ["unknown"], [0, 1, 77, -1], number)))
        socket.send(m.encode(m.Abort(200, ["", "unknown", *failed.msg_ids] * 3)))
        socket.send(m.encode(m.Ask(300, "status", {})))
        while True:
            message = m.decode_from_hub(socket.answer()[0])
            if isinstance(message, m.Answer) and message.request == 300:
                break
        assert client[:].apply_sync(os.getpid) == pids
        again = failed.retry_failed()
        assert again.exception(SOON) is not None
        assert client.load_balanced_view().map_sync(abs, range(-50, 0)) == list(range(50, 0, -1))


def test_noise_of_an_engine_is_dropped_and_counted_and_costs_nothing(
    from_here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUPPETS", str(tmp_path / "puppets"))
    cluster = ipar.Cluster(n=1)
    cluster.hub_module = "puppethub"
    cluster.start_cluster_sync()
    try:
        with cluster.connect_client_sync() as client, intruder(client.cluster_id) as other:
            [uuid] = puppets_of(tmp_path / "puppets", 1)
            engine = other.open("engines", uuid.encode())
            hello = other.hello()
            told = (m.PROTOCOL, hello.package, hello.python)
            engine.send(m.encode(m.Register(0, uuid, os.getpid(), *told)))
            client.wait_for_engines(1, timeout=SOON)
            play(client, engine)
            items: list[Any] = [
                m.Started("a", 0, 1.0),
                m.OutputPiece("a", b"output"),
                m.Finished("a", m.OK, b"body", 1, 0.0, 0.0, 0.0),
                m.Returned(["a"], ["b"]),
            ]
            good = [m.encode(m.Stream(items)), *(m.encode(m.Stream([one])) for one in items)]
            good.append(m.encode(m.Register(0, uuid, 1, *told)))
            fuzz = Fuzz(SEED + 2, good, m.decode_from_engine)
            before = None
            for number in range(COUNT // 3):
                engine.send(*fuzz.draw())
                if number % BATCH == 0:
                    engine.swallow()
                    client._connection.ask("status")
                    if before is None and number >= COUNT // 9:
                        before = Watched(hub_of(client))
            assert client._connection.ask("status")["dropped_messages"] > COUNT // 12
            assert before is not None
            before.assert_flat()
            play(client, engine)
    finally:
        cluster.stop_cluster_sync()


def play(client: ipar.Client, engine: Peer) -> None:
    """A task goes its way, with the test as the engine."""
    result = client[0].apply_async(abs, -3)
    while True:
        message = m.decode_to_engine(engine.answer()[0])
        if isinstance(message, m.Run):
            break
    body = dump_arguments((), {})[0]
    for task in message.tasks:
        end = m.Finished(task.msg_id, m.OK, body, 0, time.time(), time.time(), 0.0)
        engine.send(m.encode(m.Stream([end])))
    assert result.get(SOON) == ((), {})


class Host:
    """A hub of one engine."""

    def __init__(self, path: Path) -> None:
        self.door = LocalDoor(path)
        self._poll = make_poll([self.door.handle])
        self._said: deque[bytes] = deque()
        self._identity = b""

    def said(self) -> bytes:
        """The next header that comes."""
        deadline = time.monotonic() + SOON
        while not self._said:
            assert self._poll(max(0, int((deadline - time.monotonic()) * 1000))), "it says nothing"
            for identity, header, _ in self.door.take():
                self._identity = identity
                self._said.append(header)
        return self._said.popleft()

    def send(self, header: bytes, frames: Sequence[Any] = ()) -> None:
        assert self.door.send(self._identity, header, frames)
        self._said += [said for _, said, _ in self.door.take()]


@pytest.fixture
def lone_engine(tmp_path: Path) -> Iterator[tuple[Host, psutil.Process]]:
    """An engine, with the test as its hub, and its process."""
    host = Host(tmp_path / "engines")
    nanny = Nanny({"folder": str(tmp_path), "import_path": sys.path})
    try:
        nanny.fork(0, "the-engine")
        hello = m.decode_from_engine(host.said())
        assert isinstance(hello, m.Register)
        yield host, psutil.Process(hello.pid)
    finally:
        nanny.close()
        host.door.close()


def test_noise_of_a_hub_is_dropped_by_the_engine_that_goes_on(
    lone_engine: tuple[Host, psutil.Process],
) -> None:
    host, process = lone_engine
    absolute = dump_function(abs)

    def run(name: str) -> None:
        task = m.Task(name, 0, dump_arguments((-3,), {})[0])
        host.send(m.encode(m.Run([absolute], [task])))
        while True:
            message = m.decode_from_engine(host.said())
            items = message.items if isinstance(message, m.Stream) else []  # it may be asked who
            for item in items:
                if isinstance(item, m.Finished) and item.msg_id == name:
                    assert item.status == m.OK
                    return

    run("first")
    few = [m.Task("a", 0, b"arguments"), m.Task("b", 0, b"", frames=2)]
    good = [m.encode(m.Run([b"function"], few)), m.encode(m.Run([], []))]
    good += [m.encode(m.Recall(["a"])), m.encode(m.Recall(None))]
    fuzz = Fuzz(SEED + 3, good, m.decode_to_engine)
    before = None
    for number in range(COUNT // 3):
        host.send(*fuzz.draw())
        if number % BATCH == 0:
            run(f"between {number}")
            if before is None and number >= COUNT // 9:
                before = Watched(process)
    # A function that is not there, frames that are not there.
    for task in (m.Task("c", 5, b""), m.Task("d", -9, b""), m.Task("e", 0, b"", frames=4)):
        host.send(m.encode(m.Run([absolute], [task])))
    run("last")
    assert before is not None
    before.assert_flat()
