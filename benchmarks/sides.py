"""The libraries that are measured, behind one small interface.

``multiprocessing.Pool`` is always there; others are measured where they are installed.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import select
import socket
import struct
import tempfile
import time
from collections.abc import Sequence
from typing import Any, ClassVar

import workloads

__all__ = ["SIDES", "Side"]


class Side:
    """One library with `n` workers."""

    needs: ClassVar[str | None] = None
    cases: ClassVar[frozenset[str] | None] = None  # None: all
    modules: ClassVar[tuple[str, ...]] = ()  # the library

    def __init__(self, n: int) -> None:
        self.n = n

    @classmethod
    def is_there(cls) -> bool:
        """Whether it can be measured here."""
        return cls.needs is None or importlib.util.find_spec(cls.needs) is not None

    @classmethod
    def load(cls) -> None:
        """Import the library: what its start costs is asked for beside that."""
        for name in cls.modules:
            importlib.import_module(name)

    def submit(self, function: Any, *args: Any) -> Any:
        raise NotImplementedError

    def get(self, handle: Any) -> Any:
        raise NotImplementedError

    def map(self, function: Any, items: Sequence[Any]) -> list[Any]:
        raise NotImplementedError

    def broadcast(self, array: Any) -> Any:
        return [
            self.get(one) for one in [self.submit(workloads.weigh, array) for _ in range(self.n)]
        ]

    def warm(self) -> None:
        """Until every worker has answered."""
        pause, seen = 0.001, set[int]()
        while len(seen) < self.n:
            handles = [self.submit(workloads.pid_after, pause) for _ in range(2 * self.n)]
            seen.update(self.get(handle) for handle in handles)
            pause = min(2 * pause, 0.1)
        for handle in [self.submit(workloads.nothing) for _ in range(50)]:
            self.get(handle)

    def close(self) -> None:
        raise NotImplementedError


class Own(Side):
    """This project, as users get it."""

    options: ClassVar[dict[str, Any]] = {}
    modules = ("ipyasyncresult.client.cluster", "ipyasyncresult.client.client")

    def __init__(self, n: int) -> None:
        super().__init__(n)
        from ipyasyncresult import Cluster

        self.cluster = Cluster(n=n, **self.options)
        self.client = self.cluster.start_and_connect_sync()
        self.view = self.client.load_balanced_view()
        self.all = self.client[:]

    def submit(self, function: Any, *args: Any) -> Any:
        return self.view.apply_async(function, *args)

    def get(self, handle: Any) -> Any:
        return handle.get()

    def map(self, function: Any, items: Sequence[Any]) -> list[Any]:
        return list(self.view.map_sync(function, items))

    def broadcast(self, array: Any) -> Any:
        return self.all.push({"pushed": array}, block=True)

    def close(self) -> None:
        self.client.close()
        self.cluster.stop_cluster_sync()


class Stored(Own):
    """The same with a store: every task and result is on disk, too."""

    options: ClassVar[dict[str, Any]] = {"durability": "store"}

    @classmethod
    def is_there(cls) -> bool:
        import inspect

        from ipyasyncresult import Cluster

        return "durability" in inspect.signature(Cluster).parameters


class Pool(Side):
    """``multiprocessing.Pool``."""

    modules = ("multiprocessing.pool",)
    cases = frozenset(
        {"start", "latency", "flood", "map", "echo", "broadcast", "balance", "memory"}
    )

    def __init__(self, n: int) -> None:
        super().__init__(n)
        import multiprocessing

        self.pool = multiprocessing.get_context("fork").Pool(n)

    def submit(self, function: Any, *args: Any) -> Any:
        return self.pool.apply_async(function, args)

    def get(self, handle: Any) -> Any:
        return handle.get()

    def map(self, function: Any, items: Sequence[Any]) -> list[Any]:
        return self.pool.map(function, items)

    def close(self) -> None:
        self.pool.terminate()


class Ray(Side):
    needs = "ray"
    modules = ("ray",)
    cases = frozenset({"start", "latency", "flood", "echo", "broadcast", "balance", "memory"})

    def __init__(self, n: int) -> None:
        super().__init__(n)
        import ray

        ray.init(num_cpus=n, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        self.ray = ray
        self.known: dict[Any, Any] = {}

    def submit(self, function: Any, *args: Any) -> Any:
        if function not in self.known:
            self.known[function] = self.ray.remote(function)
        return self.known[function].remote(*args)

    def get(self, handle: Any) -> Any:
        return self.ray.get(handle)

    def broadcast(self, array: Any) -> Any:
        shared = self.ray.put(array)
        return self.ray.get([self.submit(workloads.weigh, shared) for _ in range(self.n)])

    def close(self) -> None:
        self.ray.shutdown()


class Raw(Side):
    """No library: the four hops of one task over plain ZeroMQ sockets, nothing else.

    Client, hub and engine are three processes with ROUTER and DEALER sockets, as here.
    """

    cases = frozenset({"latency"})

    def __init__(self, n: int) -> None:
        super().__init__(n)
        import zmq

        folder = tempfile.mkdtemp(dir=".")
        urls = [f"ipc://{folder}/clients", f"ipc://{folder}/engines"]
        self.children = []
        for run in (_raw_hub, _raw_engine):
            pid = os.fork()
            if pid == 0:
                try:
                    run(*urls)
                finally:
                    os._exit(0)
            self.children.append(pid)
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.identity = b"client"
        self.socket.connect(urls[0])
        self.message = os.urandom(200)  # as long as a small task's

    def warm(self) -> None:
        for _ in range(200):
            self.get(self.submit(workloads.nothing))

    def submit(self, function: Any, *args: Any) -> Any:
        self.socket.send(self.message)

    def get(self, handle: Any) -> Any:
        return self.socket.recv()

    def close(self) -> None:
        for pid in self.children:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
        self.context.destroy(linger=0)


def _raw_hub(clients: str, engines: str) -> None:
    import zmq

    context = zmq.Context()
    front, back = context.socket(zmq.ROUTER), context.socket(zmq.ROUTER)
    front.bind(clients)
    back.bind(engines)
    engine, _ = back.recv_multipart()
    poller = zmq.Poller()
    poller.register(front, zmq.POLLIN)
    poller.register(back, zmq.POLLIN)
    while True:
        for source, _ in poller.poll():
            _, message = source.recv_multipart()
            if source is front:
                back.send_multipart([engine, message])
            else:
                front.send_multipart([b"client", message])


def _raw_engine(_: str, engines: str) -> None:
    import zmq

    socket = zmq.Context().socket(zmq.DEALER)
    socket.identity = struct.pack("I", 1) + b"engine"
    while not os.path.exists(engines.removeprefix("ipc://")):
        time.sleep(0.001)
    socket.connect(engines)
    socket.send(b"here")
    while True:
        socket.send(socket.recv())


class Plain(Side):
    """The same four hops over Unix sockets without ZeroMQ and its threads: the limit."""

    cases = frozenset({"latency"})

    def __init__(self, n: int) -> None:
        super().__init__(n)
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
        (self.socket, front), (back, engine) = pairs
        self.children = []
        for run, ends in ((_plain_hub, (front, back)), (_plain_engine, (engine,))):
            pid = os.fork()
            if pid == 0:
                try:
                    run(*ends)
                finally:
                    os._exit(0)
            self.children.append(pid)
        self.message = os.urandom(200)

    def warm(self) -> None:
        for _ in range(200):
            self.get(self.submit(workloads.nothing))

    def submit(self, function: Any, *args: Any) -> Any:
        self.socket.send(self.message)

    def get(self, handle: Any) -> Any:
        return self.socket.recv(65_536)

    def close(self) -> None:
        for pid in self.children:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
        self.socket.close()


def _plain_hub(front: socket.socket, back: socket.socket) -> None:
    poll = select.epoll()
    others = {front.fileno(): (front, back), back.fileno(): (back, front)}
    for number in others:
        poll.register(number, select.EPOLLIN)
    while True:
        for number, _ in poll.poll():
            here, there = others[number]
            there.send(here.recv(65_536))


def _plain_engine(line: socket.socket) -> None:
    while True:
        line.send(line.recv(65_536))


SIDES: dict[str, type[Side]] = {
    "this": Own,
    "this, stored": Stored,
    "mp.Pool": Pool,
    "ray": Ray,
    "raw sockets": Raw,
    "no ZeroMQ": Plain,
}
