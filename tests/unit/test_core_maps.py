"""``AsyncMapResult``: items of chunks, in order or as they come."""

from __future__ import annotations

import numpy as np
import pytest

from ipyasyncresult import AsyncMapResult, TimeoutError
from ipyasyncresult.core.partition import Map, RoundRobinMap
from ipyasyncresult.errors import CompositeError, EngineError, RemoteError, TaskAborted
from ipyasyncresult.testing import FakeClient


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


def test_length_progress_and_counts_are_those_of_the_items(client: FakeClient) -> None:
    amr = client.submit_map([3, 3, 1])
    assert (len(amr), amr.progress) == (7, 0)
    client.start(amr.msg_ids[0])
    client.finish(amr.msg_ids[2], ["g"])
    assert amr.progress == 1
    assert amr.counts() == (7, 1, 0, 3)
    assert amr.counts().queued == 3
    client.finish(amr.msg_ids[0], ["a", None, "c"], failures={1: KeyError("b")})
    assert amr.counts() == (7, 4, 1, 0)
    client.lose(amr.msg_ids[1])
    assert amr.counts() == (7, 7, 4, 0)
    assert repr(amr) == "<AsyncMapResult(map): finished, 4 failed>"


def test_chunks_are_put_together_in_order(client: FakeClient) -> None:
    amr = client.submit_map([2, 2, 1])
    first, second, third = amr.msg_ids
    client.finish(third, ["e"])
    client.finish(first, ["a", "b"])
    client.finish(second, ["c", "d"])
    assert amr.get() == list(amr) == ["a", "b", "c", "d", "e"]
    assert (amr[0], amr[2], amr[-1]) == ("a", "c", "e")
    assert amr[1:4] == ["b", "c", "d"]
    with pytest.raises(IndexError):
        amr[5]


def test_an_empty_map_is_finished_and_empty(client: FakeClient) -> None:
    amr = client.submit_map([])
    assert amr.ready()
    assert amr.get() == list(amr) == amr[:] == []
    assert amr.summary() == "nothing to do"
    assert not amr.as_future().cancelled()


def test_dealt_cards_are_put_together_as_they_were(client: FakeClient) -> None:
    amr = client.submit_map([3, 2], partition=RoundRobinMap())
    client.finish(amr.msg_ids[0], [0, 2, 4])
    client.finish(amr.msg_ids[1], [1, 3])
    assert amr.get() == list(amr) == [0, 1, 2, 3, 4]
    assert amr[3] == 3


def test_arrays_of_chunks_are_concatenated(client: FakeClient) -> None:
    amr = client.submit_map([1, 1])
    client.finish(amr.msg_ids[0], np.ones((2, 3)))
    client.finish(amr.msg_ids[1], np.zeros((1, 3)))
    assert amr.get().shape == (3, 3)


def test_one_lost_chunk_beside_arrays_leaves_them_reachable(client: FakeClient) -> None:
    amr = client.submit_map([1, 1])
    client.finish(amr.msg_ids[0], np.ones((2, 3)))
    client.lose(amr.msg_ids[1])
    first, second, error = amr.get(return_exceptions=True)
    assert first.tolist() == second.tolist() == [1, 1, 1]
    assert isinstance(error, EngineError)
    assert amr[0].tolist() == [1, 1, 1]
    with pytest.raises(EngineError):
        amr[2]


# ------------------------------------------------------------------------------------- iteration


def test_an_ordered_map_gives_items_as_soon_as_their_chunk_is_there(client: FakeClient) -> None:
    amr = client.submit_map([2, 1])
    items = iter(amr)
    client.finish(amr.msg_ids[0], ["a", "b"])
    assert [next(items), next(items)] == ["a", "b"]
    client.finish(amr.msg_ids[1], ["c"])
    assert list(items) == ["c"]


def test_an_unordered_map_gives_items_as_they_arrive(client: FakeClient) -> None:
    amr = client.submit_map([1, 2, 1, 1], ordered=False)
    first, second, third, fourth = amr.msg_ids
    client.finish(third, ["d"])
    items = iter(amr)
    assert next(items) == "d"
    client.clock.advance(1)
    client.finish(second, ["b", "c"])
    client.finish(first, ["a"])
    assert [next(items), next(items), next(items)] == ["b", "c", "a"]
    client.finish(fourth, ["e"])
    assert list(items) == ["e"]
    assert list(amr) == ["d", "b", "c", "a", "e"]
    assert amr.get() == ["a", "b", "c", "d", "e"]


async def test_async_iteration_gives_items_while_they_come(client: FakeClient) -> None:
    for ordered, expected in ((True, ["a", "b", "c"]), (False, ["c", "a", "b"])):
        amr = client.submit_map([2, 1], ordered=ordered)
        client.finish(amr.msg_ids[1], ["c"])
        client.clock.advance(1)
        seen = []
        if ordered:
            client.finish(amr.msg_ids[0], ["a", "b"])
        async for item in amr:
            seen.append(item)
            if not amr.ready():
                client.finish(amr.msg_ids[0], ["a", "b"])
        assert seen == expected


async def test_async_iteration_over_dealt_cards_waits_for_all(client: FakeClient) -> None:
    amr = client.submit_map([2, 1], partition=RoundRobinMap())
    client.finish(amr.msg_ids[1], ["b"])
    client.finish(amr.msg_ids[0], ["a", "c"])
    assert [item async for item in amr] == ["a", "b", "c"]


# ---------------------------------------------------------------------------------------- errors


def partly_failed(client: FakeClient) -> AsyncMapResult:
    amr = client.submit_map([3, 2])
    client.finish(
        amr.msg_ids[0], [0, 1, 2], failures={1: ZeroDivisionError("at 1"), 2: KeyError("at 2")}
    )
    client.finish(amr.msg_ids[1], [3, 4])
    return amr


def test_a_failed_item_does_not_lose_its_siblings(client: FakeClient) -> None:
    amr = partly_failed(client)
    assert amr.ok == [0, 3, 4]
    assert [type(error).__mro__[1] for error in amr.failed] == [RemoteError, RemoteError]
    assert amr.status == ["error", "ok"]
    values = amr.get(return_exceptions=True)
    assert [isinstance(value, RemoteError) for value in values] == [False, True, True, False, False]
    assert not amr.successful()


@pytest.mark.parametrize(
    ("partition", "positions"), [(Map(), [1, 3, 4]), (RoundRobinMap(), [1, 2, 3])]
)
def test_failures_are_listed_by_the_position_of_the_item(
    client: FakeClient, partition: Map, positions: list[int]
) -> None:
    amr = client.submit_map([3, 2], partition=partition)
    client.finish(amr.msg_ids[0], [0, None, 4], failures={1: ValueError("x")})
    client.lose(amr.msg_ids[1])
    failures = amr.failures()
    assert sorted(position for position, _ in failures) == positions
    assert ("ValueError: x" in dict(failures).values(), len(amr.failures(2))) == (True, 2)


def test_failed_items_are_raised_grouped_and_one_by_one(client: FakeClient) -> None:
    amr = partly_failed(client)
    with pytest.raises(CompositeError, match="2 of 5 failed") as caught:
        amr.get()
    assert "1 x ZeroDivisionError: at 1" in str(caught.value)
    with pytest.raises(ZeroDivisionError):
        amr[1]
    with pytest.raises(KeyError):
        amr[2:]
    assert (amr[0], amr[3:]) == (0, [3, 4])
    items = iter(amr)
    assert next(items) == 0
    with pytest.raises(ZeroDivisionError):
        next(items)


def test_one_failed_item_is_raised_as_itself(client: FakeClient) -> None:
    amr = client.submit_map([2, 2])
    client.finish(amr.msg_ids[0], [0, 1], failures={0: OSError(2, "gone", "a.txt")})
    client.finish(amr.msg_ids[1], [2, 3])
    with pytest.raises(OSError, match="gone") as caught:
        amr.get()
    assert caught.value.filename == "a.txt"


def test_a_lost_chunk_has_one_error_for_all_its_items(client: FakeClient) -> None:
    amr = client.submit_map([2, 1])
    client.finish(amr.msg_ids[1], ["c"])
    client.lose(amr.msg_ids[0], engine=1)
    with pytest.raises(EngineError, match="engine 1"):
        amr.get()
    assert len(amr.failed) == 2
    assert amr.ok == ["c"]
    with pytest.raises(EngineError):
        amr[1]


def test_an_index_before_the_end_does_not_wait(client: FakeClient) -> None:
    amr = client.submit_map([1, 1])
    client.finish(amr.msg_ids[0], ["a"])
    with pytest.raises(TimeoutError):
        amr[0]


# ------------------------------------------------------------------------------- dict, retry, parts


def test_a_dict_by_engine_has_lists_of_items(client: FakeClient) -> None:
    amr = client.submit_map([2, 1])
    client.finish(amr.msg_ids[0], ["a", "b"], engine=1)
    client.finish(amr.msg_ids[1], ["c"], engine=0)
    assert amr.get_dict() == {1: ["a", "b"], 0: ["c"]}
    assert amr.get_dict(multi=True) == {1: [["a", "b"]], 0: [["c"]]}


def test_a_retried_map_is_a_map_of_the_same_shape(client: FakeClient) -> None:
    amr = client.submit_map([2, 1], ordered=False, fname="square")
    client.abort([amr.msg_ids[0]])
    client.finish(amr.msg_ids[1], ["c"])
    with pytest.raises(TaskAborted):
        amr.get()
    again = amr.retry_failed()
    assert isinstance(again, AsyncMapResult)
    assert (len(again), again.progress, again.fname) == (3, 1, "square")
    client.clock.advance(1)
    client.finish(again.msg_ids[0], ["a", "b"])
    assert again.get() == ["a", "b", "c"]
    assert list(again) == ["c", "a", "b"]


def test_a_split_map_has_a_result_per_chunk(client: FakeClient) -> None:
    amr = client.submit_map([2, 1])
    client.finish(amr.msg_ids[0], ["a", "b"])
    client.finish(amr.msg_ids[1], ["c"])
    assert [part.get() for part in amr.split()] == [["a", "b"], ["c"]]


def test_the_slowest_chunk_is_named_by_its_items(client: FakeClient) -> None:
    amr = client.submit_map([1, 2, 1], describe_item="file{}.py".format)
    for msg_id, seconds in zip(amr.msg_ids, (1, 3, 2), strict=True):
        client.finish(msg_id, [None] * 2, duration=seconds)
    assert amr.summary().endswith("slowest: items 1-2 (3 s)")
    single = client.submit_map([1, 1], describe_item="file{}.py".format)
    client.finish(single.msg_ids[0], ["a"], duration=1)
    client.finish(single.msg_ids[1], ["b"], duration=2)
    assert single.summary().endswith("slowest: item 1: file1.py (2 s)")
    bare = client.submit_map([1, 1])
    client.finish(bare.msg_ids[0], ["a"], duration=2)
    assert bare.summary().endswith("slowest: item 0 (2 s)")
