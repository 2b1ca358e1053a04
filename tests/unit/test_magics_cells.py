"""Cells with magics in a shell without a terminal; what the engines do is said by hand."""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from ipyasyncresult import magics
from ipyasyncresult.client.targets import Targets, resolve_targets
from ipyasyncresult.core.asyncresult import AsyncResult
from ipyasyncresult.core.presenter import PlainPresenter, install_presenter
from ipyasyncresult.core.task import Status
from ipyasyncresult.errors import CompositeError, RemoteError
from ipyasyncresult.magics.enginemagics import EngineMagics
from ipyasyncresult.testing import FakeClient
from tests.conftest import forget_shell


class HandView:
    """What ``%px`` uses of a view; `act` is told of each result and plays the engines."""

    def __init__(self, client: HandClient, targets: Any) -> None:
        self.client = client
        self.targets = targets
        self.label: str | None = None

    def execute(self, code: str, block: bool) -> AsyncResult:
        assert not block
        result = self.client.submit("execute", targets=self.targets, label=self.label)
        self.client.calls.append((code, result))
        self.client.act(result)
        return result


class HandClient(FakeClient):
    """A client that notes what was run and which signals were sent."""

    def __init__(self, act: Callable[[AsyncResult], None] | None = None) -> None:
        super().__init__(engines=3)
        self.ids = [0, 1, 2]
        self.closed = False
        self.calls: list[tuple[str, AsyncResult]] = []
        self.signals: list[tuple[int, list[int]]] = []
        self.act = act if act is not None else self.finish_all

    def direct_view(self, targets: Targets) -> HandView:
        chosen = resolve_targets(targets, self.ids)
        return HandView(self, chosen[0] if isinstance(targets, int) else chosen)

    def finish_all(self, result: AsyncResult) -> None:
        for msg_id in result.msg_ids:
            self.finish(msg_id)

    def start_all(self, result: AsyncResult) -> None:
        for msg_id in result.msg_ids:
            self.start(msg_id)

    def start_all_but_the_first(self, result: AsyncResult) -> None:
        for msg_id in result.msg_ids[1:]:
            self.start(msg_id)

    def send_signal(self, sig: int, targets: Sequence[int]) -> None:
        self.signals.append((sig, list(targets)))
        self.close()

    @property
    def last(self) -> AsyncResult:
        return self.calls[-1][1]


@pytest.fixture(scope="module")
def shell() -> Iterator[InteractiveShell]:
    config = Config({"HistoryManager": {"enabled": False}})
    made = InteractiveShell.instance(user_module=types.ModuleType("user"), config=config)
    made.colors = "nocolor"
    yield made
    InteractiveShell.clear_instance()
    forget_shell(made)


@pytest.fixture(autouse=True)
def plain_text() -> Iterator[None]:
    from ipyasyncresult import _make_presenter

    install_presenter(PlainPresenter)
    yield
    install_presenter(_make_presenter)


@pytest.fixture
def client(shell: InteractiveShell) -> Iterator[HandClient]:
    """The client whose engines ``%px`` of the shell uses."""
    made = HandClient()
    shell.run_line_magic("load_ext", "ipyasyncresult")
    magics.activate(made.direct_view("all"))  # type: ignore[arg-type]
    yield made
    shell.run_line_magic("unload_ext", "ipyasyncresult")


@pytest.fixture
def run(shell: InteractiveShell) -> Callable[[str], Any]:
    """Run a cell: its value, or its error is raised."""

    def run_cell(cell: str) -> Any:
        outcome = shell.run_cell(cell)
        outcome.raise_error()
        return outcome.result

    return run_cell


Run = Callable[[str], Any]

# ----------------------------------------------------------------------------------- what is run


def test_a_line_and_a_cell_run_on_all_engines(client: HandClient, run: Run) -> None:
    assert run("%px x = '{y}' + \"$z\"") is None
    assert run("%%px\nx = 1\ny = 2\n") is None
    assert [code for code, _ in client.calls] == ["x = '{y}' + \"$z\"", "x = 1\ny = 2\n"]
    assert [result.targets for _, result in client.calls] == [[0, 1, 2], [0, 1, 2]]


def test_a_cell_goes_to_chosen_engines_and_the_view_stays_as_it_is(
    client: HandClient, shell: InteractiveShell, run: Run
) -> None:
    view = HandView(client, [0, 1])
    magics.activate(view)  # type: ignore[arg-type]
    shell.push({"chosen": slice(1, None)})
    run("%px -t chosen x")
    assert client.last.targets == [1, 2]
    run("%px -t -1 x")
    assert client.last.targets == 2
    run("%px x")
    assert client.last.targets == view.targets == [0, 1]


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("%px -t 7 x", "no engine 7"),
        ("%px -t [0,0] x", "twice"),
        ("%px -t 5: x", r"no engine is in 5:; there are \[0, 1, 2\]"),
        ("%px -t nowhere x", "no variable 'nowhere'"),
        ("%px", "needs code"),
        ("%%px -a\n  \n", "needs code"),
        ("%%px x = 1\ny", "'x = 1' is no flag"),
        ("%pxresult", "nothing ran"),
        ("%pxresult -a", "%pxresult has no flag '-a'; it has --group-outputs, --list, -e"),
        ("%pxconfig --local", "%pxconfig has no flag '--local'"),
        ("%pxconfig --progres-after 3", "did you mean '--progress-after'?"),
        ("%px --verbse x", "did you mean '--verbose'?"),
        ("%autopx on", "takes no arguments"),
    ],
)
def test_a_wrong_use_is_said_in_one_line_and_nothing_runs(
    client: HandClient,
    shell: InteractiveShell,
    capsys: pytest.CaptureFixture[str],
    cell: str,
    said: str,
) -> None:
    outcome = shell.run_cell(cell)
    assert type(outcome.error_in_exec).__name__ == "UsageError"
    assert len(capsys.readouterr().err.splitlines()) == 1
    with pytest.raises(Exception, match=said):
        outcome.raise_error()
    assert client.calls == []


def test_a_task_is_labelled_with_the_first_line_of_its_cell(client: HandClient, run: Run) -> None:
    run("%%px\n\nmodel.fit(data)\nmodel.score(data)\n")
    assert client.last.label == ["model.fit(data)"] * 3


# -------------------------------------------------------------------------------------- waiting


def test_a_cell_that_does_not_block_gives_its_result(client: HandClient, run: Run) -> None:
    client.act = client.start_all
    result = run("%px -a x")
    assert result is client.last
    assert not result.ready()
    assert run("%%px --noblock\nx") is client.last


def test_a_result_is_named_before_anybody_waits_for_it(
    client: HandClient, shell: InteractiveShell
) -> None:
    client.act = client.start_all
    outcome = shell.run_cell("%%px -o kept --local\nraise KeyboardInterrupt")
    assert isinstance(outcome.error_in_exec, KeyboardInterrupt)
    assert shell.user_ns["kept"] is client.last


def test_outputs_are_shown_and_then_the_cell_fails_with_the_error_of_the_engine(
    client: HandClient, shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    def one_fails(result: AsyncResult) -> None:
        for msg_id in result.msg_ids:
            client.output(msg_id, "stdout", "so far\n")
        client.fail(result.msg_ids[0], ZeroDivisionError("division by zero"))
        for msg_id in result.msg_ids[1:]:
            client.finish(msg_id)

    client.act = one_fails
    outcome = shell.run_cell("%px --no-stream 1/0")
    assert isinstance(outcome.error_in_exec, ZeroDivisionError)
    assert isinstance(outcome.error_in_exec, RemoteError)
    shown = capsys.readouterr().out
    assert shown.index("[stdout:2] so far") < shown.index("ZeroDivisionError")


def test_the_last_result_is_shown_again_outputs_before_errors(
    client: HandClient, shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    def all_fail(result: AsyncResult) -> None:
        for msg_id in result.msg_ids:
            client.output(msg_id, "stdout", "so far\n")
            client.fail(msg_id, ValueError("no"))

    client.act = all_fail
    shell.run_cell("%px -a x")
    capsys.readouterr()
    outcome = shell.run_cell("%pxresult")
    assert isinstance(outcome.error_in_exec, CompositeError)
    assert capsys.readouterr().out.startswith("[stdout:0] so far")


def test_which_engines_run_a_cell_is_said_on_request(
    client: HandClient, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run("%px -t 0:2 --verbose x")
    assert capsys.readouterr().out == "running on [0, 1]\n"


# ---------------------------------------------------------------------------------- interrupting

# The local half of the cell is interrupted while the wait for the engines is on: no timing in it.
INTERRUPTED = "%%px {} --local\nraise KeyboardInterrupt"


def test_an_interrupted_cell_interrupts_what_runs_takes_back_what_waits_and_fails(
    client: HandClient, shell: InteractiveShell
) -> None:
    client.act = lambda result: client.start(result.msg_ids[0])
    outcome = shell.run_cell(INTERRUPTED.format(""))
    assert isinstance(outcome.error_in_exec, KeyboardInterrupt)
    assert client.last["status"] == [Status.FAILED, Status.ABORTED, Status.ABORTED]
    assert isinstance(client.last.failed[0], RemoteError)


def test_another_signal_goes_to_the_engines_that_run_the_cell(
    client: HandClient, shell: InteractiveShell
) -> None:
    client.act = client.start_all_but_the_first
    outcome = shell.run_cell(INTERRUPTED.format("--signal-on-interrupt TERM"))
    assert isinstance(outcome.error_in_exec, KeyboardInterrupt)
    assert client.signals == [(15, [1, 2])]


def test_without_a_signal_the_engines_go_on_and_the_cell_fails_at_once(
    client: HandClient, shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    client.act = client.start_all
    outcome = shell.run_cell(INTERRUPTED.format("--signal-on-interrupt 0"))
    assert isinstance(outcome.error_in_exec, KeyboardInterrupt)
    assert client.last["status"] == [Status.RUNNING] * 3
    assert "3 of 3 tasks go on; %pxresult waits for them" in capsys.readouterr().out


def test_a_second_interrupt_leaves_at_once(
    client: HandClient, shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted_again(msg_ids: Sequence[str]) -> dict[str, str]:
        raise KeyboardInterrupt

    client.act = client.start_all
    monkeypatch.setattr(client, "interrupt", interrupted_again)
    outcome = shell.run_cell(INTERRUPTED.format(""))
    assert isinstance(outcome.error_in_exec, KeyboardInterrupt)
    assert client.last["status"] == [Status.RUNNING] * 3


def test_what_was_printed_before_the_interrupt_is_shown(
    client: HandClient, shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    def print_and_run(result: AsyncResult) -> None:
        client.start_all(result)
        client.output(result.msg_ids[1], "stdout", "half\n")

    client.act = print_and_run
    shell.run_cell(INTERRUPTED.format("--no-stream"))
    assert "[stdout:1] half\n" in capsys.readouterr().out


# ------------------------------------------------------------------------------ in this process


def test_a_local_cell_runs_while_the_engines_work(
    client: HandClient, shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    client.act = client.start_all
    shell.push({"finish": lambda: client.finish_all(client.last)})
    shell.run_cell("%%px --local\nmine = 20 + 1\nfinish()\nmine * 2").raise_error()
    assert shell.user_ns["mine"] == 21
    assert "42" in capsys.readouterr().out


def test_errors_of_both_sides_are_reported(
    client: HandClient, shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(result: AsyncResult) -> None:
        for msg_id in result.msg_ids:
            client.fail(msg_id, ValueError("there"))

    client.act = fail
    outcome = shell.run_cell("%%px --local\nhere = {}\nhere['missing']")
    assert isinstance(outcome.error_in_exec, CompositeError)
    shown = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)  # colours of IPython 8
    assert shown.index("KeyError: 'missing'") < shown.index("3 x ValueError: there")
    assert "here['missing']" in shown


@pytest.mark.parametrize("flags", ["", "-a"])
def test_a_cell_that_failed_only_here_fails_with_its_own_error(
    client: HandClient, shell: InteractiveShell, flags: str
) -> None:
    outcome = shell.run_cell(f"%%px --local {flags}\n{{}}['missing']")
    assert type(outcome.error_in_exec) is KeyError
    assert client.last.successful()


# ---------------------------------------------------------------------------------- the defaults


def test_defaults_are_printed_and_changed(
    client: HandClient, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    client.act = client.start_all
    run("%pxconfig -a -t 1,2 --progress-after -1")
    assert capsys.readouterr().out == ""
    run("%pxconfig")
    shown = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert (shown["block"], shown["targets"], shown["progress-after"]) == ("False", "[1,2]", "-1")
    assert run("%px x").targets == [1, 2]
    assert run("%px -t 0 x").targets == 0


# -------------------------------------------------------------------------------------- %autopx


def test_autopx_sends_every_cell_until_it_comes_again(
    client: HandClient, shell: InteractiveShell, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run("%autopx")
    run("there = 1")
    run("%autopx")
    run("here = 1")
    assert capsys.readouterr().out == "%autopx enabled\n%autopx disabled\n"
    assert [code for code, _ in client.calls] == ["there = 1\n"]
    assert "here" in shell.user_ns
    assert "there" not in shell.user_ns


def test_a_failing_cell_leaves_autopx_on(client: HandClient, shell: InteractiveShell) -> None:
    def fail(result: AsyncResult) -> None:
        for msg_id in result.msg_ids:
            client.fail(msg_id, ValueError("no"))

    client.act = fail
    shell.run_cell("%autopx")
    for _ in range(2):
        assert isinstance(shell.run_cell("x").error_in_exec, CompositeError)
    assert len(client.calls) == 2


def test_autopx_works_for_cells_that_are_run_asynchronously(
    client: HandClient, shell: InteractiveShell
) -> None:
    shell.run_cell("%autopx")
    running = shell.run_cell_async("x = 1", transformed_cell=shell.transform_cell("x = 1"))
    with pytest.raises(StopIteration) as ended:
        running.send(None)
    ended.value.value.raise_error()
    assert [code for code, _ in client.calls] == ["x = 1\n"]


def test_a_local_cell_runs_here_under_autopx(client: HandClient, shell: InteractiveShell) -> None:
    shell.run_cell("%autopx")
    shell.run_cell("%%px --local\nboth = 1").raise_error()
    assert shell.user_ns["both"] == 1
    assert len(client.calls) == 1


# ----------------------------------------------------------------------------- under which name


def test_a_view_gets_magics_of_its_own_with_a_suffix(
    client: HandClient, shell: InteractiveShell, run: Run
) -> None:
    other = HandClient()
    magics.activate(other.direct_view([1, 2]), "_big")  # type: ignore[arg-type]
    run("%px_big x")
    run("%%px_big -t 2\ny")
    run("%px z")
    assert [(code, result.targets) for code, result in other.calls] == [("x", [1, 2]), ("y\n", 2)]
    assert [code for code, _ in client.calls] == ["z"]
    with pytest.raises(ValueError, match="suffix must be letters"):
        magics.activate(other.direct_view(0), " big")  # type: ignore[arg-type]


def test_unloading_takes_everything_back(client: HandClient, shell: InteractiveShell) -> None:
    magics.activate(HandClient().direct_view("all"), "_big")  # type: ignore[arg-type]
    shell.run_cell("%autopx")
    shell.run_cell("%autopx_big")  # stays here: it is of the family
    shell.run_line_magic("unload_ext", "ipyasyncresult")
    known = shell.magics_manager.lsmagic()
    assert [name for table in known.values() for name in table if "px" in name] == []
    shell.run_cell("after = 1").raise_error()
    assert shell.user_ns["after"] == 1
    assert EngineMagics.__name__ not in shell.magics_manager.registry
    shell.run_line_magic("load_ext", "ipyasyncresult")


def test_activating_needs_ipython(monkeypatch: pytest.MonkeyPatch, client: HandClient) -> None:
    monkeypatch.setattr(InteractiveShell, "initialized", classmethod(lambda cls: False))
    with pytest.raises(RuntimeError, match="IPython"):
        magics.activate(client.direct_view(0))  # type: ignore[arg-type]


def test_help_explains_the_flags(client: HandClient, shell: InteractiveShell) -> None:
    text = shell.object_inspect("%px")["docstring"]
    for flag in ("--noblock", "--targets", "--group-outputs", "--signal-on-interrupt", "--local"):
        assert flag in text
