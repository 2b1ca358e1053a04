"""Who uses which shared memory, and when it may be written again."""

from __future__ import annotations

import msgspec
import pytest

from ipyasyncresult.hub.archive import Archive
from ipyasyncresult.hub.segments import Segments
from ipyasyncresult.hub.state import HubState
from ipyasyncresult.wire.buffers import KEPT_APART, READ, Reference, encode_reference
from ipyasyncresult.wire.messages import Finished, Task

MB = 1 << 20


def frame(name: str, size: int = MB) -> bytes:
    return encode_reference(Reference(name, size, [(0, size)]))


@pytest.fixture
def segments() -> Segments:
    return Segments(read_budget=10 * MB)


def test_an_argument_is_free_when_the_task_ended_and_the_engine_let_go(segments: Segments) -> None:
    a = [frame("client.1.0")]
    segments.add_work(a)
    segments.lend("engine", a)
    segments.end_work(a)
    assert not segments.free
    segments.give_back("engine", [("client.1.0", 0)])
    assert segments.free == {"client": ["client.1.0"]}
    assert segments.in_use() == set()


def test_what_an_engine_keeps_in_its_namespace_is_not_free(segments: Segments) -> None:
    a = [frame("client.1.0")]
    segments.add_work(a)
    segments.lend("engine", a)
    segments.lend("engine", a)
    segments.end_work(a)
    segments.give_back("engine", [("client.1.0", 0)])
    assert not segments.free


def test_a_result_is_kept_as_long_as_somebody_holds_it(segments: Segments) -> None:
    a = [frame("engine.1.0", 100 * MB)]
    segments.add_result(a)
    segments.lend("client", a)
    assert segments.in_use() == {"engine.1.0"}
    assert not segments.free


def test_a_large_result_that_was_read_and_let_go_is_free_at_once(segments: Segments) -> None:
    a = [frame("engine.1.0", 100 * MB)]
    segments.add_result(a)
    segments.lend("client", a)
    segments.give_back("client", [("engine.1.0", READ)])
    assert segments.free == {"engine": ["engine.1.0"]}
    assert segments.kept_bytes == 0


def test_a_result_that_nobody_read_is_kept(segments: Segments) -> None:
    a = [frame("engine.1.0", 100 * MB)]
    segments.add_result(a)
    segments.lend("client", a)
    segments.give_back("client", [("engine.1.0", 0)])
    assert not segments.free
    segments.forget(a)
    assert segments.free == {"engine": ["engine.1.0"]}


def test_results_that_were_let_go_are_kept_within_a_budget(segments: Segments) -> None:
    for number in range(4):
        a = [frame(f"engine.{number}.0", 4 * MB)]
        segments.add_result(a)
        segments.lend("client", a)
        segments.give_back("client", [(f"engine.{number}.0", READ)])
    assert segments.free == {"engine": ["engine.0.0", "engine.1.0"]}
    assert segments.kept_bytes == 8 * MB


def test_a_result_that_is_asked_for_again_is_held_again(segments: Segments) -> None:
    a = [frame("engine.1.0", 4 * MB)]
    segments.add_result(a)
    segments.lend("client", a)
    segments.give_back("client", [("engine.1.0", READ)])
    segments.lend("other", a)
    for number in range(2, 6):
        b = [frame(f"engine.{number}.0", 4 * MB)]
        segments.add_result(b)
        segments.lend("client", b)
        segments.give_back("client", [(f"engine.{number}.0", READ)])
    assert "engine.1.0" in segments.in_use()


def test_what_a_lost_process_had_mapped_is_never_written_again(segments: Segments) -> None:
    a = [frame("engine.1.0")]
    segments.add_result(a)
    segments.lend("client", a)
    segments.gone("client")
    segments.forget(a)
    assert not segments.free
    assert segments.drops == {"engine": ["engine.1.0"]}
    assert segments.departed == ["client"]


def test_what_a_forked_child_may_see_is_never_written_again(segments: Segments) -> None:
    a = [frame("client.1.0")]
    segments.add_work(a)
    segments.lend("engine", a)
    segments.end_work(a)
    segments.give_back("engine", [("client.1.0", KEPT_APART)])
    assert segments.drops == {"client": ["client.1.0"]}


def test_an_argument_that_is_also_a_read_result_stays_for_the_task(segments: Segments) -> None:
    a = [frame("client.1.0", 100 * MB)]
    segments.add_work(a)
    segments.add_result(a)
    segments.lend("client", a)
    segments.give_back("client", [("client.1.0", READ)])
    assert not segments.free
    segments.end_work(a)
    assert segments.free == {"client": ["client.1.0"]}


def test_memory_that_rests_is_given_back_but_not_when_it_is_used_again(segments: Segments) -> None:
    for name in ("client.1.0", "client.2.0"):
        segments.add_work([frame(name)])
        segments.end_work([frame(name)])
    segments.rest()
    segments.add_work([frame("client.1.1")])
    segments.rest()
    assert segments.rests == {"client": ["client.2.1"]}


def test_frames_that_are_no_references_are_no_business_of_it(segments: Segments) -> None:
    strange = [b"", b"x" * 10, encode_reference(Reference("a/../b", 1, [])), b"y" * (1 << 20)]
    segments.add_work(strange)
    segments.lend("engine", strange)
    segments.give_back("engine", [("a/../b", 0), ("client.1.0", READ)])
    segments.end_work(strange)
    segments.forget(strange)
    assert not segments.in_use()
    assert not segments.free


# --------------------------------------------------------------------------- within the hub


def test_a_failed_task_keeps_its_arguments_until_it_is_forgotten() -> None:
    archive = Archive()
    state = HubState(archive)
    task = Task("t1", 0, b"", frames=1)
    state.submit("client", [b"f"], [task], [frame("client.1.0")], None, 0.0)
    held = state.tasks["t1"]
    lost = Finished("t1", 1, b"", 0, 0.0, 0.0, 0.0)
    held.final = lost
    archive.finish(held, (), keep_work=True)
    assert archive.segments.in_use() == {"client.1.0"}
    assert archive.segments.kept_bytes == MB
    archive.forget(None)
    assert archive.segments.free == {"client": ["client.1.0"]}


def test_results_in_shared_memory_count_for_the_limit_of_the_archive() -> None:
    archive = Archive(limit=3 * MB)
    state = HubState(archive)
    for number in range(3):
        task = Task(f"t{number}", 0, b"")
        state.submit("client", [b"f"], [msgspec.structs.replace(task)], (), None, 0.0)
        held = state.tasks[f"t{number}"]
        held.final = Finished(f"t{number}", 0, b"", 1, 0.0, 0.0, 0.0)
        archive.finish(held, [frame(f"engine.{number}.0", 2 * MB)], keep_work=False)
    assert list(state.tasks) == ["t2"]
    assert archive.segments.free == {"engine": ["engine.0.0", "engine.1.0"]}


# ------------------------------------------------------------------------------- with a store


def test_what_the_store_has_not_copied_is_not_free() -> None:
    segments = Segments(stored=True)
    a = [frame("client.1.0"), b"x" * 10]
    segments.add_unstored(a)
    segments.add_work(a)
    segments.lend("engine", a)
    segments.give_back("engine", [("client.1.0", 0)])
    segments.end_work(a)
    assert not segments.free
    assert segments.have(a)
    segments.end_unstored(a)
    assert segments.free == {"client": ["client.1.0"]}
    assert not segments.have(a)


def test_a_result_that_the_store_has_is_free_when_nobody_holds_it_read_or_not() -> None:
    segments = Segments(stored=True)
    a = [frame("engine.1.0")]
    segments.add_unstored(a)
    segments.add_result(a)
    segments.lend("client", a)
    segments.end_unstored(a)
    assert segments.have(a)
    segments.give_back("client", [("engine.1.0", 0)])
    assert segments.free == {"engine": ["engine.1.0"]}
    segments.forget(a)
    assert segments.kept_bytes == 0


def test_what_another_hub_left_is_never_written_again_and_what_came_since_is() -> None:
    segments = Segments(stored=True, inherited={"client.1.0"})
    spoken_of: list[str] = []
    segments.revive = spoken_of.append
    for name in ("client.1.0", "client.2.0"):
        segments.add_work([frame(name)])
        segments.end_work([frame(name)])
    assert segments.drops == {"client": ["client.1.0"]}
    assert segments.free == {"client": ["client.2.0"]}
    assert spoken_of == ["client.1.0", "client.2.0"]
