"""What every test stands on: a home of its own for the run, and a guard against leaks."""

from __future__ import annotations

import atexit
import gc
import itertools
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import psutil
import pytest

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from ipyasyncresult.core.outputs import Output

# The same examples in every run, and few enough that nobody skips them.
hypothesis.settings.register_profile("ours", max_examples=30, deadline=None, derandomize=True)
hypothesis.settings.load_profile("ours")

# A shell that starts this in the background has Ctrl-C ignored, here and in what is started here.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

MEMORY = Path("/dev/shm")

GRACE = 5.0
"""Seconds that what is just ending may take: the product's own promise for leaving nothing."""

LASTING_THREADS = {
    "IPythonHistorySavingThread": "one per IPython shell; ends with the process",
    "TMonitor": "tqdm's own; one per process, for good",
    "GarbageCollectorThread": "pyzmq's own, for what was sent without a copy; as above",
    "Dask-": "pools that all Dask clients of a process share, for good",
}
"""Threads that outlive a test by design, by the start of their name or by their type's name."""

WAITS = {("ipyasyncresult.core.waiting", "wait"), ("ipyasyncresult.client.receiving", "wait")}
"""Where a thread sleeps that waits for a result: module and function."""

LASTING_PROCESSES = ("multiprocessing.resource_tracker", "loky.backend.resource_tracker")
"""Helpers of multiprocessing and loky, one per process that uses them, for good."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests in a browser come last.

    They share one.  As long as Playwright runs, this thread has a running event loop, which tests
    with kernels cannot bear.
    """
    items.sort(key=lambda item: "browser" in item.path.parts)


# --------------------------------------------------------------------------- a home for the run


@pytest.fixture(scope="session", autouse=True)
def runtime_dir() -> Iterator[Path]:
    """Where everything of this run keeps its sockets: fresh, private, gone at the end."""
    # Short, as the path of a Unix socket has at most 107 bytes.
    home = Path(tempfile.mkdtemp(prefix="ipar-"))
    runtime = home / "run"
    runtime.mkdir(mode=0o700)
    (runtime / "ipyasyncresult").mkdir(mode=0o700)  # the user's own, as ~/.cache: it may stay
    with pytest.MonkeyPatch.context() as patch:
        # Font caches and the like are safe to share, and take seconds to make.
        patch.setenv(
            "XDG_CACHE_HOME", os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
        )
        patch.setenv("HOME", str(home))
        patch.setenv("XDG_RUNTIME_DIR", str(runtime))
        arrays = Path(tempfile.mkdtemp(prefix="ipar-", dir=MEMORY if MEMORY.is_dir() else home))
        patch.setenv("IPYASYNCRESULT_ARRAYS", str(arrays))
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"):
            patch.setenv(name, str(home / name.lower()))
        patch.setenv("JUPYTER_RUNTIME_DIR", str(home / "jupyter"))
        before = Snapshot.take(runtime)
        yield runtime
        leaks = before.leaks_after_grace()
    shutil.rmtree(arrays, ignore_errors=True)
    shutil.rmtree(home, ignore_errors=True)
    if leaks:
        pytest.fail("left at the end of the run:\n" + "\n".join(leaks), pytrace=False)


# -------------------------------------------------------------------------------- the leak guard


@pytest.fixture(autouse=True)
def leak_guard(runtime_dir: Path, request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that leaves a thread, a process, a socket or a file of ours behind.

    What fixtures of a wider scope made before the test is theirs, and so is what grows from it
    later (an engine that takes the place of a killed one).
    """
    marked = request.node.get_closest_marker("library_connections") is not None
    before = Snapshot.take(runtime_dir, connections=not marked)
    yield
    leaks = before.leaks_after_grace()
    if leaks:
        pytest.fail("the test left behind:\n" + "\n".join(leaks), pytrace=False)


@dataclass(frozen=True)
class Snapshot:
    """What was there before a test."""

    runtime: Path
    pids: frozenset[int]
    threads: frozenset[threading.Thread]
    sockets: frozenset[str]
    files: frozenset[Path]
    connections: bool
    """Whether threads and sockets count."""

    @classmethod
    def take(cls, runtime: Path, *, connections: bool = True) -> Snapshot:
        return cls(
            connections=connections,
            runtime=runtime,
            pids=frozenset(psutil.pids()),
            threads=frozenset(threading.enumerate()),
            sockets=open_sockets(),
            files=ours(runtime),
        )

    def leaks_after_grace(self) -> list[str]:
        """A line per thing that is new and does not go away; leaked processes are ended."""
        if not self.leaks():
            return []
        gc.collect()  # what only waits for the collector is no leak
        if eventually(lambda: not self.leaks(), GRACE):
            return []
        leaks = self.leaks()
        for process in self.processes():
            process.kill()
        return leaks

    def leaks(self) -> list[str]:
        connections = [
            *(f"thread {thread.name!r}" for thread in self.new_threads()),
            *(f"open {name}" for name in sorted(open_sockets() - self.sockets)),
        ]
        return [
            *(connections if self.connections else ()),
            *(f"process {describe(process)}" for process in self.processes()),
            *(f"file {path}" for path in sorted(ours(self.runtime) - self.files)),
        ]

    def new_threads(self) -> list[threading.Thread]:
        return [t for t in threading.enumerate() if t not in self.threads and not is_lasting(t)]

    def processes(self) -> list[psutil.Process]:
        """New processes of this run, also those that lost their parent."""
        return [
            process
            for pid in frozenset(psutil.pids()) - self.pids
            if (process := alive(pid)) is not None
            and self.is_leaked(process)
            and not any(name in describe(process) for name in LASTING_PROCESSES)
        ]

    def is_leaked(self, process: psutil.Process) -> bool:
        try:
            ancestors = process.parents()
        except psutil.NoSuchProcess:
            return False
        me = os.getpid()
        older = [p for p in ancestors if p.pid in self.pids and p.pid != me]
        if any(is_of_run(p, self.runtime) for p in older):
            return False
        return any(p.pid == me for p in ancestors) or is_of_run(process, self.runtime)


def ours(runtime: Path) -> frozenset[Path]:
    """Files in the runtime folder, and the folders for arrays (what is in them comes and goes)."""
    # Unlike `rglob`, this takes it that a cluster that is just ending removes its folder.
    found = [Path(at, name) for at, inner, files in os.walk(runtime) for name in (*inner, *files)]
    return frozenset([*found, *Path(os.environ["IPYASYNCRESULT_ARRAYS"]).iterdir()])


def is_lasting(thread: threading.Thread) -> bool:
    return (
        thread.name.startswith(tuple(LASTING_THREADS)) or type(thread).__name__ in LASTING_THREADS
    )


def alive(pid: int) -> psutil.Process | None:
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process
    except psutil.NoSuchProcess:
        return None


def is_of_run(process: psutil.Process, runtime: Path) -> bool:
    """Whether the process was started with this run's runtime folder: then it is of this run."""
    try:
        started_with = process.environ().get("XDG_RUNTIME_DIR")
        return started_with == str(runtime)
    except psutil.Error:
        return False


def describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid}: {' '.join(process.cmdline())[:200]}"
    except psutil.Error:
        return str(process.pid)


def open_sockets() -> frozenset[str]:
    """This process's open sockets, by the kernel's name for them; empty where there is no /proc."""
    names = set()
    for entry in Path("/proc/self/fd").glob("*"):
        try:
            name = str(entry.readlink())
        except OSError:  # the descriptor of this very listing
            continue
        if name.startswith("socket:"):
            names.add(name)
    return frozenset(names)


def kinds_in_a_row(outputs: Iterable[Output]) -> list[str]:
    """Kinds of outputs in their order, one for what was written to one stream without a break.

    In how many pieces a text comes is chance: what there is leaves while the task runs, maybe
    between two words of a `print`.
    """
    return [kind for kind, _ in itertools.groupby(output.kind for output in outputs)]


def waits_for_a_result(thread: int) -> bool:
    """Whether a thread, by its ident, sleeps in a wait of the client: an interrupt ends that."""
    frame = sys._current_frames().get(thread)
    while frame is not None:
        if (frame.f_globals.get("__name__"), frame.f_code.co_name) in WAITS:
            return True
        frame = frame.f_back
    return False


@contextmanager
def interrupted_when_it_waits(also: Callable[[], object] = lambda: True) -> Iterator[None]:
    """Press Ctrl-C when this thread, the main one, waits for a result and `also` is true."""
    mine, over = threading.get_ident(), threading.Event()

    def press() -> None:
        while not over.wait(0.01):
            if waits_for_a_result(mine) and also():
                # To this thread: another one would note the signal and wake nobody.
                signal.pthread_kill(mine, signal.SIGINT)
                return

    thread = threading.Thread(target=press)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def forget_shell(shell: InteractiveShell) -> None:
    """At the exit of Python IPython does nothing more for this shell.

    For each it would look through all of the memory: minutes after a run of all tests.
    """
    atexit.unregister(shell.atexit_operations)


def eventually(condition: Callable[[], object], timeout: float) -> bool:
    """Whether the condition comes true within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            return False
        pause.wait(0.02)
    return True
