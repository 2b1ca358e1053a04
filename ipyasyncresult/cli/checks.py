"""What ``doctor`` looks at: one function per thing, each with what to do about it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jupyter_core.paths import jupyter_config_path

from ipyasyncresult.client.cluster import Cluster, usable_cpus
from ipyasyncresult.config import read_config_files
from ipyasyncresult.errors import ConfigurationError, IpyAsyncResultError
from ipyasyncresult.wire.runtime import cluster_folder, is_alive, read_cluster_file, runtime_folder

__all__ = ["CHECKS", "Check"]

_MIB = 1 << 20
_SHARED_MEMORY = 256 * _MIB
"""Less is little: big arrays then travel inside of messages, which is slower."""
_FILES_PER_ENGINE = 6
_FILES_OF_HUB = 100


@dataclass(frozen=True, slots=True)
class Check:
    """What was found.  ``bad`` stops work, ``warning`` makes it slower or poorer."""

    name: str
    state: Literal["ok", "warning", "bad"]
    found: str
    advice: str = ""


def _python() -> Iterator[Check]:
    yield Check("python", "ok", f"{platform.python_version()} on {platform.system()}")
    if platform.system() != "Linux":
        yield Check("system", "bad", platform.system(), "engines of this package need Linux")


_WANTED = {"ipython": "8.24", "ipykernel": "6.29", "ipywidgets": "8.1", "pyzmq": "25.1"}


def _versions() -> Iterator[Check]:
    for name, oldest in _WANTED.items():
        found = _version(name)
        if found is None:
            yield Check(name, "bad", "not installed", f"pip install '{name}>={oldest}'")
        elif _parts(found) < _parts(oldest):
            advice = f"pip install --upgrade '{name}>={oldest}'"
            yield Check(name, "bad", f"{found}, older than {oldest}", advice)
        else:
            yield Check(name, "ok", found)


def _frontends() -> Iterator[Check]:
    """Whether buttons of a widget work while a cell blocks: both sides need subshells."""
    kernel = _version("ipykernel")
    lab, notebook = _version("jupyterlab"), _version("notebook")
    if kernel is not None and _parts(kernel) < (7,):
        yield Check(
            "buttons",
            "warning",
            f"ipykernel {kernel} has no subshells: buttons act after the cell",
            "pip install --upgrade 'ipykernel>=7'; until then the toolbar's stop button does it",
        )
    if lab is not None and _parts(lab) < (4, 4):
        yield Check(
            "jupyterlab",
            "warning",
            f"{lab} does not use subshells: buttons act after the cell",
            "pip install --upgrade 'jupyterlab>=4.4'",
        )
    elif lab is not None or notebook is not None:
        shown = [f"{n} {v}" for n, v in (("jupyterlab", lab), ("notebook", notebook)) if v]
        both = kernel is not None and _parts(kernel) >= (7,)
        buttons = ": buttons work while a cell runs" if both else ""
        yield Check("frontends", "ok", ", ".join(shown) + buttons)
    else:
        yield Check("frontends", "ok", "none installed beside this package: a remote one, perhaps")


def _server_extension() -> Iterator[Check]:
    server = _version("jupyter_server")
    if server is None:
        yield Check("page", "ok", "no Jupyter server here, so no page of clusters")
        return
    name = Path("jupyter_server_config.d") / "ipyasyncresult.json"
    where = [folder for folder in jupyter_config_path() if (Path(folder) / name).exists()]
    if where:
        yield Check("page", "ok", f"served by Jupyter under /ipyasyncresult (server {server})")
    else:
        yield Check(
            "page",
            "warning",
            "Jupyter's server does not know this package: no page of clusters",
            "install this package without --editable (CONTRIBUTING.md has a way with it)",
        )


def _shared_memory() -> Iterator[Check]:
    folder = Path("/dev/shm")  # noqa: S108  the place for shared memory on Linux
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        yield Check(
            "shared memory",
            "warning",
            f"{folder} is not there or not writable: big arrays travel inside of messages",
            f"mount a tmpfs at {folder}; in Docker: --shm-size=2g",
        )
        return
    free = shutil.disk_usage(folder).free
    if free < _SHARED_MEMORY:
        yield Check(
            "shared memory",
            "warning",
            f"{free // _MIB} MiB free: bigger arrays travel inside of messages",
            "give it more: in Docker --shm-size=2g, else mount -o remount,size=50% /dev/shm",
        )
    else:
        yield Check("shared memory", "ok", f"{free // _MIB} MiB free")


def _limits() -> Iterator[Check]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    engines = max(0, (soft - _FILES_OF_HUB) // _FILES_PER_ENGINE)
    state: Literal["ok", "warning"] = "ok" if engines >= usable_cpus() else "warning"
    advice = "" if state == "ok" else f"ulimit -n {hard if hard > soft else 4096}"
    yield Check("open files", state, f"{soft}: enough for {engines} engines", advice)
    processes, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if processes != resource.RLIM_INFINITY and processes < 50 * usable_cpus():
        yield Check("processes", "warning", f"at most {processes}", "ulimit -u unlimited")
    yield Check("cpus", "ok", f"{usable_cpus()} usable: so many engines by default")


def _runtime() -> Iterator[Check]:
    try:
        folder = runtime_folder()
        cluster_folder("x" * 32)  # the longest name
    except OSError as error:
        yield Check("runtime folder", "bad", str(error), "mend that, or set XDG_RUNTIME_DIR")
        return
    mode = stat.S_IMODE(folder.lstat().st_mode)
    yield Check("runtime folder", "ok", f"{folder}, mode {mode:o}, yours alone")
    stale = [
        one.name
        for one in folder.iterdir()
        if (found := read_cluster_file(one)) is not None and not is_alive(found.pid)
    ]
    if stale:
        yield Check(
            "left over", "ok", f"{len(stale)} folders of dead clusters: the next start removes them"
        )


def _configuration() -> Iterator[Check]:
    try:
        read_config_files()
    except ConfigurationError as error:
        yield Check("configuration", "bad", str(error), "mend the file, or move it away")
    else:
        yield Check("configuration", "ok", "read (ipyasyncresult config shows it)")


def _trial() -> Iterator[Check]:
    """The proof: an engine starts, runs something, and ends."""
    began = time.monotonic()
    try:
        with Cluster(n=1) as client:
            answer = client[0].apply_sync(os.getpid)
    except (IpyAsyncResultError, OSError, TimeoutError) as error:
        yield Check("trial", "bad", f"no engine came up: {error}", "see what it printed, above")
        return
    took = time.monotonic() - began
    yield Check("trial", "ok", f"an engine (process {answer}) ran a task; {took:.1f} s in all")


CHECKS: tuple[Callable[[], Iterator[Check]], ...] = (
    _python,
    _versions,
    _frontends,
    _server_extension,
    _shared_memory,
    _limits,
    _runtime,
    _configuration,
    _trial,
)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _parts(version: str) -> tuple[int, ...]:
    """The leading numbers: enough to compare with the oldest that is good."""
    numbers = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)
