"""The line after ``%px``: what is a flag, what is code, what is an engine, and what is refused."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.error import UsageError

from ipyasyncresult.client.targets import Targets
from ipyasyncresult.core.presenter import GROUPINGS
from ipyasyncresult.magics.arguments import parse
from ipyasyncresult.magics.enginemagics import EngineMagics
from ipyasyncresult.magics.settings import Settings
from ipyasyncresult.magics.targets import format_targets, parse_targets


def px(line: str) -> Any:
    return parse(EngineMagics.px, line)


# ------------------------------------------------------------------------------- flags and code


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("x = 1", "x = 1"),
        ("-a x = 1", "x = 1"),
        ("-t 0 print('a  b')  # two blanks", "print('a  b')  # two blanks"),
        ("-t [0, 2] --block x = [0, 2]", "x = [0, 2]"),
        ("-t '0, 2' x", "x"),
        ("x = -a", "x = -a"),
        ("f(x) -t 0", "f(x) -t 0"),
        ("-1 + x", "-1 + x"),
        ("-- -x", "-x"),
        ("-a -- --x", "--x"),
        ("x -- y", "x -- y"),
        ("-a x -- -y", "x -- -y"),
        ("", ""),
        ("-a", ""),
    ],
)
def test_flags_come_before_the_code_and_leave_it_untouched(line: str, code: str) -> None:
    assert px(line).code == code


@given(st.text(alphabet=st.characters(blacklist_categories=["Cc", "Cs", "Zl", "Zp"])))
def test_any_code_after_two_dashes_arrives_as_it_is(code: str) -> None:
    assert px(f"-a -- {code}").code.strip() == code.strip()


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("-a", "block", False),
        ("--noblock", "block", False),
        ("-b", "block", True),
        ("--no-stream", "stream", False),
        ("--stream", "stream", True),
        ("-e", "group_outputs", "engine"),
        ("-r", "group_outputs", "order"),
        ("--progress-after -1", "progress_after", -1.0),
        ("--progress-after=0.5", "progress_after", 0.5),
        ("--signal-on-interrupt 0", "signal_on_interrupt", 0),
        ("--signal-on-interrupt none", "signal_on_interrupt", 0),
        ("--signal-on-interrupt KILL", "signal_on_interrupt", signal.SIGKILL),
        ("--signal-on-interrupt sigterm", "signal_on_interrupt", signal.SIGTERM),
        ("--signal-on-interrupt 15", "signal_on_interrupt", signal.SIGTERM),
        ("-o result", "out", "result"),
        ("-t -2:", "targets", " -2:"),
        ('--targets="0, 2"', "targets", "0, 2"),
        ("--verbose", "verbose", True),
        ("--no-verbose", "verbose", False),
        ("--local", "local", True),
    ],
)
def test_every_flag_of_ipyparallel_is_understood(line: str, name: str, value: Any) -> None:
    assert getattr(px(line), name) == value


@pytest.mark.parametrize("grouping", GROUPINGS)
def test_outputs_can_be_grouped_in_all_ways_of_display_outputs(grouping: str) -> None:
    assert px(f"--group-outputs {grouping} x").group_outputs == grouping


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--nonsense x", ["--nonsense", "--no-stream", "-t", "after --"]),
        ("--group-outputs colour x", ["--group-outputs", "colour", "engine", "time"]),
        ("--progress-after soon x", ["--progress-after", "soon", "seconds", "-1"]),
        ("--progress-after nan x", ["--progress-after", "nan"]),
        ("--progress-after -3 x", ["--progress-after", "-3"]),
        ("--signal-on-interrupt LOUD x", ["--signal-on-interrupt", "LOUD", "SIGINT"]),
        ("--signal-on-interrupt 999 x", ["--signal-on-interrupt", "999"]),
        ("-o 3x y", ["-o/--out", "3x", "name"]),
        ("-o class y", ["-o/--out", "class"]),
        ("-t", ["-t/--targets", "expected one argument"]),
    ],
)
def test_a_wrong_flag_is_named_with_what_is_allowed(line: str, said: list[str]) -> None:
    with pytest.raises(UsageError) as raised:
        px(line)
    assert [part for part in said if part not in str(raised.value)] == []


# -------------------------------------------------------------------------------------- targets


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("0", 0),
        ("-1", -1),
        ("all", "all"),
        ("0,2", [0, 2]),
        ("[0, 2]", [0, 2]),
        ("3,", [3]),
        ("[3]", [3]),
        ("0:3", slice(0, 3)),
        ("::2", slice(None, None, 2)),
        (":", slice(None)),
        (" -2:", slice(-2, None)),
        ("[1:]", slice(1, None)),
        ("chosen", [1, 2]),
        ("first", 0),
        ("every_other", slice(None, None, 2)),
        ("few", [0, 1, 2]),
        ("pair", [4, 5]),
    ],
)
def test_engines_are_given_by_number_list_slice_word_or_variable(
    text: str, targets: Targets
) -> None:
    variables = {
        "chosen": [1, 2],
        "first": 0,
        "every_other": slice(None, None, 2),
        "few": range(3),
        "pair": (4, 5),
    }
    assert parse_targets(text, variables) == targets


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1.5",
        "0,1:3",
        "1-2",
        "[",
        "[]",
        "len([0])",
        "chosen[0]",
        "__import__('os')",
        "0;1",
        "x y",
    ],
)
def test_what_names_no_engines_is_refused_and_nothing_is_evaluated(text: str) -> None:
    with pytest.raises(UsageError, match="-t/--targets"):
        parse_targets(text, {"chosen": [0]})


@pytest.mark.parametrize("value", ["0", 1.5, True, None, {0: 1}])
def test_a_variable_that_holds_something_else_is_refused_by_name(value: object) -> None:
    with pytest.raises(UsageError, match=f"'held' must hold .* not {type(value).__name__}"):
        parse_targets("held", {"held": value})


@pytest.mark.parametrize("targets", [0, -1, "all", [0], [0, 2], slice(0, 3), slice(None, None, -2)])
def test_targets_are_shown_as_the_flag_takes_them(targets: Targets) -> None:
    assert parse_targets(format_targets(targets), {}) == targets


# ------------------------------------------------------------------------------------- settings


def test_what_no_flag_mentions_stays_as_it_is() -> None:
    base = Settings(targets=[1], block=False, stream=False, progress_after=7)
    assert base.changed(px("x = 1"), {}) == base
    assert base.changed(px("-b x"), {}) == Settings(targets=[1], stream=False, progress_after=7)


def test_who_asks_for_groups_gets_them_at_the_end_instead_of_a_stream() -> None:
    assert not Settings().changed(px("-e x"), {}).stream
    both = Settings().changed(px("-e --stream x"), {})
    assert (both.stream, both.group_outputs) == (True, "engine")


def test_settings_are_described_as_their_flags_take_them() -> None:
    shown = Settings(targets=slice(0, 2), signal_on_interrupt=0).describe()
    values = dict(line.split() for line in shown.splitlines())
    assert values == {
        "targets": "0:2",
        "block": "True",
        "verbose": "False",
        "stream": "True",
        "group-outputs": "type",
        "progress-after": "2",
        "signal-on-interrupt": "0",
    }
