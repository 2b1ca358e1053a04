"""Programs without IPython: ``python -c``, scripts, a prompt, asyncio, ends without a close."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest

import ipyasyncresult as ipar
from tests.conftest import eventually
from tests.integration.conftest import NewGate

pytestmark = [pytest.mark.slow]

# ------------------------------------------------------------- what is defined in __main__


DEFINED_HERE = """
    import sys
    import ipyasyncresult as ipar

    print("once")

    class Pair:
        def __init__(self, left, right):
            self.left, self.right = left, right
        def __eq__(self, other):
            return (self.left, self.right) == (other.left, other.right)

    FACTOR = 3

    def helper(number):
        return FACTOR * number

    def work(number):
        return Pair(number, helper(number))

    with ipar.Cluster(n=2) as client:
        view = client.load_balanced_view()
        assert view.map_sync(work, range(3)) == [Pair(0, 0), Pair(1, 3), Pair(2, 6)]
        FACTOR = 5
        assert view.apply_sync(helper, 2) == 10
        assert view.apply_sync(lambda pair: pair.left, Pair(7, 8)) == 7
        with client.executor() as executor:
            assert list(executor.map(work, [4])) == [Pair(4, 20)]
    print("done", __name__)
"""


def test_a_command_line_program_uses_its_own_functions(run_python: Callable[..., str]) -> None:
    assert run_python(DEFINED_HERE) == "once\ndone __main__\n"


def test_a_script_uses_its_own_functions_and_runs_once(tmp_path: Path) -> None:
    """It needs no guard of ``__main__``: engines do not import it, as multiprocessing does."""
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(DEFINED_HERE))
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "once\ndone __main__\n"), ended.stderr


def test_what_is_typed_at_the_prompt_runs_on_engines() -> None:
    python = pexpect.spawn(
        sys.executable,
        ["-q", "-i"],
        encoding="utf-8",
        timeout=60,
        env={**os.environ, "TERM": "dumb", "PYTHON_BASIC_REPL": "1"},
        dimensions=(50, 200),
    )

    def run(line: str) -> str:
        python.sendline(line)
        python.expect_exact(line)
        python.expect_exact(">>> ")
        said: str = python.before
        return said.strip()

    try:
        python.expect_exact(">>> ")
        run("import ipyasyncresult as ipar")
        run("client = ipar.connect(n=1)")
        run("double = lambda number: 2 * number")
        run("Item = type('Item', (), {})")
        run("view = client.load_balanced_view()")
        assert run("view.map_sync(double, range(3))") == "[0, 2, 4]"
        assert run("type(view.apply_sync(Item)) is Item") == "True"
        assert "ZeroDivisionError" in run("view.apply_sync(lambda: 1 / 0)")
        assert run("view.map_async(double, [1]).get()") == "[2]"
        python.sendline("exit()")  # without closing anything
        python.expect(pexpect.EOF)
    finally:
        python.close(force=True)
    assert python.exitstatus == 0


# ------------------------------------------------------------------------------- without an end


@pytest.mark.parametrize("how", ["", "raise SystemExit(3)", "1 / 0", "import os; os._exit(4)"])
def test_a_program_that_closes_nothing_ends_and_leaves_nothing(
    how: str, start_python: Callable[..., subprocess.Popen[str]], runtime_dir: Path
) -> None:
    program = start_python(f"""
        import ipyasyncresult as ipar
        client = ipar.connect(n=1)
        view = client.load_balanced_view()
        results = [view.apply_async(abs, -1) for _ in range(20)]
        results[-1].wait()
        print(client.cluster_id, flush=True)
        {how}
    """)
    printed, errors = program.communicate()
    assert program.returncode == {"": 0, "1 / 0": 1}.get(how, program.returncode), errors
    assert "ipyasyncresult" not in errors.partition("Traceback")[0], errors
    folder = runtime_dir / "ipyasyncresult" / printed.strip()
    assert eventually(lambda: not folder.exists(), 20)


# ------------------------------------------------------------------------------------- asyncio


async def test_results_are_gathered_and_taken_in_a_task_group(client: ipar.Client) -> None:
    view = client.load_balanced_view()
    single, several = await asyncio.gather(view.apply_async(abs, -1), view.map_async(abs, [-2, 3]))
    assert (single, several) == (1, [2, 3])

    async def fetch(number: int) -> int:
        value: int = await view.apply_async(abs, number)
        return value

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(fetch(-number)) for number in range(5)]
    assert [task.result() for task in tasks] == list(range(5))

    async def fail() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fetch(1))
            group.create_task(fetch("no number"))  # type: ignore[arg-type]

    with pytest.raises(ExceptionGroup) as failed:
        await fail()
    assert failed.group_contains(TypeError)


async def test_a_cancelled_wait_leaves_the_work_and_the_result(
    client: ipar.Client, new_gate: NewGate
) -> None:
    gate = new_gate("gate")

    def wait() -> str:
        gate.wait()
        return "through"

    result = client.load_balanced_view().apply_async(wait)

    async def fetch() -> str:
        value: str = await result
        return value

    waiting = asyncio.create_task(fetch())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(fetch(), 0.01)
    assert not result.ready()
    gate.open()
    assert await result == "through"


async def test_the_loop_goes_on_while_results_are_awaited(
    client: ipar.Client, new_gate: NewGate
) -> None:
    gate = new_gate("gate")
    result = client.load_balanced_view().map_async(lambda one: one.wait(), [gate] * 2)

    async def open_it() -> str:
        gate.open()  # only a loop that goes on gets here
        return "opened"

    values, opened = await asyncio.gather(result, open_it())
    assert (values, opened) == ([None, None], "opened")
