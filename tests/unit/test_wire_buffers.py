"""Buffers through shared memory: what arrives is what left, and nothing changes under anybody."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ipyasyncresult.wire.buffers import (
    KEPT_APART,
    READ,
    BufferList,
    Buffers,
    next_name,
    reference_of,
)
from ipyasyncresult.wire.messages import Segments
from ipyasyncresult.wire.segmentowner import name_owner
from ipyasyncresult.wire.sharedfolder import (
    bytes_in_use,
    clean_stale_arrays,
    find_arrays_folder,
    make_arrays_folder,
    remove_arrays_folder,
)

SIZE = 1 << 20


class Side:
    """One process' side of it, and what it said that it released."""

    def __init__(self, folder: Path | None, owner: str) -> None:
        self.released: list[tuple[str, int]] = []
        self.reclaims = 0
        self.folder = folder
        self.buffers = Buffers(
            folder, owner, lambda name, bits: self.released.append((name, bits)), self._reclaim
        )

    def _reclaim(self) -> None:
        self.reclaims += 1

    def send(self, *arrays: Any) -> list[Any]:
        return list(self.buffers.pack([memoryview(array).cast("B") for array in arrays]))

    def recycle(self, *names: str) -> None:
        """As the hub does it."""
        for name in names:
            if self.folder is not None:
                (self.folder / name).rename(self.folder / next_name(name))
        self.buffers.heed(Segments(list(names), [], []))

    def receive(self, frames: list[Any]) -> list[Any]:
        received = BufferList(self.buffers.unpack(frames))
        return [np.frombuffer(buffer, dtype=np.uint8) for buffer in received]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "cluster"
    folder.mkdir(mode=0o700)
    yield folder
    remove_arrays_folder(folder)


NewSide = Callable[[str], Side]


@pytest.fixture
def new_side(cluster: Path) -> NewSide:
    folder = make_arrays_folder(cluster)
    return lambda owner: Side(folder, owner)


def array(value: int, size: int = SIZE) -> Any:
    return np.full(size, value, dtype=np.uint8)


def name_of(frame: Any) -> str:
    reference = reference_of(frame)
    assert reference is not None
    return reference.name


def test_what_arrives_is_what_left_and_read_only(new_side: NewSide) -> None:
    here, there = new_side("a"), new_side("b")
    frames = here.send(array(1), array(2, 70_001))
    assert len(frames) == 1
    first, second = there.receive(frames)
    assert (first == array(1)).all()
    assert (second == array(2, 70_001)).all()
    assert not first.flags.writeable
    with pytest.raises(ValueError, match="WRITEABLE"):
        first.flags.writeable = True


def test_it_is_released_when_the_last_view_is_gone(new_side: NewSide) -> None:
    here, there = new_side("a"), new_side("b")
    frames = here.send(array(1), array(2))
    first, second = there.receive(frames)
    part = second[100:200]
    del first, second
    assert there.released == []
    assert part[0] == 2
    del part
    assert there.released == [("a.1.0", READ)]


def test_what_is_thrown_away_unread_says_so(new_side: NewSide) -> None:
    here, there = new_side("a"), new_side("b")
    there.buffers.unpack(here.send(array(1)))
    assert there.released == [("a.1.0", 0)]


def test_free_memory_is_written_again_under_a_new_name(new_side: NewSide) -> None:
    here, there = new_side("a"), new_side("b")
    assert name_of(here.send(array(1))[0]) == "a.1.0"
    assert name_of(here.send(array(2))[0]) == "a.2.0"
    here.recycle("a.1.0")
    frames = here.send(array(3))
    assert name_of(frames[0]) == "a.1.1"
    (received,) = there.receive(frames)
    assert (received == 3).all()


def test_a_reference_to_what_was_written_anew_is_an_error_and_no_other_data(
    new_side: NewSide,
) -> None:
    here, there = new_side("a"), new_side("b")
    old = here.send(array(1))
    here.recycle("a.1.0")
    here.send(array(2))
    with pytest.raises(BufferError, match="not kept any more"):
        there.receive(old)
    assert there.released == [("a.1.0", 0)]


def test_before_new_memory_is_taken_the_hub_is_asked(new_side: NewSide) -> None:
    here = new_side("a")
    here.send(array(1))
    here.send(array(2))
    here.send(array(2, 100_000))
    assert here.reclaims == 1


def test_received_memory_is_sent_on_without_a_copy(new_side: NewSide) -> None:
    here, there = new_side("a"), new_side("b")
    (received,) = there.receive(here.send(np.arange(SIZE, dtype=np.uint8)))
    frames = there.send(received[70_000:200_000], array(5))
    assert name_of(frames[0]) == "a.1.0"
    assert name_of(frames[1]) == "b.1.0"
    back, other = here.receive(frames)
    assert (back == received[70_000:200_000]).all()
    assert (other == 5).all()


def test_a_copy_at_the_address_of_released_memory_is_not_mistaken_for_it(
    new_side: NewSide,
) -> None:
    here, there = new_side("a"), new_side("b")
    for value in range(20):
        (received,) = there.receive(here.send(array(value, 32 * SIZE)))
        del received
        other = array(100 + value, 32 * SIZE)  # the allocator likes the place that was just left
        other.flags.writeable = False
        frames = there.send(other)
        assert name_of(frames[0]).startswith("b.")
        here.recycle(*[name for name, _ in there.released])
        there.released.clear()
        there.recycle(name_of(frames[0]))


def test_a_fork_keeps_what_is_mapped_apart(new_side: NewSide) -> None:
    here, there = new_side("a"), new_side("b")
    (before,) = there.receive(here.send(array(1)))
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            del before
            code = len(there.released)  # the child has nothing to say
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    (after,) = there.receive(here.send(array(2)))
    del before, after
    assert there.released == [("a.1.0", READ | KEPT_APART), ("a.2.0", READ)]


def test_a_full_file_system_means_that_frames_travel_inside_the_message(cluster: Path) -> None:
    here = Side(make_arrays_folder(cluster, limit=3 * SIZE), "a")
    assert reference_of(here.send(array(1, 2 * SIZE))[0]) is not None
    sent = array(2, 2 * SIZE)
    (frame,) = here.send(sent)
    assert reference_of(frame) is None
    assert bytes(frame) == sent.tobytes()
    here.recycle("a.1.0")
    (frame,) = here.send(array(3, SIZE // 2))  # room is made: what is free goes first
    assert reference_of(frame) is not None
    (frame,) = here.send(array(4, 2 * SIZE))
    assert reference_of(frame) is not None


def test_dropped_memory_is_gone(new_side: NewSide, cluster: Path) -> None:
    here = new_side("a")
    folder = find_arrays_folder(cluster)
    assert folder is not None
    name_owner(folder, "a")
    before = bytes_in_use(folder)
    here.send(array(1, 16 * SIZE))
    assert bytes_in_use(folder) >= before + 16 * SIZE
    here.recycle("a.1.0")
    here.buffers.heed(Segments([], [], ["a.1.1"]))
    assert bytes_in_use(folder) == before
    assert name_of(here.send(array(1))[0]) == "a.2.0"
    here.buffers.heed(Segments([], [], ["a.2.0"]))  # it is in use again
    assert bytes_in_use(folder) > before
    here.buffers.heed(Segments([], ["a.2.0"], []))  # it never comes back
    assert bytes_in_use(folder) == before


def test_what_was_received_stays_when_everything_is_closed(
    new_side: NewSide, cluster: Path
) -> None:
    here, there = new_side("a"), new_side("b")
    (received,) = there.receive(here.send(array(7)))
    there.buffers.close()
    here.buffers.close()
    remove_arrays_folder(cluster)
    assert (received == 7).all()
    assert reference_of(here.send(array(1))[0]) is None
    del received
    assert there.released == []


def test_without_a_folder_everything_travels_inside_the_message() -> None:
    here = Side(None, "a")
    sent = array(1)
    (frame,) = here.send(sent)
    assert bytes(frame) == sent.tobytes()


def test_a_folder_whose_cluster_is_gone_is_removed_later(
    cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_arrays_folder(cluster)
    (cluster / "arrays").unlink()
    clean_stale_arrays()
    assert folder.exists()  # it may be just being made
    os.utime(folder, (0, 0))
    clean_stale_arrays()
    assert not folder.exists()
    kept = make_arrays_folder(cluster)
    os.utime(kept, (0, 0))
    clean_stale_arrays()
    assert kept.exists()
