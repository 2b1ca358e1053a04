"""The error tree: what it can be caught as, what it says, and that it travels."""

from __future__ import annotations

import ast
import builtins
import concurrent.futures
import inspect
import multiprocessing
import pickle
import re
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Self

import pytest

from ipyasyncresult import errors
from ipyasyncresult.core.failure import Failure, decode_failure
from ipyasyncresult.errors import (
    CompositeError,
    EngineError,
    HubError,
    IpyAsyncResultError,
    RemoteError,
    ResultNotReady,
    TaskAborted,
    UnknownTaskError,
    remote_error,
)
from ipyasyncresult.testing import FakeClient
from ipyasyncresult.worker.failures import describe_failure


def remote(error: BaseException, **context: Any) -> RemoteError:
    """What the client raises for what a task raised."""
    return remote_error(decode_failure(describe_failure(error)), context)


def raised(call: Callable[[], object]) -> Exception:
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


# --------------------------------------------------------------------------------------- the tree


@pytest.mark.parametrize(
    ("name", "bases"),
    [
        ("TimeoutError", [builtins.TimeoutError, multiprocessing.TimeoutError]),
        ("ResultNotReady", [AssertionError, ValueError, RuntimeError]),
        ("TaskAborted", [concurrent.futures.CancelledError]),
        ("EngineError", [BrokenProcessPool, concurrent.futures.BrokenExecutor, RuntimeError]),
        ("HubError", [ConnectionError]),
        ("SerializationError", [TypeError, pickle.PicklingError]),
        ("StartError", [RuntimeError]),
        ("NoEnginesError", [RuntimeError]),
        ("UnknownTaskError", [KeyError]),
        ("CapabilityError", [NotImplementedError]),
    ],
)
def test_errors_are_caught_by_clauses_written_for_others(name: str, bases: list[type]) -> None:
    kind = getattr(errors, name)
    for base in bases:
        assert issubclass(kind, base)


def test_all_errors_but_the_timeout_have_one_base() -> None:
    for name in errors.__all__:
        kind = getattr(errors, name)
        if inspect.isclass(kind) and name != "TimeoutError":
            assert issubclass(kind, IpyAsyncResultError)


def test_the_drawn_tree_shows_every_error_and_no_other() -> None:
    drawn = re.findall(
        r"[├└]── (\w+)", ast.get_docstring(ast.parse(inspect.getsource(errors))) or ""
    )
    assert sorted(drawn) == sorted(set(errors.__all__) - {"remote_error"})


@pytest.mark.parametrize(
    "error",
    [
        TaskAborted("a-1"),
        EngineError("engine 1 died"),
        HubError("gone"),
        ResultNotReady("not yet"),
        errors.TimeoutError("too late"),
        UnknownTaskError("no task 'x'"),
        CompositeError([ValueError("a"), ValueError("b")], 3),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_survive_pickling_with_their_text(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)


def test_an_unknown_task_is_named_without_the_quotes_of_a_key_error() -> None:
    assert str(UnknownTaskError("no task 'x'")) == "no task 'x'"
    assert str(UnknownTaskError()) == ""


# ------------------------------------------------------------------------------- errors of tasks


def divide() -> float:
    return 1 / 0


def test_a_remote_error_is_of_the_original_type_and_tells_the_place() -> None:
    error = remote(
        raised(divide), engine_id=2, msg_id="a-7", label="night", last_output="so far\nso good"
    )
    assert isinstance(error, ZeroDivisionError)
    assert (error.ename, error.evalue) == ("ZeroDivisionError", "division by zero")
    assert "return 1 / 0" in error.traceback
    assert error.where() == "engine 2, task a-7 (night)"
    assert repr(error) == "<RemoteError[2]: ZeroDivisionError(division by zero)>"
    assert str(error).startswith(
        "ZeroDivisionError: division by zero\n[engine 2, task a-7 (night)]\n"
    )
    shown = error._render_traceback_()
    assert shown[0] == "[engine 2, task a-7 (night)]"
    assert shown[-3:] == ["last output:", "  so far", "  so good"]


def test_a_remote_error_without_a_known_place_says_an_engine() -> None:
    failure = Failure(ename="Odd", evalue="x", inputs="f(0)")
    error = RemoteError(failure)
    assert error.where() == "an engine, f(0)"
    assert str(error) == "Odd: x\n[an engine, f(0)]"
    assert (error.inputs, error.args) == ("f(0)", ("Odd: x",))
    assert error._render_traceback_() == [str(error)]


def test_a_cell_shows_its_own_coloured_traceback() -> None:
    failure = Failure(ename="E", evalue="x", traceback="plain", traceback_ansi="\x1b[31mred\x1b[0m")
    assert RemoteError(failure)._render_traceback_() == ["[an engine]", "\x1b[31mred\x1b[0m"]


class OddInit(Exception):
    """Cannot be made of its own ``args``."""

    def __init__(self, code: int, *, name: str) -> None:
        super().__init__(f"{name} failed")
        self.code = code
        self.name = name


class OddNew(Exception):
    def __new__(cls, *, name: str) -> Self:
        return super().__new__(cls, name)

    def __init__(self, *, name: str) -> None:
        pass


class OddOSError(OSError):
    def __init__(self, path: str) -> None:
        super().__init__(2, "missing", path)


class OwnNames(Exception):
    """Has the names of ours for things of its own."""

    traceback = "mine"

    def __init__(self) -> None:
        super().__init__("x")
        self.engine_id = "mine"
        self.ename = "mine"

    @property
    def failure(self) -> str:
        return "mine"


def test_an_exception_with_an_odd_init_keeps_type_arguments_and_fields() -> None:
    error: Any = remote(OddInit(3, name="disk"))
    assert issubclass(type(error), OddInit)
    assert (error.args, error.code, error.name) == (("disk failed",), 3, "disk")
    assert error.evalue == "disk failed"
    assert isinstance(remote(OddNew(name="a")), OddNew)


def test_an_exception_with_our_names_cannot_put_its_own_in_their_places() -> None:
    error = remote(OwnNames(), engine_id=4)
    assert isinstance(error, OwnNames)
    assert (error.engine_id, error.ename, error.failure.evalue) == (4, "OwnNames", "x")
    assert error.traceback.endswith("OwnNames: x\n")


def test_builtin_exceptions_keep_the_fields_that_are_no_arguments() -> None:
    missing: Any = remote(raised(Path("/no/such/file").read_text))
    assert isinstance(missing, FileNotFoundError)
    assert (missing.errno, missing.filename) == (2, "/no/such/file")
    assert missing.args == (2, "No such file or directory")
    own: Any = remote(OddOSError("a.txt"))
    assert isinstance(own, OddOSError)
    assert (own.errno, own.strerror, own.filename) == (2, "missing", "a.txt")
    decoding: Any = remote(raised(b"ab\xff".decode))
    assert isinstance(decoding, UnicodeDecodeError)
    assert (decoding.start, decoding.object, decoding.encoding) == (2, b"ab\xff", "utf-8")
    syntax: Any = remote(raised(lambda: compile("a b", "file.py", "exec")))
    assert (syntax.lineno, syntax.filename) == (1, "file.py")
    module: Any = remote(raised(lambda: __import__("no_such_module")))
    assert isinstance(module, ModuleNotFoundError)
    assert module.name == "no_such_module"


@pytest.mark.parametrize("kind", [KeyError, MemoryError, RecursionError, NotImplementedError])
def test_any_exception_type_is_kept(kind: type[Exception]) -> None:
    error = remote(kind("x"))
    assert isinstance(error, kind)
    assert error.args == ("x",)


@pytest.mark.parametrize(
    "error",
    [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), StopIteration(1), StopAsyncIteration()],
    ids=lambda error: type(error).__name__,
)
def test_what_would_end_the_caller_never_comes_out_as_itself(error: BaseException) -> None:
    made = remote(error)
    assert type(made) is RemoteError
    assert made.ename == type(error).__name__


def test_a_group_is_taken_apart_by_except_star() -> None:
    group = remote(ExceptionGroup("several", [ValueError("v"), KeyError("k"), OSError("o")]))
    caught: dict[str, ExceptionGroup[Any]] = {}
    try:
        raise group
    except* ValueError as values:
        caught["values"] = values
    except* LookupError as lookups:
        caught["lookups"] = lookups
    except* OSError as others:
        caught["others"] = others
    assert {name: [str(e) for e in some.exceptions] for name, some in caught.items()} == {
        "values": ["v"],
        "lookups": ["'k'"],
        "others": ["o"],
    }


class Bomb:
    def __init__(self, call: Callable[..., object], *args: object) -> None:
        self.reduced = call, args

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.reduced


@pytest.mark.parametrize(
    "data",
    [
        b"no pickle",
        pickle.dumps(3),
        pickle.dumps((ValueError, ("a", "b"), None))[:-3],
        pickle.dumps((int, (), None)),
        pickle.dumps(Bomb(exit, 1)),
        pickle.dumps(Bomb(int, "x")),
        pickle.dumps((UnicodeDecodeError, (1,), None)),
    ],
)
def test_what_cannot_be_rebuilt_is_told_as_text(data: bytes) -> None:
    error = remote_error(Failure(ename="Some", evalue="thing", pickled=data), {"engine_id": 1})
    assert isinstance(error, RemoteError)
    assert str(error).startswith("Some: thing\n[engine 1]")
    assert error.args


def test_a_remote_error_survives_pickling_with_type_and_place() -> None:
    error = remote(KeyError("k"), engine_id=2, msg_id="a-1", label="l", last_output="x")
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy, KeyError)
    assert isinstance(copy, RemoteError)
    assert str(copy) == str(error)
    assert copy.args == ("k",)
    assert (copy.engine_id, copy.last_output) == (2, "x")


def test_a_remote_error_raised_again_by_a_task_is_one_once_more() -> None:
    error = remote(remote(KeyError("k"), engine_id=1), engine_id=2)
    assert isinstance(error, RemoteError)
    assert error.engine_id == 2


def test_get_raises_it_with_the_place_and_what_was_printed_last() -> None:
    client = FakeClient()
    ar = client.submit("f", label="l")
    client.output(ar.msg_ids[0], "stdout", "x" * 5000 + "\nthe end\n")
    client.fail(ar.msg_ids[0], raised(divide), engine=1, inputs="f(0)")
    with pytest.raises(ZeroDivisionError) as caught:
        ar.get()
    error: Any = caught.value
    assert error.where() == f"engine 1, task {ar.msg_ids[0]} (l), f(0)"
    assert error.last_output.endswith("the end")
    assert len(error.last_output) < 2100


# ---------------------------------------------------------------------------------------- several


def test_identical_errors_are_counted_and_the_first_is_located() -> None:
    same = [remote(ZeroDivisionError("division by zero"), engine_id=n) for n in range(37)]
    never_ran = [TaskAborted("a-1"), TaskAborted("a-2")]
    error = CompositeError([*same, remote(KeyError("k"), engine_id=5), *never_ran], 100)
    assert str(error) == (
        "40 of 100 failed:\n"
        "  37 x ZeroDivisionError: division by zero  (first: engine 0)\n"
        "  1 x KeyError: 'k'  (first: engine 5)\n"
        "  2 x TaskAborted: aborted before it ran"
    )
    assert [(count, type(first).__name__) for count, first in error.groups()] == [
        (37, "RemoteZeroDivisionError"),
        (1, "RemoteKeyError"),
        (2, "TaskAborted"),
    ]
    with pytest.raises(KeyError):
        error.raise_exception(37)
    with pytest.raises(ZeroDivisionError):
        error.raise_exception()


def test_one_mistake_in_a_cell_is_one_kind_of_error_on_all_engines() -> None:
    wrong = [
        RemoteError(Failure(ename="SyntaxError", evalue=f"invalid (<ipython-input-{n}-0ab1>)"))
        for n in (7, 12)
    ]
    assert str(CompositeError(wrong, 2)).splitlines()[1:] == [
        "  2 x SyntaxError: invalid (<cell>)  (first: an engine)"
    ]


def test_a_thousand_kinds_of_errors_stay_readable() -> None:
    kinds = [remote(ValueError(str(number)), engine_id=0) for number in range(1000)]
    head, *lines = str(CompositeError([*kinds, KeyError()], 2000)).splitlines()
    assert head == "1001 of 2000 failed:"
    assert lines[9] == "  1 x ValueError: 9  (first: engine 0)"
    assert lines[10:] == ["  991 others"]


def test_an_error_without_a_message_is_its_name() -> None:
    error = remote(KeyboardInterrupt(), engine_id=0)
    assert str(error).startswith("KeyboardInterrupt\n[engine 0]")
    assert "  1 x KeyboardInterrupt  (first" in str(CompositeError([error], 2))


def test_several_errors_are_shown_with_a_traceback_per_kind_of_the_first_three() -> None:
    some = [*(remote(raised(divide), engine_id=n) for n in (1, 2)), TaskAborted("a")]
    some += [remote(ValueError(str(number)), engine_id=number) for number in range(5)]
    shown = CompositeError(some, 9)._render_traceback_()
    assert shown[0] == "8 of 9 failed:"
    assert [line for line in shown if line.startswith(("first of", "[engine"))] == [
        "first of 2:",
        "[engine 1]",
        "[engine 0]",
    ]
    assert any("return 1 / 0" in line for line in shown)
