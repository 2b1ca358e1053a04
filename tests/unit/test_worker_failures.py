"""Exceptions, described so that nothing of them can do harm."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

from ipyasyncresult.core.failure import Failure, decode_failure
from ipyasyncresult.errors import remote_error
from ipyasyncresult.worker.failures import describe_call, describe_failure
from ipyasyncresult.worker.text import TEXT_LIMIT, bounded


def described(error: BaseException, **options: Any) -> Failure:
    return decode_failure(describe_failure(error, **options))


def raised(function: Any) -> BaseException:
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("it did not raise")


def test_a_failure_carries_type_message_and_traceback() -> None:
    failure = described(raised(lambda: os.environ["NO KEY"]), inputs="f(1)")
    assert (failure.ename, failure.evalue, failure.module) == ("KeyError", "'NO KEY'", "builtins")
    assert "in <lambda>" in failure.traceback
    assert failure.traceback.endswith("KeyError: 'NO KEY'\n")
    assert failure.inputs == "f(1)"


def test_the_original_is_kept_as_type_arguments_and_state() -> None:
    error = ValueError("text", 3)
    error.extra = "more"  # type: ignore[attr-defined]
    error.add_note("a note")
    kind, args, state = pickle.loads(described(error).pickled)
    assert (kind, args) == (ValueError, ("text", 3))
    assert state == {"extra": "more", "__notes__": ["a note"]}
    assert "a note" in described(error).traceback


def test_an_exception_whose_init_breaks_unpickling_keeps_its_type() -> None:
    class Picky(Exception):
        def __init__(self, *, needed: int) -> None:
            super().__init__("made once")
            self.needed = needed

    failure = described(Picky(needed=3))
    kind, args, state = pickle.loads(failure.pickled)
    assert (kind.__name__, args, state) == ("Picky", ("made once",), {"needed": 3})


def test_the_file_name_of_an_os_error_is_kept() -> None:
    error = remote_error(described(raised(lambda: open("/no/such/file"))))  # noqa: PTH123,SIM115
    assert isinstance(error, FileNotFoundError)
    assert error.filename == "/no/such/file"


def test_the_cause_chain_is_in_the_text() -> None:
    def outer(table: dict[str, int]) -> None:
        try:
            table["inner"]
        except KeyError as error:
            raise ValueError("outer") from error

    text = described(raised(lambda: outer({}))).traceback
    assert "KeyError: 'inner'" in text
    assert "direct cause" in text
    assert "ValueError: outer" in text


def test_groups_show_their_members() -> None:
    group = ExceptionGroup("both", [ValueError("one"), TypeError("two")])
    failure = described(group)
    assert "ValueError: one" in failure.traceback
    assert "TypeError: two" in failure.traceback
    kind, args, _ = pickle.loads(failure.pickled)
    assert [type(member) for member in kind(*args).exceptions] == [ValueError, TypeError]


@pytest.mark.parametrize("ending", [ValueError, SystemExit, KeyboardInterrupt])
def test_an_exception_whose_text_raises_is_described(ending: type[BaseException]) -> None:
    class Rude(Exception):
        def __str__(self) -> str:
            raise ending

        __repr__ = __str__

    failure = described(Rude())
    assert failure.ename == "Rude"
    assert failure.evalue == "<the text of this Rude cannot be had>"
    assert "Rude" in failure.traceback


def test_texts_are_bounded_and_say_so() -> None:
    failure = described(ValueError("x" * 50_000_000))
    assert len(failure.evalue) < TEXT_LIMIT + 100
    assert "characters left out" in failure.evalue
    assert len(failure.traceback) < TEXT_LIMIT + 100
    kind, _, _ = pickle.loads(failure.pickled)
    assert kind is ValueError
    assert len(failure.pickled) < TEXT_LIMIT + 1000


def iter_nothing() -> Iterator[int]:
    yield from ()


def test_state_that_cannot_be_pickled_is_left_out() -> None:
    error = ValueError("text")
    error.stream = iter_nothing()  # type: ignore[attr-defined]
    assert pickle.loads(described(error).pickled) == (ValueError, ("text",), None)
    error.args = (error.stream,)  # type: ignore[attr-defined]
    assert pickle.loads(described(error).pickled)[0] is ValueError


def test_what_ends_a_process_is_never_rebuilt() -> None:
    assert described(SystemExit(3)).pickled == b""
    assert described(KeyboardInterrupt()).pickled == b""


def test_endless_recursion_is_a_short_text() -> None:
    def again() -> None:
        again()

    failure = described(raised(again))
    assert failure.ename == "RecursionError"
    assert "Previous line repeated" in failure.traceback
    assert len(failure.traceback) < 2000


def test_an_interrupt_is_reported_where_the_users_code_was() -> None:
    def handler() -> None:
        __tracebackhide__ = True
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        handler()
    lines = described(caught.value).traceback.splitlines()
    said = [line for line in lines if line.strip(" ~^")]  # Python 3.13 marks the call
    assert said[-2:] == ["    handler()", "KeyboardInterrupt"]


def test_lone_surrogates_do_not_break_the_encoding() -> None:
    assert described(ValueError("\udc80")).evalue == "\\udc80"


def test_a_call_is_shown_short() -> None:
    class Rude:
        def __repr__(self) -> str:
            raise KeyboardInterrupt

    assert describe_call("f", (3,), {"name": "x"}) == "f(3, name='x')"
    assert describe_call("f", ([1] * 1000, b"x" * 10**6)).startswith(
        "f([1, 1, 1, 1, 1, 1, ...], b'"
    )
    assert len(describe_call("f", ["x" * 10**6] * 100)) <= 500
    assert describe_call("f", (Rude(),)) == "f(...)"


def test_bounded_keeps_beginning_and_end() -> None:
    text = bounded("a" * 100 + "b" * 100, limit=40)
    assert text == "a" * 10 + "\n... 160 characters left out ...\n" + "b" * 30
    assert bounded("short") == "short"
