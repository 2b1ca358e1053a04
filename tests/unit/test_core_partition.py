"""How sequences are dealt out and put together again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipyasyncresult.core.partition import DISTRIBUTIONS, Map, RoundRobinMap, check_chunksize

bounded = settings(max_examples=40, deadline=None, derandomize=True)
distributions = st.sampled_from(sorted(DISTRIBUTIONS))


@given(st.lists(st.integers(), max_size=30), st.integers(1, 8), distributions)
@bounded
def test_parts_put_together_are_the_sequence(items: list[int], q: int, name: str) -> None:
    partition = DISTRIBUTIONS[name]()
    parts = [partition.getPartition(items, p, q) for p in range(q)]
    assert partition.joinPartitions(parts) == items
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


@given(st.integers(0, 20), st.integers(1, 6), distributions)
@bounded
def test_parts_of_an_array_are_views_and_put_together_are_the_array(
    size: int, q: int, name: str
) -> None:
    partition = DISTRIBUTIONS[name]()
    whole: Any = np.arange(2 * size).reshape(size, 2)
    parts = [partition.getPartition(whole, p, q) for p in range(q)]
    assert all(part.base is not None for part in parts)
    np.testing.assert_array_equal(partition.joinPartitions(parts), whole)


def test_blocks_are_neighbours_and_cards_are_every_qth() -> None:
    assert [Map().getPartition("abcde", p, 2) for p in range(2)] == ["abc", "de"]
    assert [RoundRobinMap().getPartition("abcde", p, 2) for p in range(2)] == ["ace", "bd"]


@pytest.mark.parametrize("partition", [Map(), RoundRobinMap()])
def test_what_has_no_slices_is_dealt_out_too(partition: Map) -> None:
    items: Any = dict.fromkeys("abcde").keys()
    parts = [partition.getPartition(items, p, 2) for p in range(2)]
    assert partition.joinPartitions(parts) == list("abcde")
    assert partition.getPartition(range(10), 0, 2, n=4) == partition.getPartition(range(4), 0, 2)


@pytest.mark.parametrize("partition", [Map(), RoundRobinMap()])
@pytest.mark.parametrize("p", [-1, 2, 3])
def test_a_part_that_is_not_there_is_refused(partition: Map, p: int) -> None:
    with pytest.raises(ValueError, match=rf"p must be 0 .. 1 for q=2 parts, not {p}"):
        partition.getPartition([1, 2, 3], p, 2)


@pytest.mark.parametrize("partition", [Map(), RoundRobinMap()])
def test_nothing_put_together_is_nothing(partition: Map) -> None:
    assert partition.joinPartitions([]) == []
    assert partition.joinPartitions([[], []]) == []


def test_an_array_among_lists_becomes_its_rows() -> None:
    assert Map().joinPartitions([np.array([1, 2]), ["x"]]) == [1, 2, "x"]


@pytest.mark.parametrize("size", [None, 1, 1000])
def test_a_chunk_has_at_least_one_item(size: int | None) -> None:
    check_chunksize(size)


@pytest.mark.parametrize(
    ("size", "error"),
    [(0, ValueError), (-1, ValueError), ("2", TypeError), (1.0, TypeError), (True, TypeError)],
)
def test_any_other_chunk_size_is_refused_by_name(size: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="chunksize must be"):
        check_chunksize(size)
