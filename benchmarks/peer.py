"""This project as one more peer of the side-by-side benchmarks.

    python run.py --peer-module benchmarks/peer.py:IpyAsyncResult --peers mp_pool,ipyasyncresult

The path measured is the one that users get: load-balanced calls, captured outputs, all metadata.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from peers import Fn, Peer  # type: ignore[import-not-found]  # beside the harness


class IpyAsyncResult(Peer):  # type: ignore[misc]
    """A cluster of this machine, tasks through the load-balanced view."""

    name: ClassVar[str] = "ipyasyncresult"
    package: ClassVar[str | None] = "ipyasyncresult"
    modules: ClassVar[tuple[str, ...]] = ("ipyasyncresult", "ipyasyncresult.client.cluster")

    def start(self, n: int) -> None:
        import ipyasyncresult

        self.n = n
        self.cluster = ipyasyncresult.Cluster(n=n)
        self.client = self.cluster.start_and_connect_sync()
        self.view = self.client.load_balanced_view()
        self.all = self.client[:]

    def submit(self, fn: Fn, *args: Any) -> Any:
        return self.view.apply_async(fn, *args)

    def result(self, handle: Any, timeout: float | None = None) -> Any:
        return handle.get(timeout)

    def map(self, fn: Fn, items: Sequence[Any], chunk: int | None) -> list[Any]:
        return list(self.view.map_sync(fn, items, chunksize=chunk))

    def broadcast(self, array: Any) -> int:
        self.all.push({"bench_array": array}, block=True)
        return self.n

    def async_map(self, fn: Fn, items: Sequence[Any]) -> Any:
        return self.view.map_async(fn, items, chunksize=1)

    def execute(self, code: str) -> Any:
        return self.all.execute(code, block=False)

    def close(self) -> None:
        self.client.close()
        self.cluster.stop_cluster_sync()
