"""Every task ends in an outcome; what it wrote in Python is in its recorder."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from ipyasyncresult.core.failure import Failure, decode_failure
from ipyasyncresult.core.outputs import stream_text
from ipyasyncresult.worker import namespace
from ipyasyncresult.worker.capture import Capture
from ipyasyncresult.worker.functions import dump_arguments, dump_function, load_result
from ipyasyncresult.worker.recorder import Recorder
from ipyasyncresult.worker.reply import ExecuteReply
from ipyasyncresult.worker.runner import Outcome, Runner
from ipyasyncresult.worker.streams import TaskStream


@contextmanager
def installed() -> Iterator[Capture]:
    """In the test's own process: streams only, no file descriptors.

    No fixture, as pytest puts its own streams in place again before the test itself.
    """
    capture = Capture(redirect_fds=False)
    capture.install()
    try:
        yield capture
    finally:
        capture.uninstall()


@pytest.fixture
def runner() -> Iterator[Runner]:
    yield Runner(Capture(redirect_fds=False))
    namespace.use_namespace({})


def call(runner: Runner, function: Any, *args: Any) -> Outcome:
    data, buffers = dump_arguments(args, {})
    return runner.run_call(dump_function(function), data, buffers)


def failed(runner: Runner, function: Any, *args: Any) -> Failure:
    outcome = call(runner, function, *args)
    assert not outcome.ok
    assert not runner.running
    return decode_failure(outcome.body)


def test_a_call_gives_its_result_and_its_times(runner: Runner) -> None:
    outcome = call(runner, divmod, 7, 2)
    assert outcome.ok
    assert load_result(outcome.body, outcome.buffers) == (3, 1)
    assert outcome.completed == outcome.started + outcome.duration
    assert outcome.duration >= 0


def test_a_failure_shows_the_call_and_only_the_tasks_own_frames(runner: Runner) -> None:
    failure = failed(runner, lambda x, y: x / y, 1, 0)
    assert failure.inputs == "<lambda>(1, 0)"
    assert failure.traceback.count("File ") == 1
    assert "worker" not in failure.traceback.replace("test_worker", "")


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit(), MemoryError(), RecursionError()]
)
def test_whatever_is_raised_ends_in_a_failure(runner: Runner, error: BaseException) -> None:
    def work() -> None:
        raise error

    assert failed(runner, work).ename == type(error).__name__


def test_a_class_of_its_own_below_base_exception_ends_in_a_failure(runner: Runner) -> None:
    class Odd(BaseException):
        pass

    def work() -> None:
        raise Odd("text")

    assert failed(runner, work).evalue == "text"


class Bomb:
    """Unpickling it raises."""

    def __init__(self, kind: type[BaseException]) -> None:
        self.kind = kind

    def __reduce__(self) -> Any:
        return throw, (self.kind,)


def throw(kind: type[BaseException]) -> None:
    raise kind("boom")


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt])
def test_arguments_that_cannot_be_unpickled_end_in_a_failure(
    runner: Runner, kind: type[BaseException]
) -> None:
    failure = failed(runner, print, Bomb(kind))
    assert (failure.ename, failure.inputs) == (kind.__name__, "print(...)")


def test_a_function_that_is_not_there_ends_in_a_failure(runner: Runner) -> None:
    outcome = runner.run_call(b"cno_such_module\nf\n.", dump_arguments((), {})[0])
    assert decode_failure(outcome.body).ename == "ModuleNotFoundError"


def test_a_result_that_cannot_be_sent_ends_in_a_failure_that_shows_it(runner: Runner) -> None:
    failure = failed(runner, lambda: [1, threading.Lock()])
    assert failure.ename == "SerializationError"
    assert failure.evalue.startswith("result[1]: cannot pickle '_thread.lock' object")
    assert "the result was [1, <unlocked" in failure.evalue


def test_a_chunk_counts_its_failed_items_also_those_that_cannot_be_sent(runner: Runner) -> None:
    def work(x: int) -> Any:
        return threading.Lock() if x == 1 else 1 // (x - 2)

    data, _ = dump_arguments((range(4),), {})
    outcome = runner.run_chunk(dump_function(work), data)
    result = load_result(outcome.body, outcome.buffers)
    assert outcome.ok
    assert outcome.failed_items == 2
    assert result.values == [-1, None, None, 1]
    assert decode_failure(result.failures[1]).ename == "SerializationError"
    assert decode_failure(result.failures[2]).inputs == "work(2)"


def test_a_chunk_without_failures_gives_a_plain_list(runner: Runner) -> None:
    data, _ = dump_arguments(([(1, 2), (3, 4)],), {})
    outcome = runner.run_chunk(dump_function(max), data, star=True)
    assert load_result(outcome.body) == [2, 4]
    assert outcome.failed_items == 0


def test_coroutines_are_awaited(runner: Runner) -> None:
    async def work(x: int) -> int:
        return x + 1

    def run() -> tuple[Outcome, Outcome]:
        return call(runner, work, 1), call(runner, lambda: work(2))

    with ThreadPoolExecutor(1) as pool:  # the event loop ends with its thread
        outcomes = pool.submit(run).result()
    assert [load_result(outcome.body) for outcome in outcomes] == [2, 3]


def test_running_is_set_while_the_tasks_code_runs(runner: Runner) -> None:
    seen = []
    namespace.push({"look": lambda: seen.append(runner.running)})
    call(runner, eval("lambda: look()", {"__name__": "__main__"}))
    assert seen == [True]
    assert not runner.running


def test_a_cell_without_a_shell_is_a_clear_failure(runner: Runner) -> None:
    outcome = runner.run_cell("1 + 1")
    assert decode_failure(outcome.body).ename == "CapabilityError"


# -------------------------------------------------------------------------------------- outputs


def speak(text: str) -> None:
    print(text)
    print(text, file=sys.stderr)


def test_prints_go_to_the_task_and_not_to_the_process(capsys: pytest.CaptureFixture[str]) -> None:
    recorder = Recorder()
    arguments, _ = dump_arguments(("hello",), {})
    with installed() as capture:
        Runner(capture).run_call(dump_function(speak), arguments, recorder=recorder)
    outputs = recorder.take()
    assert [(o.kind, o.text) for o in outputs] == [("stdout", "hello\n"), ("stderr", "hello\n")]
    assert capsys.readouterr() == ("", "")


def test_other_threads_of_the_process_keep_their_streams(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As in a notebook kernel that runs tasks in a thread pool."""
    started, printed = threading.Event(), threading.Event()
    recorder = Recorder()

    def task(capture: Capture) -> None:
        with capture.task(recorder):
            started.set()
            assert printed.wait(10)
            print("from the task")

    with installed() as capture:
        thread = threading.Thread(target=task, args=(capture,))
        thread.start()
        assert started.wait(10)
        print("from the process")
        printed.set()
        thread.join()
    assert stream_text(recorder.take(), "stdout") == "from the task\n"
    assert capsys.readouterr().out == "from the process\n"


def test_tasks_in_several_threads_keep_their_outputs_apart() -> None:
    barrier = threading.Barrier(4)

    def task(capture: Capture, name: int) -> str:
        recorder = Recorder()
        with capture.task(recorder):
            for _ in range(20):
                barrier.wait(10)
                print(name)
        return stream_text(recorder.take(), "stdout")

    with installed() as capture, ThreadPoolExecutor(4) as pool:
        texts = list(pool.map(task, [capture] * 4, range(4)))
    assert texts == [f"{name}\n" * 20 for name in range(4)]


def test_threads_of_a_task_belong_to_it_also_after_its_end() -> None:
    started, go = threading.Event(), threading.Event()
    first, second, late = Recorder(), Recorder(), list[Recorder]()

    def linger() -> None:
        print("early")
        started.set()
        assert go.wait(10)
        print("late")

    with installed() as capture:
        capture.on_late = late.append
        with capture.task(first):
            thread = threading.Thread(target=linger)
            thread.start()
            assert started.wait(10)
        assert stream_text(first.take(), "stdout") == "early\n"
        with capture.task(second):
            go.set()
            thread.join()
    assert second.take() == []
    assert late == [first]
    assert stream_text(first.take(), "stdout") == "late\n"


def test_a_thread_pool_that_outlives_its_task_works_for_the_one_that_submits() -> None:
    first, second = Recorder(), Recorder()
    with installed() as capture, ThreadPoolExecutor(1) as pool:
        for recorder, text in ((first, "one"), (second, "two")):
            with capture.task(recorder):
                pool.submit(print, text).result()
    assert stream_text(first.take(), "stdout") == "one\n"
    assert stream_text(second.take(), "stdout") == "two\n"


def test_only_one_capture_is_installed_at_a_time() -> None:
    with installed() as capture:
        with pytest.raises(RuntimeError, match="installed in this process already"):
            Capture(redirect_fds=False).install()
        capture.uninstall()
        assert not isinstance(sys.stdout, TaskStream)


def test_the_streams_are_proper_text_streams() -> None:
    def look() -> tuple[Any, ...]:
        out: Any = sys.stdout
        out.buffer.write("ü".encode()[:1])
        out.buffer.write("ü\n".encode()[1:])
        out.writelines(["a", "b"])
        out.flush()
        out.close()
        return out.encoding, out.isatty(), out.writable(), out.closed

    recorder = Recorder()
    with installed() as capture, capture.task(recorder):
        seen = look()
        with pytest.raises(TypeError, match="must be str, not bytes"):
            sys.stdout.write(b"x")  # type: ignore[arg-type]
    assert seen == ("utf-8", False, True, False)
    assert stream_text(recorder.take(), "stdout") == "ü\nab"


# ---------------------------------------------------------------------------------------- reply


def test_the_reply_of_a_cell_shows_its_value() -> None:
    reply = ExecuteReply(3, {"execution_count": 3, "data": {"text/plain": "2"}, "metadata": {}})
    assert repr(reply) == "<ExecuteReply[3]: 2>"
    assert reply._repr_mimebundle_() == ({"text/plain": "2"}, {})
    assert repr(ExecuteReply(4)) == "<ExecuteReply[4]: >"
