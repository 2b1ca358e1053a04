"""The guard of ``conftest.py`` must be able to fail: a run of leaking tests is reported."""

from __future__ import annotations

from pathlib import Path

import pytest

LEAKING = """
import os, pathlib, socket, subprocess, sys, threading

kept = []

def test_thread():
    threading.Thread(target=threading.Event().wait, name="forgotten", daemon=True).start()

def test_process():
    kept.append(subprocess.Popen(["sleep", "60"]))

def test_orphan():  # its parent has ended: only its environment tells whose it is
    program = "import subprocess; subprocess.Popen(['sleep', '61'])"  # it sleeps when this returns
    subprocess.run([sys.executable, "-c", program], check=True)

def test_socket():
    kept.append(socket.socket())

def test_file():
    pathlib.Path(os.environ["XDG_RUNTIME_DIR"], "engine.json").touch()

def test_after_them():
    pass
"""

CLEAN = """
import subprocess, threading
import pytest

@pytest.fixture(scope="module")
def server():
    with subprocess.Popen(["sleep", "62"]) as process:
        yield process
        process.kill()

def test_that_uses_it(server):
    pass

def test_whose_helpers_are_just_ending(server):
    threading.Timer(0.01, list).start()
    subprocess.Popen(["true"])
"""


GUARD = Path(__file__).with_name("conftest.py").read_text()


@pytest.fixture
def guarded(pytester: pytest.Pytester) -> pytest.Pytester:
    """A folder whose tests run under our guard."""
    pytester.makeconftest(GUARD)
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider -p no:asyncio")
    return pytester


def test_a_leak_is_reported_once_for_the_test_that_left_it(guarded: pytest.Pytester) -> None:
    guarded.makeconftest(GUARD.replace("GRACE = 5.0", "GRACE = 0.3"))  # what leaks stays
    guarded.makepyfile(LEAKING)
    outcome = guarded.runpytest_subprocess()
    outcome.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_thread*",
            "thread 'forgotten'",
            "*ERROR at teardown of test_process*",
            "process *sleep 60",
            "*ERROR at teardown of test_orphan*",
            "process *sleep 61",
            "*ERROR at teardown of test_socket*",
            "open socket:*",
            "*ERROR at teardown of test_file*",
            "file *engine.json",
        ]
    )
    assert outcome.stdout.str().count("\nthe test left behind:") == 5
    assert outcome.parseoutcomes()["passed"] == 6


def test_what_wider_fixtures_hold_and_what_is_just_ending_is_no_leak(
    guarded: pytest.Pytester,
) -> None:
    guarded.makepyfile(CLEAN)
    guarded.runpytest_subprocess().assert_outcomes(passed=2)
