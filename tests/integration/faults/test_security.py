"""Others on the same machine: what they can reach, read, or leave for us to trip over.

The hub's doors are tested in ``test_wire.py``, the server extension's where it is tested itself.
"""

from __future__ import annotations

import gc
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

import ipyasyncresult as ipar
from ipyasyncresult.wire.runtime import cluster_folder, runtime_folder
from tests.integration.conftest import hub_of, processes_of
from tests.integration.faults.conftest import SOON

if TYPE_CHECKING:
    from tests.integration.conftest import NewGate
    from tests.integration.faults.conftest import Mortal

NOBODY_ELSE = 0o077


@pytest.fixture
def open_umask() -> Iterator[None]:
    """A user whose files everybody may write."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules beside this file are found by hubs that are started."""
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))


# --------------------------------------------------------------------------------------- sockets


def test_no_process_listens_where_others_could_connect(mortal: Mortal) -> None:
    """No port at all, and no abstract socket: such have no owner and no mode."""
    folder = cluster_folder(mortal.client.cluster_id)
    listening = []
    for process in [psutil.Process(), *processes_of(mortal.client)]:
        for socket in process.net_connections("inet"):
            assert socket.status != psutil.CONN_LISTEN, f"{process} listens at {socket.laddr}"
        if process.pid == os.getpid():
            continue  # pytest's own may have others
        for socket in process.net_connections("unix"):
            if socket.laddr:
                listening.append(socket.laddr)
                assert Path(str(socket.laddr)).parent == folder, f"{process}: {socket.laddr!r}"
    assert {Path(str(path)).name for path in listening} >= {"clients", "engines"}


def test_files_and_sockets_are_the_users_alone_whatever_the_umask(open_umask: None) -> None:
    with ipar.Cluster(n=1) as client:
        arrays = client[0].apply_async(bytes, 3_000_000)
        assert len(arrays.get(SOON)) == 3_000_000
        folder = cluster_folder(client.cluster_id)
        made = [folder.parent, folder, *folder.rglob("*")]
        # A link has no mode of its own: it is what it leads to.
        links = [path for path in made if path.is_symlink()]
        made = [path for path in made if path not in links]
        for target in (path.resolve() for path in links):
            made += [target, *target.rglob("*")]
        assert len(made) > 4
        for path in made:
            info = path.lstat()
            assert info.st_uid == os.getuid()
            assert info.st_mode & NOBODY_ELSE == 0, f"{path}: {info.st_mode:o}"
        # What tasks write is the user's: with the umask that the user chose.
        assert client[0].apply_sync(lambda: os.umask(0o77)) == 0


# ----------------------------------------------------------------------------------- unpickling

OPENERS = {"pickle", "cloudpickle", "dill", "IPython", "ipykernel", "marshal", "shelve"}


def test_no_module_of_the_hub_imports_what_opens_pickles() -> None:
    """In a process of its own, and beside what pyzmq imports for itself."""
    script = """
import pkgutil, sys
import zmq, msgspec, json, logging, subprocess, tempfile, sqlite3
before = set(sys.modules)
import ipyasyncresult.hub
for module in pkgutil.walk_packages(ipyasyncresult.hub.__path__, "ipyasyncresult.hub."):
    if not module.name.endswith("__main__"):
        __import__(module.name)
from ipyasyncresult.hub.__main__ import main
print(*{name.partition(".")[0] for name in set(sys.modules) - before})
print(*[name for name in sys.modules if name.startswith("ipyasyncresult.")])
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    others, ours = (set(line.split()) for line in ran.stdout.splitlines())
    assert others & OPENERS == set()
    assert {"ipyasyncresult.hub.server", "ipyasyncresult.hub.state"} <= ours
    upper = re.compile(r"ipyasyncresult\.(worker|engine|client|core\.unpickling|magics)\b")
    assert [name for name in ours if upper.match(name)] == []


def test_a_hub_in_which_unpickling_is_fatal_does_all_its_work(
    from_here: None, new_gate: NewGate
) -> None:
    cluster = ipar.Cluster(n=2)
    cluster.hub_module = "poisonedhub"
    client = cluster.start_and_connect_sync()
    try:
        view = client.load_balanced_view()
        result = view.map_async(abs, range(-100, 0))
        assert result.get(SOON) == list(range(100, 0, -1))
        bad = client[0].apply_async(divmod, 1, 0)
        with pytest.raises(ZeroDivisionError):
            bad.get(SOON)
        array = client[:].apply_async(bytes, 1_000_000)
        assert [len(one) for one in array.get(SOON)] == [1_000_000] * 2
        lost = client[1].apply_async(os.kill, client.engines[1]["pid"], 9)
        with pytest.raises(ipar.EngineError):
            lost.get(SOON)
        with ipar.Client(client.cluster_id) as other:
            assert other.get_result(result.msg_ids).get(SOON) == list(range(100, 0, -1))
            assert other.hub_history()
        assert client._connection.ask("resubmit", again={bad.msg_ids[0]: "again-0"}) == []
        assert hub_of(client).is_running()
    finally:
        cluster.stop_cluster_sync()


def test_nothing_in_the_folder_of_a_cluster_is_a_pickle_that_somebody_opens(
    mortal: Mortal, tmp_path: Path
) -> None:
    """A folder made by somebody else to run code here is refused, whatever it holds."""
    forged = runtime_folder() / "forged"
    forged.mkdir(mode=0o777)
    forged.chmod(0o777)
    try:
        (forged / "cluster.json").write_bytes(pickle.dumps(Opened(tmp_path / "opened")))
        with pytest.raises(OSError, match="chmod 700"):
            ipar.Client("forged")
        forged.chmod(0o700)
        with pytest.raises(ipar.errors.HubError):
            ipar.Client("forged")
    finally:
        (forged / "cluster.json").unlink()
        forged.rmdir()
    assert not (tmp_path / "opened").exists()


class Opened:
    """Leaves a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


# ---------------------------------------------------------------------------------- what remains


def test_what_a_killed_hub_left_is_removed_at_the_next_start() -> None:
    with ipar.Cluster(n=1) as client:
        folder = cluster_folder(client.cluster_id)
        processes = processes_of(client)
        processes[0].kill()
        _, alive = psutil.wait_procs(processes, timeout=SOON)
        assert alive == []
        assert folder.exists()
        with ipar.Cluster(n=1):
            assert not folder.exists()


def test_nothing_is_left_when_the_cluster_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in the runtime folder, nor among temporary files, nor in shared memory."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = set(runtime_folder().rglob("*"))
    with ipar.Cluster(n=2) as client:
        made = client[:].apply_async(bytes, 3_000_000)
        assert [len(one) for one in made.get(SOON)] == [3_000_000] * 2
        processes = processes_of(client)
        used = {path for process in [psutil.Process(), *processes] for path in held_by(process)}
        del made
    gc.collect()
    _, alive = psutil.wait_procs(processes, timeout=SOON)
    assert alive == []
    assert set(runtime_folder().rglob("*")) == before
    assert list(tmp_path.iterdir()) == []
    shared = [path for path in used if path.is_relative_to("/dev/shm") and path.exists()]
    assert [path for path in shared if cluster_of(path, client.cluster_id)] == []


def held_by(process: psutil.Process) -> set[Path]:
    """Files that the process has open or in its memory."""
    held = {Path(mapped.path) for mapped in process.memory_maps() if mapped.path[:1] == "/"}
    return held | {Path(file.path) for file in process.open_files()}


def cluster_of(path: Path, cluster_id: str) -> bool:
    return "ipyasyncresult" in str(path) or cluster_id in str(path)
