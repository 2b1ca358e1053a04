"""Tables in a terminal."""

from __future__ import annotations

import pytest

from ipyasyncresult.cli.tables import ago, plain, table


class Terminal:
    """A standard output that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def use_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    # In the test itself: pytest puts its own standard output there when fixtures are done.
    monkeypatch.setattr("sys.stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_columns_are_aligned_and_none_is_empty() -> None:
    assert table(("id", "state"), [(1, "ok"), (100, None)]).splitlines() == [
        "id   state",
        "1    ok",
        "100",
    ]


def test_the_last_column_ends_where_the_terminal_does(monkeypatch: pytest.MonkeyPatch) -> None:
    use_terminal(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    lines = table(("number", "label"), [(-1, "x" * 100)]).splitlines()
    assert lines[1] == "-1      " + "x" * 21 + "…"


def test_states_are_coloured_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    use_terminal(monkeypatch)
    shown = table(("state", "n"), [("error", 1)], states=0)
    assert "\033[31merror\033[0m  1" in shown


def test_nothing_is_coloured_or_cut_in_a_pipe() -> None:
    assert table(("s", "label"), [("error", "y" * 200)], states=0).endswith("error  " + "y" * 200)


def test_text_of_tasks_cannot_command_the_terminal() -> None:
    hostile = "a\x1b[31mred\x1b[0m\x1b]0;title\x07\x07\x1b]52;c;aGk=\x1b\\b\u202ec\n\td\x9b31m"
    assert plain(hostile) == "ared·b·c\n\td·31m"
    assert "\n" not in table(("label",), [("two\nlines",)]).splitlines()[1]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.4, "0 s"), (90, "90 s"), (600, "10 min"), (10_000, "3 h"), (400_000, "5 days")],
)
def test_how_long_something_lasts(seconds: float, shown: str) -> None:
    assert ago(seconds) == shown
