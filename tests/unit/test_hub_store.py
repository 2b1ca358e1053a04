"""The store on a real file: what comes back, who may open it, what is moved aside."""

from __future__ import annotations

import os
import select
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ipyasyncresult.hub import storefile, storewriter
from ipyasyncresult.hub.store import Store, StoreError
from ipyasyncresult.hub.storefile import file_system

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
36 22 0:30 / /data rw shared:2 - nfs4 server:/data rw
37 36 8:2 / /data/me/local\\040disk rw shared:3 - xfs /dev/sdb1 rw
"""


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Callable[..., Store]]:
    opened: list[Store] = []

    def make(**options: int) -> Store:
        opened.append(Store(tmp_path, **options))  # type: ignore[arg-type]
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def wait_for(store: Store, condition: Callable[[], object]) -> None:
    """Until the store said often enough that something changed."""
    while not condition():
        assert select.select([store.wake], [], [], 10)[0], "nothing more happens"
        store.take_wake()


def written(store: Store, count: int) -> None:
    wait_for(store, lambda: store.stored >= count)


def test_rows_and_frames_come_back_after_it_was_opened_again(
    open_store: Callable[..., Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storewriter, "_PART_BYTES", 4)  # a frame in several parts
    first = open_store()
    assert first.append(1, "me", 7, 1.5, b"header", [b"0123456789", b"", b"xy"]) == 1
    assert first.append(2, "0:abc", 1, 2.5, b"stream") == 2
    written(first, 2)
    first.close()
    again = open_store()
    assert again.stored == 2
    rows = list(again.rows())
    assert [tuple(row) for row in rows] == [
        (1, 1, "me", 7, 1.5, b"header"),
        (2, 2, "0:abc", 1, 2.5, b"stream"),
    ]
    assert again.read(2) == b"stream"
    assert again.read_frames(1, 0, 3) == [b"0123456789", b"", b"xy"]
    assert again.frame_bytes() == {1: 12}
    assert again.append(1, "me", 8, 3.0, b"more") == 3
    with pytest.raises(KeyError):
        again.read(99)


def test_only_its_owner_may_read_it_whatever_the_umask(
    open_store: Callable[..., Store], tmp_path: Path
) -> None:
    before = os.umask(0)
    try:
        store = open_store()
        store.append(1, "me", 0, 0.0, b"x")
        written(store, 1)
        modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert set(modes.values()) == {0o600}, modes


def test_a_second_one_is_refused_and_told_who_has_it(open_store: Callable[..., Store]) -> None:
    open_store()
    with pytest.raises(StoreError, match=rf"pid {os.getpid()}"):
        open_store()


def test_a_file_that_others_may_read_is_refused(
    open_store: Callable[..., Store], tmp_path: Path
) -> None:
    open_store().close()
    (tmp_path / "store.db").chmod(0o640)
    with pytest.raises(StoreError, match="chmod 600"):
        open_store()


@pytest.mark.parametrize("kind", ["damaged", "foreign", "newer"])
def test_what_is_not_ours_is_moved_aside_and_told(
    open_store: Callable[..., Store], tmp_path: Path, kind: str
) -> None:
    open_store().close()
    path = tmp_path / "store.db"
    if kind == "damaged":
        with path.open("r+b") as file:
            file.write(b"x" * 100)
    else:
        change = "application_id = 1" if kind == "foreign" else "user_version = 99"
        database = sqlite3.connect(path)
        database.execute(f"PRAGMA {change}")
        database.close()
    store = open_store()
    assert "moved to" in store.notices[0]
    assert len(list(tmp_path.glob("store.db.2*"))) == 1
    store.append(1, "me", 0, 0.0, b"x")
    written(store, 1)


def test_what_does_not_fit_waits_until_there_is_room(open_store: Callable[..., Store]) -> None:
    store = open_store(max_bytes=120_000)
    store.append(1, "me", 0, 0.0, os.urandom(40_000))
    written(store, 1)
    store.append(1, "me", 0, 0.0, os.urandom(90_000))
    wait_for(store, lambda: store.problem)
    assert "full" in store.problem
    assert store.stored == 1
    assert store.describe()["not_stored"] == 1
    store.delete([1])
    wait_for(store, lambda: not store.problem)
    written(store, 2)
    assert [row.seq for row in store.rows()] == [2]


def test_what_is_deleted_before_it_was_written_never_is(open_store: Callable[..., Store]) -> None:
    store = open_store(max_bytes=60_000)
    large = store.append(1, "me", 0, 0.0, os.urandom(200_000))
    wait_for(store, lambda: store.problem)
    store.append(1, "me", 0, 0.0, b"small")
    store.delete([large])
    written(store, 2)
    assert [row.body for row in store.rows()] == [b"small"]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/x", "ext4"),
        ("/data/me/x", "nfs4"),
        ("/data/me/local disk/x", "xfs"),
        ("/database", "ext4"),
    ],
)
def test_the_kind_of_file_system_is_that_of_the_innermost_mount(path: str, kind: str) -> None:
    assert file_system(Path(path), MOUNTS) == kind


def test_a_store_of_the_version_before_is_read_and_written_on(
    open_store: Callable[..., Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrations = storefile._MIGRATIONS
    monkeypatch.setattr(storefile, "_MIGRATIONS", migrations[:1])
    connection, _ = storefile.open_database(tmp_path / "store.db", survive=True)
    connection.execute("INSERT INTO journal VALUES (1, 1, 'me', 1, 0.0, x'00')")
    connection.execute("INSERT INTO frames VALUES (1, 0, 0, x'0102')")
    connection.close()
    monkeypatch.setattr(storefile, "_MIGRATIONS", migrations)
    store = open_store()
    assert not store.notices
    assert store.read_frames(1, 0, 1) == [b"\x01\x02"]
    store.append(1, "me", 2, 0.0, b"x", [b"frame"])
    written(store, 2)
    assert store.read_frames(2, 0, 1) == [b"frame"]
    assert store.frame_bytes() == {1: 2, 2: 5}
