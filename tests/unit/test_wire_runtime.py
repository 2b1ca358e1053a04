"""The private folder of a cluster: what is accepted, what is refused, and why."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipyasyncresult.wire import runtime
from ipyasyncresult.wire.runtime import (
    ClusterFile,
    RuntimeFolderError,
    cluster_folder,
    new_cluster_id,
    read_cluster_file,
    remove_folder,
    runtime_folder,
    write_cluster_file,
)

DESCRIBED = ClusterFile(cluster_id="a", pid=4711, started=1.5, package="0.1", python="3.11")


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The runtime folder of this user, by a path that is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="ipar-") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_the_folder_is_made_private_whatever_the_umask(base: Path) -> None:
    before = os.umask(0)
    try:
        folder = runtime_folder()
        inner = cluster_folder("a", create=True)
    finally:
        os.umask(before)
    assert (folder, inner) == (base / "ipyasyncresult", base / "ipyasyncresult" / "a")
    assert (mode(folder), mode(inner)) == (0o700, 0o700)
    assert runtime_folder() == folder


@pytest.mark.parametrize("variable", [None, "", "/no/such/folder"])
def test_without_a_runtime_folder_of_the_system_it_lies_among_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str | None
) -> None:
    if variable is None:
        monkeypatch.delenv("XDG_RUNTIME_DIR")
    else:
        monkeypatch.setenv("XDG_RUNTIME_DIR", variable)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    assert runtime_folder() == tmp_path / f"ipyasyncresult-{os.getuid()}"


@pytest.mark.parametrize("what", ["link", "dangling", "file"])
def test_a_link_or_a_file_in_its_place_is_refused(base: Path, what: str) -> None:
    place = base / "ipyasyncresult"
    if what == "file":
        place.touch()
    else:
        place.symlink_to(base if what == "link" else base / "nothing")
    with pytest.raises(
        RuntimeFolderError, match="must be a folder, not a link or a file: remove it"
    ):
        runtime_folder()
    assert not (base / "nothing").exists()


@pytest.mark.parametrize("others", [0o701, 0o710, 0o704, 0o777])
def test_a_folder_that_others_may_enter_is_refused_with_what_mends_it(
    base: Path, others: int
) -> None:
    folder = runtime_folder()
    folder.chmod(others)
    with pytest.raises(RuntimeFolderError, match=f"run  chmod 700 {folder}"):
        runtime_folder()
    folder.chmod(0o700)
    (folder / "a").mkdir()
    (folder / "a").chmod(others)
    with pytest.raises(RuntimeFolderError, match="others may enter"):
        cluster_folder("a")


def test_a_folder_of_somebody_else_is_refused(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: mine + 1)
    with pytest.raises(RuntimeFolderError, match=f"belongs to user {mine}, not to you"):
        runtime_folder()


@pytest.mark.parametrize("cluster_id", ["a", "0", "Night-run_2.1", "x" * 32, new_cluster_id()])
def test_an_id_that_is_a_file_name_is_accepted(base: Path, cluster_id: str) -> None:
    assert cluster_folder(cluster_id) == base / "ipyasyncresult" / cluster_id


@pytest.mark.parametrize(
    "cluster_id", ["", ".", "..", "../x", "a/b", "-a", "x" * 33, "a b", "a\n", "ä", None, 3.5j]
)
def test_an_id_that_is_none_is_refused(base: Path, cluster_id: str) -> None:
    with pytest.raises(ValueError, match="cluster_id must be 1 to 32 letters"):
        cluster_folder(cluster_id)


def test_a_path_too_long_for_a_socket_is_refused_with_what_to_do(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = base / ("d" * 100)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    with pytest.raises(RuntimeFolderError, match="set XDG_RUNTIME_DIR to a shorter one"):
        cluster_folder("a", create=True)
    assert list((deep / "ipyasyncresult").iterdir()) == []


def test_the_longest_path_of_a_socket_is_just_accepted(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest = len(os.fsencode(base / "ipyasyncresult" / "a" / "engines"))
    monkeypatch.setattr(runtime, "_MAX_SOCKET_PATH", rest)
    monkeypatch.setattr(sys, "platform", "linux")
    cluster_folder("a")
    with pytest.raises(RuntimeFolderError):
        cluster_folder("ab")


def test_two_clusters_cannot_have_one_folder(base: Path) -> None:
    cluster_folder("a", create=True)
    with pytest.raises(FileExistsError):
        cluster_folder("a", create=True)


def test_a_description_is_read_as_it_was_written_and_by_the_user_only(base: Path) -> None:
    folder = cluster_folder("a", create=True)
    write_cluster_file(folder, DESCRIBED)
    assert read_cluster_file(folder) == DESCRIBED
    assert [(file.name, mode(file)) for file in folder.iterdir()] == [("cluster.json", 0o600)]
    remove_folder(folder)
    remove_folder(folder)
    assert read_cluster_file(folder) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": "x"}', b"\xff\xfe", b'{"pid": 1}'])
def test_a_damaged_description_is_none(base: Path, content: bytes) -> None:
    folder = cluster_folder("a", create=True)
    (folder / "cluster.json").write_bytes(content)
    assert read_cluster_file(folder) is None
