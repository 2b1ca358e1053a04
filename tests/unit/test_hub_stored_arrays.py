"""Arrays of a store: copied from shared memory, kept once, read again, gone with the last row."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ipyasyncresult.hub import arrayfiles
from ipyasyncresult.hub.arrayfiles import ArrayFiles
from ipyasyncresult.hub.store import Store
from ipyasyncresult.wire.buffers import Reference, encode_reference, reference_of

SIZE = 200_000


def wait_for(store: Store, condition: Callable[[], object]) -> None:
    while not condition():
        assert select.select([store.wake], [], [], 10)[0], "nothing more happens"
        store.take_wake()


class Place:
    """Shared memory and a store beside it."""

    def __init__(self, folder: Path) -> None:
        self.shared, self.folder = folder / "shared", folder / "store"
        self.shared.mkdir()
        self.folder.mkdir()
        self.opened: list[Store] = []

    def open(self, **options: int) -> Store:
        self.opened.append(Store(self.folder, shared=self.shared, **options))  # type: ignore[arg-type]
        return self.opened[-1]

    def write(self, name: str, size: int = SIZE) -> tuple[bytes, bytes]:
        """A segment's reference, and what is in it."""
        data = os.urandom(size)
        (self.shared / name).write_bytes(data)
        return encode_reference(Reference(name, size, [(0, 1000), (1024, size - 1024)])), data

    def copies(self) -> dict[str, int]:
        return {file.name: file.stat().st_size for file in (self.folder / "arrays").glob("*")}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    for store in made.opened:
        store.close()


def stored(store: Store, row: int) -> None:
    wait_for(store, lambda: store.stored >= row)


def test_what_references_lead_to_comes_back_as_frames(place: Place) -> None:
    store = place.open()
    reference, data = place.write("a.1.0")
    row = store.append(1, "me", 1, 0.0, b"x", [b"inline", reference, b"more"])
    assert list(store.take_copied(0)) == []
    stored(store, row)
    assert [list(frames) for frames in store.take_copied(row)] == [[b"inline", reference, b"more"]]
    assert list(store.take_copied(row)) == []
    assert store.read_frames(row, 0, 3, shared=True) == [b"inline", reference, b"more"]
    (place.shared / "a.1.0").unlink()
    store.close()
    again = place.open()
    expected = [b"inline", data[:1000], data[1024:], b"more"]
    assert again.read_frames(row, 0, 3) == expected
    assert again.read_frames(row, 0, 3, shared=True) == expected
    assert again.frame_bytes() == {row: SIZE + 10}
    modes = [path.stat().st_mode & 0o777 for path in (place.folder / "arrays").rglob("*")]
    assert modes == [0o600]
    assert (place.folder / "arrays").stat().st_mode & 0o777 == 0o700


def test_an_array_is_kept_once_until_the_last_row_with_it_goes(place: Place) -> None:
    store = place.open()
    reference, data = place.write("a.1.0")
    rows = [store.append(1, "me", n, 0.0, b"x", [reference] * 2) for n in (1, 2)]
    stored(store, rows[-1])
    assert place.copies() == {"a.1.0": SIZE}
    assert store.describe()["bytes"] < 2 * SIZE
    store.delete_frames(rows[0], 0, 1)
    store.delete([rows[1]])
    after = store.append(1, "me", 3, 0.0, b"x")
    stored(store, after)
    assert store.read_frames(rows[0], 1, 1) == [data[:1000], data[1024:]]
    store.delete([rows[0]])
    last = store.append(1, "me", 4, 0.0, b"x")
    stored(store, last)
    with pytest.raises(KeyError):
        store.read_frames(rows[0], 1, 1)


def test_files_of_arrays_that_went_are_written_over_and_do_not_outlive_a_start(
    place: Place,
) -> None:
    store = place.open()
    first, _ = place.write("a.1.0")
    row = store.append(1, "me", 1, 0.0, b"x", [first])
    stored(store, row)
    inode = (place.folder / "arrays" / "a.1.0").stat().st_ino
    store.delete([row])
    second, data = place.write("a.1.1", SIZE - 5000)
    row = store.append(1, "me", 2, 0.0, b"x", [second])
    stored(store, row)
    assert place.copies() == {"a.1.1": SIZE}
    assert (place.folder / "arrays" / "a.1.1").stat().st_ino == inode
    assert store.read_frames(row, 0, 1) == [data[:1000], data[1024:]]
    store.delete([row])
    stored(store, store.append(1, "me", 3, 0.0, b"x"))
    store.close()
    place.open()
    assert place.copies() == {}


def test_what_a_killed_hub_had_begun_to_copy_is_removed(place: Place) -> None:
    place.open().close()
    (place.folder / "arrays").mkdir(mode=0o700)
    (place.folder / "arrays" / "a.7.0").write_bytes(b"half of it")
    place.open()
    assert place.copies() == {}


def test_a_segment_that_is_gone_is_missed_by_who_reads_it_and_holds_up_nobody(
    place: Place,
) -> None:
    store = place.open()
    reference, _ = place.write("a.1.0")
    (place.shared / "a.1.0").unlink()
    row = store.append(1, "me", 1, 0.0, b"x", [reference])
    stored(store, row)
    assert store.read(row) == b"x"
    with pytest.raises(KeyError):
        store.read_frames(row, 0, 1)


def test_arguments_of_a_task_that_ended_meanwhile_are_not_copied_but_its_result_is(
    place: Place,
) -> None:
    store = place.open(max_bytes=SIZE)
    blocker, _ = place.write("b.1.0", 2 * SIZE)
    reference, data = place.write("a.1.0", SIZE // 4)
    result, _ = place.write("e.1.0", SIZE // 4)
    blocking = store.append(1, "me", 1, 0.0, b"x", [blocker])
    wait_for(store, lambda: "full" in store.problem)
    submit = store.append(1, "me", 2, 0.0, b"submit", [reference, reference])
    end = store.append(2, "0:e", 1, 0.0, b"end", [result])
    store.delete_frames(submit, 0, 2)
    store.delete_frames(blocking, 0, 1)
    stored(store, end)
    assert place.copies() == {"e.1.0": SIZE // 4}
    # A result that is what came as an argument is kept all the same.
    submit = store.append(1, "me", 3, 0.0, b"submit", [reference])
    end = store.append(2, "0:e", 2, 0.0, b"end", [reference])
    store.delete_frames(submit, 0, 1)
    stored(store, end)
    assert store.read_frames(end, 0, 1) == [data[:1000], data[1024:]]


def test_an_array_that_does_not_fit_waits_until_there_is_room(place: Place) -> None:
    store = place.open(max_bytes=2 * SIZE)
    first, _ = place.write("a.1.0")
    second, data = place.write("a.2.0")
    one = store.append(1, "me", 1, 0.0, b"x", [first])
    stored(store, one)
    two = store.append(1, "me", 2, 0.0, b"x", [second])
    wait_for(store, lambda: "full" in store.problem)
    assert list(store.take_copied(two)) == [[first]]
    store.delete([one])
    stored(store, two)
    assert not store.problem
    assert store.read_frames(two, 0, 1) == [data[:1000], data[1024:]]
    assert sum(place.copies().values()) <= 2 * SIZE


def test_a_copy_that_is_not_wanted_any_more_stops_and_goes_on_for_another_one(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrayfiles, "_PIECE", 10_000)
    files = ArrayFiles(place.folder / "arrays", place.shared, survive=True)
    encoded, data = place.write("a.1.0")
    reference = reference_of(encoded)
    assert reference is not None
    asked = iter([True, True, True, False])
    assert not files.keep(reference, lambda: next(asked), None)
    assert place.copies() == {"a.1.0": 30_000}
    assert not files.kept
    assert files.keep(reference, lambda: True, None)
    assert files.kept == {"a.1.0": SIZE}
    assert files.read(reference) == [data[:1000], data[1024:]]
    files.forget(["a.1.0"])
    assert files.has_spare()
    files.drop_spare()
    assert place.copies() == {}
    assert files.size == 0
    asked = iter([True, False])
    assert not files.keep(reference, lambda: next(asked), None)
    assert files.has_spare()  # the half of it, too, when nothing follows
    files.drop_spare()
    assert place.copies() == {}
    assert not files.has_spare()
