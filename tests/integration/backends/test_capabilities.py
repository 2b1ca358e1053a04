"""What is refused beside the rows of the table (``tests/contract/test_capabilities.py`` has those),
and a backend of somebody else's."""

from __future__ import annotations

import concurrent.futures
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ipyasyncresult as ipar
from ipyasyncresult.errors import CapabilityError


@pytest.fixture(scope="module")
def pool() -> Iterator[concurrent.futures.Executor]:
    with concurrent.futures.ThreadPoolExecutor(1) as made:
        yield made


def _client_of(result: ipar.AsyncResult) -> Any:
    return result._client


@pytest.fixture(scope="module")
def clients(pool: concurrent.futures.Executor) -> Iterator[dict[str, Any]]:
    """Those of the backends that need no cluster; the others refuse in their own modules."""
    with ipar.connect(pool) as executor, _client_of(ipar.track(pool.submit(abs, -1))) as tracked:
        yield {"threads": executor, "tracked": tracked}


def test_engines_are_neither_restarted_nor_ended_one_by_one(clients: dict[str, Any]) -> None:
    for client in clients.values():
        with pytest.raises(CapabilityError, match="cannot restart its engines"):
            client.shutdown(restart=True)
        with pytest.raises(CapabilityError, match="cannot end single engines"):
            client.shutdown(targets=[0])
        assert not client.closed


def test_what_is_tracked_gives_no_view(clients: dict[str, Any]) -> None:
    asks: list[Callable[[Any], Any]] = [
        lambda client: client.load_balanced_view(),
        lambda client: client.executor(),
        lambda client: client[:],
        lambda client: client.activate(),
    ]
    for ask in asks:
        with pytest.raises(CapabilityError, match="nothing can be submitted here"):
            ask(clients["tracked"])


def test_a_pool_is_not_what_cells_and_connect_find(clients: dict[str, Any]) -> None:
    with ipar.Cluster(n=1) as engines, ipar.connect(clients["threads"].executor_) as newest:
        assert ipar.connect() is engines
        assert not newest.closed


def test_what_is_not_kept_has_no_history_and_is_not_purged(clients: dict[str, Any]) -> None:
    for client in clients.values():
        for ask in (client.hub_history, client.purge_results, client.purge_everything):
            with pytest.raises(CapabilityError, match="it keeps no results"):
                ask()
        with pytest.raises(CapabilityError, match="cannot restart"):
            client.restart()


@pytest.mark.parametrize(
    ("library", "extra", "ask"),
    [
        ("distributed", "dask", "ipar.connect('tcp://127.0.0.1:8786')"),
        (
            "ipyparallel",
            "ipyparallel",
            "ipar.connect(type('Client', (), {'__module__': 'ipyparallel'})())",
        ),
        ("joblib", "joblib", "ipar.register_joblib_backend()"),
    ],
)
def test_a_library_that_is_not_installed_is_an_error_that_names_the_extra(
    library: str, extra: str, ask: str
) -> None:
    code = f"import sys; sys.modules[{library!r}] = None; import ipyasyncresult as ipar; {ask}"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = ran.stderr.splitlines()[-1]
    assert last.startswith(("ImportError", "ModuleNotFoundError")), ran.stderr
    assert last.endswith(f"; it comes with: pip install 'ipyasyncresult[{extra}]'")


PAGE = Path(__file__).parents[3] / "docs" / "howto" / "own-backend.md"


def on_the_page(language: str) -> str:
    """The first block of code in that language."""
    return PAGE.read_text().split(f"```{language}\n", 1)[1].split("```", 1)[0]


USES_OTHERS = """
import ipyasyncresult as ipar
from ipyasyncresult.backends import capabilities

def speak(x):
    print("speaking", x)
    return 6 / x

with ipar.connect("here:", n=3) as client:
    result = client.load_balanced_view().map_async(speak, [1, 0, 2], chunksize=1)
    print(client.engine_count(), result.ok, result.failed, result.stdout)
print(capabilities().rows()[0])
"""


def test_the_distribution_on_the_page_brings_a_backend_when_installed(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "installed"
    source.mkdir()
    (source / "pyproject.toml").write_text(on_the_page("toml"))
    (source / "here_engines.py").write_text(on_the_page("python"))
    install = ["pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run(
        [sys.executable, "-m", *install, "--target", target, source],
        check=True,
        capture_output=True,
    )
    ran = subprocess.run(
        [sys.executable, "-c", USES_OTHERS],
        env={"PYTHONPATH": str(target), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    first, second = ran.stdout.splitlines()
    said = ["speaking 1\n", "speaking 0\n", "speaking 2\n"]
    assert first == f"3 [6.0, 3.0] [<RemoteError[0]: ZeroDivisionError(division by zero)>] {said}"
    assert second == str(
        ["", "own engines", "this thread", "ipyparallel", "Dask", "a thread pool", "an executor"]
    )
