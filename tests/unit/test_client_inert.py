"""Failures are read out of pickled results without running what else is in them."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict, deque
from pathlib import Path
from typing import Any

import pytest

from ipyasyncresult.client.inert import failures_in
from ipyasyncresult.core.partition import ChunkResult


class Bomb:
    """Runs something when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


def test_an_object_that_runs_code_when_unpickled_does_not_run_it(tmp_path: Path) -> None:
    bomb = tmp_path / "exploded"
    data = pickle.dumps(ChunkResult([Bomb(bomb), None], {1: b"how it failed"}), 5)
    assert failures_in(data) == {1: b"how it failed"}
    assert not bomb.exists()
    pickle.loads(data)
    assert bomb.exists()  # so the bomb was one


@pytest.mark.parametrize(
    "value",
    [
        OrderedDict(a=1),
        deque([1, 2]),
        {frozenset({1}), (2, 3)},
        Path("somewhere"),
        ValueError("x"),
        bytearray(b"abc"),
        pytest,
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_of_every_kind_are_passed_over(value: Any) -> None:
    if value is pytest:
        value = type(
            "Local", (dict,), {"__reduce__": lambda _: (dict, (), None, None, iter([(1, 2)]))}
        )()
    data = pickle.dumps(ChunkResult([value, None], {1: b"failed"}), 5)
    assert failures_in(data) == {1: b"failed"}


def test_buffers_out_of_band_are_taken_along() -> None:
    buffers: list[pickle.PickleBuffer] = []
    result = ChunkResult([pickle.PickleBuffer(b"x" * 100), None], {1: b"failed"})
    data = pickle.dumps(result, 5, buffer_callback=buffers.append)
    assert failures_in(data, buffers) == {1: b"failed"}


@pytest.mark.parametrize(
    "data",
    [b"", b"no pickle", pickle.dumps(3), pickle.dumps(ChunkResult([], 3)), pickle.dumps(Bomb)],  # type: ignore[arg-type]
    ids=["empty", "garbage", "number", "no-dict", "class"],
)
def test_what_is_no_such_result_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        failures_in(data)


def test_entries_that_are_no_failures_are_left_out() -> None:
    data = pickle.dumps(ChunkResult([], {0: "text", "1": b"x", 2: b"good"}), 5)  # type: ignore[dict-item]
    assert failures_in(data) == {2: b"good"}
