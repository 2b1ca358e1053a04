"""How many items the tasks of a large map get."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ipyasyncresult.client.loadbalanced import _further_chunks
from ipyasyncresult.core.task import Status, TaskRecord


def sizes(count: int, size: int, duration: float | None, *, engines: int = 2) -> list[int]:
    """Sizes of the chunks that follow a first one of `size` items that took so long."""
    probe = TaskRecord("probe", 0.0)
    if duration is not None:
        probe.duration = duration
        probe.status = Status.DONE
        probe.received = 1.0
    client: Any = SimpleNamespace(
        engine_count=lambda: engines,
        ledger=SimpleNamespace(waits=SimpleNamespace(wait=lambda predicate, _: predicate())),
    )
    items = range(count)
    chunks = list(_further_chunks(client, items, count, size, [probe]))
    assert [item for block, _, _ in chunks for item in block] == list(range(size, count))
    assert all(len(block) == number for block, number, _ in chunks)
    return [number for _, number, _ in chunks]


def test_tiny_items_come_in_few_chunks_at_least_four_for_each_engine() -> None:
    assert len(sizes(100_000, 98, 100e-6)) == 21
    assert len(sizes(100_000, 98, 1e-6)) == 8
    assert len(sizes(100_000, 98, 1e-6, engines=16)) == 64


def test_chunks_last_about_five_milliseconds() -> None:
    for_a_chunk = 1e-3  # of 98 items
    assert sizes(100_000, 98, for_a_chunk)[0] == 490


@pytest.mark.parametrize("duration", [None, 5e-3, 1.0])
def test_what_takes_longer_or_is_not_known_keeps_its_small_chunks(duration: float | None) -> None:
    assert set(sizes(98 * 1024, 98, duration)) == {98}


def test_a_failed_first_chunk_tells_nothing() -> None:
    probe = TaskRecord("probe", 0.0)
    probe.duration, probe.status, probe.received = 1e-6, Status.FAILED, 1.0
    client: Any = SimpleNamespace(
        engine_count=lambda: 2,
        ledger=SimpleNamespace(waits=SimpleNamespace(wait=lambda predicate, _: predicate())),
    )
    chunks = _further_chunks(client, range(5000), 5000, 5, [probe])
    assert {number for _, number, _ in chunks} == {5}
