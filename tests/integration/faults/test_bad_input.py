"""Bad input and bad behaviour: a clear error on that result alone, and everybody else goes on."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import ipyasyncresult as ipar
from ipyasyncresult.errors import ResultDecodeError, SerializationError

if TYPE_CHECKING:
    from tests.integration.conftest import NewGate

AT_ONCE = 10.0
"""Seconds that nothing here comes near to; a result that never comes fails the test sooner."""


def square(x: int) -> int:
    return x * x


@pytest.fixture(autouse=True)
def siblings(client: ipar.Client) -> Iterator[None]:
    """Before and after each test: other tasks, and the processes of the engines, are untouched."""
    pids = [about["pid"] for about in client.engines.values()]
    before = client.load_balanced_view().map_async(square, range(20))
    yield
    assert before.get(AT_ONCE) == [x * x for x in range(20)]
    assert client[:].apply_sync(os.getpid) == pids


# ---------------------------------------------------------------- what cannot be sent to engines


class Holder:
    def __init__(self, inner: Any) -> None:
        self.inner = inner


LOCK = threading.Lock()


@pytest.mark.parametrize(
    ("args", "kwargs", "place"),
    [
        ((LOCK,), {}, "argument 1"),
        ((1, [2, LOCK]), {}, r"argument 2\[1\]"),
        ((), {"key": {"a": LOCK}}, r"argument 'key'\['a'\]"),
        ((Holder(LOCK),), {}, r"argument 1\.inner"),
        ((x for x in "ab"), {}, "argument 1"),
    ],
    ids=["itself", "in a list", "in a dict", "in an object", "a generator"],
)
def test_an_argument_that_cannot_be_pickled_is_named_when_it_is_given(
    client: ipar.Client, args: Any, kwargs: dict[str, Any], place: str
) -> None:
    if not isinstance(args, tuple):
        args = (args,)
    for view in (client[0], client[:], client.load_balanced_view()):
        with pytest.raises(SerializationError, match=place) as caught:
            view.apply_async(print, *args, **kwargs)
        assert isinstance(caught.value, TypeError)
        assert isinstance(caught.value, pickle.PicklingError)


def test_a_client_in_a_task_is_named_and_not_what_is_inside_of_it(client: ipar.Client) -> None:
    view = client.load_balanced_view()
    with pytest.raises(
        SerializationError, match=r"captured variable 'view'\.client: a Client cannot"
    ):
        view.apply_async(lambda: view)


def test_a_function_that_cannot_be_pickled_is_named(client: ipar.Client) -> None:
    lock = LOCK

    def locked() -> None:
        with lock:
            pass

    with pytest.raises(SerializationError, match="locked"):
        client[0].apply_async(locked)


def test_an_item_that_cannot_be_pickled_is_named(client: ipar.Client) -> None:
    for view in (client[:], client.load_balanced_view()):
        with pytest.raises(SerializationError, match="lock"):
            view.map_async(square, [1, 2, LOCK])


class Bomb:
    """Does something bad when it is unpickled."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


class BrokenPickle:
    """Does something bad when it is pickled."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error


def raise_it(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("kind", [ZeroDivisionError, SystemExit, KeyboardInterrupt, MemoryError])
def test_an_argument_that_raises_on_the_engine_fails_its_task(
    client: ipar.Client, kind: type[BaseException]
) -> None:
    result = client[0].apply_async(square, Bomb(raise_it, kind("of the bomb")))
    with pytest.raises(ipar.RemoteError) as caught:
        result.get(AT_ONCE)
    assert caught.value.ename == kind.__name__


def test_an_argument_that_raises_when_pickled_is_the_callers_error(client: ipar.Client) -> None:
    with pytest.raises(SerializationError, match="argument 1") as caught:
        client[0].apply_async(print, BrokenPickle(OSError("no file")))
    assert "no file" in str(caught.value)


# ------------------------------------------------------------------ what cannot be sent back


def test_a_result_that_cannot_be_pickled_is_named_and_shown(client: ipar.Client) -> None:
    result = client[0].apply_async(lambda: [1, {"here": __import__("threading").Lock()}])
    with pytest.raises(SerializationError, match=r"result\[1\]\['here'\]") as caught:
        result.get(AT_ONCE)
    assert "lock" in str(caught.value)


def test_an_item_whose_result_cannot_be_pickled_leaves_its_siblings(client: ipar.Client) -> None:
    def work(x: int) -> Any:
        return __import__("threading").Lock() if x == 1 else x

    result = client.load_balanced_view().map_async(work, range(3), chunksize=3)
    with pytest.raises(SerializationError) as caught:
        result.get(AT_ONCE)
    assert result.ok == [0, 2]
    told = str(caught.value)
    assert "work(1)" in told
    assert "ipyasyncresult/" not in told  # no frames of ours, nor of the second try
    assert "During handling" not in told


@pytest.mark.parametrize(
    "make",
    [lambda: (x for x in "ab"), lambda: map(str, "ab"), lambda: iter([1])],
    ids=["generator", "map", "iterator"],
)
def test_a_lazy_result_is_to_be_made_a_list(client: ipar.Client, make: Callable[[], Any]) -> None:
    result = client[0].apply_async(make)
    with pytest.raises(SerializationError, match=r"list\(\.\.\.\)"):
        result.get(AT_ONCE)


@pytest.mark.parametrize("kind", [ZeroDivisionError, SystemExit, KeyboardInterrupt])
def test_a_result_that_raises_when_pickled_fails_its_task(
    client: ipar.Client, kind: type[BaseException]
) -> None:
    result = client[0].apply_async(lambda: BrokenPickle(kind("of the result")))
    with pytest.raises(ipar.RemoteError):
        result.get(AT_ONCE)


@pytest.mark.parametrize("kind", [ZeroDivisionError, SystemExit, KeyboardInterrupt])
def test_a_result_that_raises_when_it_is_unpickled_here_fails_alone(
    client: ipar.Client, kind: type[BaseException]
) -> None:
    good = client[1].apply_async(square, 3)
    bad = client[0].apply_async(lambda: Bomb(raise_it, kind("of the result")))
    if kind is KeyboardInterrupt:
        # That is what a person at the keyboard would cause: it is let through.
        with pytest.raises(KeyboardInterrupt):
            bad.get(AT_ONCE)
    else:
        with pytest.raises(ResultDecodeError, match=kind.__name__) as caught:
            bad.get(AT_ONCE)
        assert isinstance(caught.value.__cause__, kind)
    assert good.get(AT_ONCE) == 9
    both = ipar.AsyncResult.join(good, bad)
    if kind is not KeyboardInterrupt:
        assert both.ok == [9]


def test_a_result_is_decoded_once_its_module_can_be_imported(
    client: ipar.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "late_module.py").write_text("class Thing:\n    size = 3\n")

    def make(folder: str) -> Any:
        sys.path.insert(0, folder)
        import late_module  # type: ignore[import-not-found]

        return late_module.Thing()

    result = client[0].apply_async(make, str(tmp_path))
    with pytest.raises(ResultDecodeError, match="late_module"):
        result.get(AT_ONCE)
    monkeypatch.syspath_prepend(tmp_path)
    assert result.get(AT_ONCE).size == 3


# ------------------------------------------------------------------------- bad exceptions


class Broken(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


class Greedy(Exception):
    def __init__(self) -> None:
        raise OSError("made twice")


class Unprintable(Exception):
    def __str__(self) -> str:
        raise OSError("no text")

    __repr__ = __str__


class Own(BaseException):
    pass


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__("holds a lock")
        self.lock = __import__("threading").Lock()


@pytest.mark.parametrize(
    ("make", "name", "text"),
    [
        (lambda: Broken(1, 2), "Broken", "1 and 2"),
        (lambda: Greedy.__new__(Greedy, "args"), "Greedy", "args"),
        (Unprintable, "Unprintable", ""),
        (lambda: Own("mine"), "Own", "mine"),
        (Unpicklable, "Unpicklable", "holds a lock"),
        (lambda: SystemExit(3), "SystemExit", "3"),
        (lambda: KeyboardInterrupt("now"), "KeyboardInterrupt", "now"),
        (lambda: GeneratorExit("over"), "GeneratorExit", "over"),
        (lambda: StopIteration(4), "StopIteration", "4"),
        (lambda: MemoryError("full"), "MemoryError", "full"),
        (lambda: ExceptionGroup("some", [ValueError(1)]), "ExceptionGroup", "some"),
        (lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), "UnicodeDecodeError", "bad"),
        (lambda: type("Local", (ValueError,), {})("of nowhere"), "Local", "of nowhere"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_exception_becomes_a_remote_error(
    client: ipar.Client, make: Callable[[], BaseException], name: str, text: str
) -> None:
    def fail() -> None:
        raise make()

    result = client.load_balanced_view().apply_async(fail)
    with pytest.raises(ipar.RemoteError) as caught:
        result.get(AT_ONCE)
    error = caught.value
    assert error.ename == name
    assert text in error.evalue
    assert "fail" in error.traceback
    assert not isinstance(error, SystemExit | KeyboardInterrupt | StopIteration)


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt, StopIteration, Own])
def test_an_item_that_raises_anything_leaves_the_items_before_it(
    client: ipar.Client, kind: type[BaseException]
) -> None:
    def work(x: int) -> int:
        if x == 2:
            raise kind("of the item")
        return x

    result = client.load_balanced_view().map_async(work, range(4), chunksize=4)
    with pytest.raises((ipar.RemoteError, ipar.CompositeError), match=kind.__name__):
        result.get(AT_ONCE)
    # An interrupt ends the chunk: what comes behind is not run.
    assert result.ok == ([0, 1] if kind is KeyboardInterrupt else [0, 1, 3])


def test_a_remote_error_is_pickled_with_what_it_knows(client: ipar.Client) -> None:
    error = client[1].apply_async(divmod, 1, 0).exception(AT_ONCE)
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, ipar.RemoteError)
    assert isinstance(again, ZeroDivisionError)
    assert (again.engine_id, again.inputs) == (1, "divmod(1, 0)")


def test_an_exit_in_a_cell_ends_neither_engine_nor_client(client: ipar.Client) -> None:
    for code in (
        "import sys; sys.exit(2)",
        "raise KeyboardInterrupt",
        "exit()",
        "raise SystemExit",
    ):
        result = client[0].execute(code)
        with pytest.raises(ipar.RemoteError):
            result.get(AT_ONCE)


def test_causes_and_notes_are_told(client: ipar.Client) -> None:
    def fail() -> None:
        try:
            raise KeyError("cause")  # noqa: TRY301
        except KeyError as error:
            wrapped = ValueError("effect")
            wrapped.add_note("a hint")
            raise wrapped from error

    with pytest.raises(ValueError, match="effect") as caught:
        client[0].apply_sync(fail)
    told = caught.value.traceback  # type: ignore[attr-defined]
    assert "KeyError: 'cause'" in told
    assert "a hint" in told


def test_members_of_a_group_are_handled_by_except_star(client: ipar.Client) -> None:
    def fail() -> None:
        raise ExceptionGroup("two", [ValueError("a"), KeyError("b")])

    seen: list[BaseException] = []
    try:
        client[0].apply_sync(fail)
    except* ValueError as group:
        seen += group.exceptions
    except* KeyError as group:
        seen += group.exceptions
    assert [type(error) for error in seen] == [ValueError, KeyError]


def test_endless_recursion_fails_its_task(client: ipar.Client) -> None:
    def deeper(n: int) -> int:
        return deeper(n + 1)

    with pytest.raises(RecursionError) as caught:
        client[0].apply_async(deeper, 0).get(AT_ONCE)
    assert len(caught.value.traceback) < 100_000  # type: ignore[attr-defined]


def test_a_structure_too_deep_to_pickle_is_refused_on_both_sides(client: ipar.Client) -> None:
    def make() -> list[Any]:
        nested: list[Any] = []
        for _ in range(100_000):
            nested = [nested]
        return nested

    with pytest.raises((SerializationError, RecursionError)):
        client[0].apply_async(len, make())
    with pytest.raises((SerializationError, RecursionError)):
        client[0].apply_async(make).get(AT_ONCE)


def test_an_exception_with_huge_arguments_is_cut(client: ipar.Client) -> None:
    def fail() -> None:
        raise ValueError("x" * 50_000_000)

    result = client[0].apply_async(fail)
    with pytest.raises(ValueError, match="xxx") as caught:
        result.get(AT_ONCE)
    assert len(str(caught.value)) < 1_000_000


# ------------------------------------------------------------ tasks that end their engine


def exit_now() -> None:
    os._exit(7)


def crash() -> None:
    import ctypes

    ctypes.string_at(0)


def abort() -> None:
    os.abort()


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def fragile() -> Iterator[ipar.Client]:
    """Engines that may die."""
    with ipar.Cluster(n=2, restart_limit=100) as client:
        client[:].apply_sync(list)
        yield client


@pytest.mark.parametrize(
    ("end", "reason"),
    [(exit_now, "exit code 7"), (crash, "SIGSEGV"), (abort, "SIGABRT"), (kill, "SIGKILL")],
    ids=["exit", "segfault", "abort", "kill"],
)
def test_a_task_that_ends_its_engine_fails_alone_and_says_how(
    fragile: ipar.Client, new_gate: NewGate, end: Callable[[], None], reason: str
) -> None:
    started, go = new_gate("started"), new_gate("go")

    def hold() -> str:
        started.open()
        go.wait()
        return "held"

    def speak_and_end() -> None:
        print("last words")
        end()

    other = fragile[1].apply_async(hold)
    started.wait()
    queued = fragile[0].map_async(square, range(3))
    queued.get(AT_ONCE)
    pid = fragile.engines[0]["pid"]
    ended = fragile[0].apply_async(speak_and_end)
    behind = fragile[0].apply_async(square, 5)
    with pytest.raises(ipar.EngineError, match=reason) as caught:
        ended.get(AT_ONCE)
    assert str(pid) in str(caught.value)
    assert ended.status == "lost"
    assert behind.get(AT_ONCE) == 25  # by the engine that took its place
    assert fragile[0].apply_sync(os.getpid) != pid
    go.open()
    assert other.get(AT_ONCE) == "held"


def test_a_crash_tells_where_it_happened_and_what_was_said(
    fragile: ipar.Client, new_gate: NewGate
) -> None:
    go = new_gate("go")

    def crash_aloud() -> None:
        print("printed before", flush=True)
        go.wait()
        os.write(2, b"written before\n")
        crash()

    result = fragile[0].apply_async(crash_aloud)
    assert fragile._connection.wait(lambda: result.stdout == "printed before\n", AT_ONCE)
    go.open()
    with pytest.raises(ipar.EngineError, match="SIGSEGV") as caught:
        result.get(AT_ONCE)
    told = str(caught.value)
    assert "Segmentation fault" in told
    assert "in crash_aloud" in told
    assert "printed before" in told
    assert "written before" in caught.value.stderr
