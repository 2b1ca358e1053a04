"""The pytest plugin: engines for those who ask, nothing for the others."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow]


def run_pytest(folder: Path, test: str, *arguments: str, fails: bool = False) -> str:
    """Run a test file as a user would; what pytest said."""
    (folder / "test_it.py").write_text(textwrap.dedent(test))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", *arguments]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert (ended.returncode != 0) == fails, ended.stdout + ended.stderr
    return ended.stdout


def test_tests_share_engines_and_find_them_empty(tmp_path: Path) -> None:
    said = run_pytest(
        tmp_path,
        """
        import os, time
        import pytest
        from ipyasyncresult import EngineError

        PIDS = []

        class OfThisModule:
            pass

        def helper(x):
            return type(OfThisModule()).__name__, x

        def test_first(ipar_client, tmp_path):
            PIDS.extend(ipar_client[:].apply_sync(os.getpid))
            assert len(PIDS) == 3
            ipar_client[:].push({"left": 1}, block=True)
            # Not importable on an engine, and not waited for.
            assert ipar_client.load_balanced_view().map_sync(helper, [1]) == [("OfThisModule", 1)]
            begun = tmp_path / "begun"
            ipar_client[0].execute(f"open({str(begun)!r}, 'w')\\nwhile True: pass")
            while not begun.exists():
                time.sleep(0.01)
            ipar_client[0].apply_async(abs, -1)

        def test_second(ipar_client, ipar_cluster):
            assert ipar_client is ipar_cluster
            assert ipar_client.outstanding == set()
            assert ipar_client[:].apply_sync(os.getpid) == PIDS
            assert not any(ipar_client[:].apply_sync(lambda: "left" in globals()))

        def test_an_engine_dies(ipar_client):
            with pytest.raises(EngineError):
                ipar_client[1].apply_sync(os._exit, 3)

        def test_it_was_replaced(ipar_client):
            assert len(set(ipar_client[:].apply_sync(os.getpid)) & set(PIDS)) == 2
        """,
        "-o",
        "ipyasyncresult_engines=3",
    )
    assert "4 passed" in said


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    test = "def test_it(ipar_client): pass"
    said = run_pytest(tmp_path, test, "-o", "ipyasyncresult_engines=many", fails=True)
    assert "ipyasyncresult_engines must be a number of engines >= 1, not 'many'" in said


def test_a_run_that_does_not_use_it_loads_and_starts_nothing(tmp_path: Path) -> None:
    said = run_pytest(
        tmp_path,
        """
        import sys, threading
        import pytest

        def test_it(pytestconfig):
            assert pytestconfig.pluginmanager.get_plugin("ipyasyncresult") is not None
            heavy = {"zmq", "IPython", "cloudpickle", "ipywidgets", "tqdm", "numpy"}
            assert not heavy & set(sys.modules)
            ours = {name for name in sys.modules if name.startswith("ipyasyncresult")}
            assert "ipyasyncresult.client.client" not in ours
            assert "ipyasyncresult.testing.fakeclient" not in ours
            assert threading.active_count() == 1
        """,
        "-p",
        "no:asyncio",
        "-p",
        "no:hypothesispytest",
        "-p",
        "no:anyio",
        "-W",
        "error",
    )
    assert "1 passed" in said
