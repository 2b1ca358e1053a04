"""What the hub delivers becomes records, values and errors."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import zmq

from ipyasyncresult.client.codec import WireCodec
from ipyasyncresult.client.news import apply_news
from ipyasyncresult.core.asyncresult import AsyncResult
from ipyasyncresult.core.ledger import Ledger
from ipyasyncresult.core.outcome import outcome_of
from ipyasyncresult.core.outputs import Output, encode_outputs
from ipyasyncresult.core.partition import ChunkResult
from ipyasyncresult.core.task import Status, TaskRecord
from ipyasyncresult.errors import CompositeError, EngineError, ResultDecodeError, TaskAborted
from ipyasyncresult.testing import FakeClient
from ipyasyncresult.wire import messages as m
from ipyasyncresult.worker.failures import describe_failure
from ipyasyncresult.worker.functions import dump_result

ENGINES = {1: {"uuid": "abc"}}


@pytest.fixture
def client() -> FakeClient:
    """A fake client whose results are decoded as those of the own engines."""
    made = FakeClient()
    made.ledger = Ledger(WireCodec(), clock=made.clock)
    return made


def tell(client: FakeClient, *items: Any, frames: tuple[Any, ...] = ()) -> None:
    with client.ledger.batch() as batch:
        apply_news(batch, m.News(list(items)), frames, ENGINES)


def ended(msg_id: str, body: bytes, status: int = m.OK, **fields: Any) -> m.Finished:
    known: dict[str, Any] = {"engine_id": 1, "frames": 0, "failed_items": int(status != m.OK)}
    return m.Finished(
        msg_id, status, body, started=1.0, completed=3.0, duration=1.5, **(known | fields)
    )


# ---------------------------------------------------------------------------------- news to records


def test_a_task_is_followed_from_start_to_end(client: FakeClient) -> None:
    ar = client.submit("f")
    [msg_id] = ar.msg_ids
    record = ar.records[0]
    tell(client, m.Started(msg_id, 0, 1.0))
    assert (record.status, record.engine_id, record.started) == (Status.RUNNING, 0, 1.0)
    tell(client, m.Requeued(msg_id))
    assert (record.status, record.engine_id, record.started) == (Status.PENDING, None, None)
    printed = encode_outputs([Output("stdout", 2.0, "x")])
    tell(client, m.OutputPiece(msg_id, printed), ended(msg_id, dump_result(42)[0]))
    assert (record.engine_id, record.engine_uuid) == (1, "abc")
    assert (record.started, record.completed, record.duration) == (1.0, 3.0, 1.5)
    assert (ar.stdout, ar.get()) == ("x", 42)


def test_an_engine_that_is_no_longer_known_has_no_uuid(client: FakeClient) -> None:
    ar = client.submit("f")
    tell(client, ended(ar.msg_ids[0], dump_result(1)[0], engine_id=9))
    assert (ar.engine_id, ar.engine_uuid, ar.get()) == (9, None, 1)


def test_frames_go_to_the_results_that_they_belong_to(client: FakeClient) -> None:
    ar = client.submit("f", 3)
    arrays = [np.full(20_000, number) for number in range(2)]
    (first, first_buffers), (last, last_buffers) = (dump_result(array) for array in arrays)
    frames = tuple(zmq.Frame(buffer) for buffer in (*first_buffers, *last_buffers))
    assert len(frames) == 2
    ids = ar.msg_ids
    tell(
        client,
        ended(ids[0], first, frames=1),
        ended("somebody else's", b"", frames=0),
        ended(ids[1], dump_result("no frames")[0]),
        ended(ids[2], last, frames=1),
        frames=frames,
    )
    np.testing.assert_array_equal(ar[0], arrays[0])
    assert ar[1] == "no frames"
    np.testing.assert_array_equal(ar[2], arrays[1])


def test_one_output_that_cannot_be_read_costs_no_result(client: FakeClient) -> None:
    ar = client.submit("f", 2)
    bad = encode_outputs([Output("display_data", 0.0, data={5: "not text"})])  # type: ignore[dict-item]
    ends = [ended(msg_id, dump_result(1)[0]) for msg_id in ar.msg_ids]
    tell(client, m.OutputPiece(ar.msg_ids[0], bad), *ends)
    assert ar.get() == [1, 1]
    assert "an output could not be read: Expected `str`, got `int`" in ar.stderr[0]


# ------------------------------------------------------------------------------- values and errors


def test_an_error_is_rebuilt_with_its_place(client: FakeClient) -> None:
    ar = client.submit("f", label="night")
    tell(client, ended(ar.msg_ids[0], describe_failure(KeyError("k")), m.ERROR))
    with pytest.raises(KeyError) as caught:
        ar.get()
    assert f"engine 1, task {ar.msg_ids[0]} (night)" in str(caught.value)


def test_a_chunk_with_failures_keeps_its_good_values(client: FakeClient) -> None:
    amr = client.submit_map([3])
    chunk = ChunkResult([1, None, 3], {1: describe_failure(KeyError("k"))})
    tell(client, ended(amr.msg_ids[0], dump_result(chunk)[0], m.PARTIAL))
    assert (amr.ok, amr.status, amr.counts().failed) == ([1, 3], ["error"], 1)
    with pytest.raises(KeyError):
        amr.get()


class Bomb:
    """Does something when it is unpickled."""

    def __init__(self, call: Callable[..., object], *args: object) -> None:
        self.reduced = call, args

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.reduced


@pytest.mark.parametrize(
    "body",
    [
        b"no pickle",
        pickle.dumps(Bomb(int, "x")),
        pickle.dumps(Bomb(exit, 3)),
        dump_result([1, 2])[0][:-1],
        b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00cnope\nx\n.",
    ],
    ids=["bytes", "raises", "exits", "cut", "missing"],
)
def test_a_result_that_cannot_be_unpickled_fails_alone_and_keeps_its_bytes(
    client: FakeClient, body: bytes
) -> None:
    ar = client.submit("f", 2)
    tell(client, ended(ar.msg_ids[0], body), ended(ar.msg_ids[1], dump_result(2)[0]))
    with pytest.raises(ResultDecodeError, match=r"\(engine 1\) arrived, but cannot be unpickled"):
        ar.get()
    assert ar.ok == [2]
    assert ar.failed[0].__cause__ is not None
    assert ar.records[0].raw[1] == body


def test_two_threads_may_decode_one_result(client: FakeClient) -> None:
    ar = client.submit("f")
    tell(client, ended(ar.msg_ids[0], dump_result([1])[0]))
    record = ar.records[0]
    client.ledger.codec.decode(record)
    client.ledger.codec.decode(record)  # the second one comes late
    assert outcome_of(client.ledger.codec, record) == [[1]]


# ------------------------------------------------------------------------------------------ losses


def lost(record_of: AsyncResult, **details: Any) -> m.LostTask:
    engine_id = details.pop("engine_id", 1)
    return m.LostTask(record_of.msg_ids[0], "engine", details, engine_id)


def test_an_aborted_task_says_so(client: FakeClient) -> None:
    ar = client.submit("f")
    tell(client, m.LostTask(ar.msg_ids[0], "aborted", {}))
    assert ar.aborted()
    with pytest.raises(TaskAborted):
        ar.get()


def test_whose_task_was_lost_is_not_up(client: FakeClient) -> None:
    """The error comes before the news of the death: who waits for engines then waits."""
    engines: dict[int, dict[str, Any]] = {0: {"uuid": "dead"}, 1: {"uuid": "next"}}
    for engine_id in engines:
        item = m.LostTask(client.submit("f").msg_ids[0], "engine", {"uuid": "dead"}, engine_id)
        with client.ledger.batch() as batch:
            apply_news(batch, m.News([item]), (), engines)
    assert engines == {0: {"uuid": "dead", "up": False}, 1: {"uuid": "next"}}


@pytest.mark.parametrize(
    ("details", "text"),
    [
        ({"pid": 7, "signal": "SIGSEGV"}, r"engine 1 \(pid 7\) died under task .*: SIGSEGV$"),
        ({"pid": 7, "exit_code": 3}, r"died under task .*: exit code 3$"),
        ({"pid": 7, "exit_code": 0}, r"died under task .*: exit code 0$"),
        ({"pid": 7, "signal": "SIGKILL"}, r"(?s)SIGKILL\n.*when memory runs out"),
        ({}, r"died under task .*: gone$"),
        ({"ended": True, "signal": "SIGKILL"}, "after task .* before its result had left: SIGKILL"),
        ({"engine_id": -1, "reason": "all died"}, r"no engine is left to run task .*: all died$"),
        ({"stderr": "a\n" * 50 + "last words\n"}, r"(?s)stderr:\n.*  last words$"),
    ],
)
def test_a_lost_task_tells_how_its_engine_died(
    client: FakeClient, details: dict[str, Any], text: str
) -> None:
    ar = client.submit("f")
    tell(client, lost(ar, **details))
    with pytest.raises(EngineError, match=text) as caught:
        ar.get()
    assert (ar.status, len(str(caught.value).splitlines()) < 10) == ("lost", True)
    error: Any = caught.value
    assert (error.msg_id, error.pid) == (ar.msg_ids[0], details.get("pid"))


def test_a_crash_shows_its_kind_and_innermost_frames(client: FakeClient) -> None:
    ar = client.submit("f")
    frames = [f'  File "f.py", line {number} in f{number}' for number in range(30)]
    stderr = "\n".join(
        ["Fatal Python error: Segmentation fault", "", "Current thread 0x1:", *frames]
    )
    tell(client, lost(ar, signal="SIGSEGV", stderr=stderr))
    shown = str(ar.exception())
    assert "Fatal Python error: Segmentation fault\n" in shown
    assert "in f0\n" in shown
    assert "in f29" not in shown


@pytest.mark.parametrize(
    "innermost", ["", '  File "/x/ipyasyncresult/worker/pickling.py", line 9 in dump\n']
)
def test_a_crash_shows_our_frames_only_where_it_was_in_them(
    client: FakeClient, innermost: str
) -> None:
    ar = client.submit("f")
    stderr = (
        f"Fatal Python error: Aborted\n\nCurrent thread 0x1:\n{innermost}"
        '  File "f.py", line 3 in f\n'
        '  File "/x/ipyasyncresult/worker/loaded.py", line 134 in __call__\n'
        '  File "<frozen runpy>", line 88 in _run_code\n'
    )
    tell(client, lost(ar, signal="SIGABRT", stderr=stderr))
    shown = str(ar.exception())
    assert "line 3 in f" in shown
    assert ("runpy" in shown) == ("loaded.py" in shown) == bool(innermost)


def test_the_last_output_of_a_lost_task_is_in_its_error(client: FakeClient) -> None:
    ar = client.submit("f")
    said = [Output("stdout", 0.0, f"step {number}\n") for number in range(9)]
    tell(client, m.OutputPiece(ar.msg_ids[0], encode_outputs(said)), lost(ar))
    assert "last output:\n  step 4\n" in str(ar.exception())


def test_several_losses_are_told_together(client: FakeClient) -> None:
    ar = client.submit("f", 2)
    for msg_id in ar.msg_ids:
        tell(client, m.LostTask(msg_id, "engine", {"signal": "SIGKILL"}, 0))
    with pytest.raises(CompositeError, match="2 of 2 failed"):
        ar.get()


def test_a_codec_leaves_what_is_decoded_alone() -> None:
    record = TaskRecord("a", None)
    WireCodec().decode(record)
    assert (record.raw, record.error) == (None, None)
