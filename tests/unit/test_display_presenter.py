from __future__ import annotations

import io
import itertools
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from IPython.core.displaypub import CapturingDisplayPublisher

from ipyasyncresult.core.capabilities import Capabilities
from ipyasyncresult.core.failure import Failure
from ipyasyncresult.core.outputs import Output
from ipyasyncresult.core.places import Places
from ipyasyncresult.core.presenter import OutputQuery
from ipyasyncresult.core.tally import Journal
from ipyasyncresult.core.task import Counts, Status, TaskOutputs, TaskRecord
from ipyasyncresult.display import settings
from ipyasyncresult.display.bar import ProgressLines, TerminalBar
from ipyasyncresult.display.frontend import Outlet
from ipyasyncresult.display.model import LiveModel, Look
from ipyasyncresult.display.presenter import DisplayPresenter
from ipyasyncresult.display.progress import Progress
from ipyasyncresult.display.shown import ShownResult
from ipyasyncresult.display.widget import LiveView
from ipyasyncresult.testing import FakeClient


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@dataclass
class Work:
    """A result that gets on a step with each wait."""

    steps: list[Counts]
    fname: str = "fit <b>$x$"
    on_wait: Callable[[int], None] = lambda number: None
    sleeps: bool = False
    waits: list[float | None] = field(default_factory=list)
    elapsed: float = 12.0
    records: Sequence[TaskRecord] = ()

    def ready(self) -> bool:
        return self.counts().finished == self.counts().total

    def wait(self, timeout: float | None) -> None:
        self.waits.append(timeout)
        if self.sleeps:
            threading.Event().wait(timeout)
        self.on_wait(len(self.waits))

    def counts(self) -> Counts:
        return self.steps[min(len(self.waits), len(self.steps) - 1)]

    def engine_count(self) -> int:
        return 2

    def failures(self, limit: int) -> list[tuple[int, str]]:
        return [(3, "ZeroDivisionError: <script>")][:limit]

    def tasks(self) -> list[TaskOutputs]:
        return []

    def follow(self, callback: Callable[[Sequence[TaskRecord]], None]) -> Callable[[], None]:
        return lambda: None

    def watch(self) -> Journal:
        return Journal()

    def now(self) -> float:
        return self.elapsed

    def places(self) -> Places:
        return Places(())

    def failures_in(self, record: TaskRecord, limit: int) -> list[tuple[int, Failure]]:
        return []

    def engine_states(self) -> Mapping[int, Mapping[str, Any]]:
        return {0: {"up": True}, 1: {"up": False}}

    capabilities = Capabilities("scripted engines")
    cluster_id = None

    def abort(self) -> dict[str, str]:
        return {"a": "aborted", "b": "running", "c": "aborted"}

    def interrupt(self) -> dict[str, str]:
        return {"b": "interrupting"}

    def retry_failed(self, *, in_place: bool) -> None:
        raise ValueError("the result has ended")


class Model(LiveModel):
    """Looks that the test makes up."""

    def __init__(self, *numbers: Progress) -> None:
        super().__init__(Work(steps(0)))
        self.numbers = list(numbers)

    def look(self) -> Look:
        number = self.numbers.pop(0) if len(self.numbers) > 1 else self.numbers[0]
        return replace(super().look(), progress=number)


def steps(*finished: int, failed: int = 0) -> list[Counts]:
    return [Counts(10, done, failed if done else 0, min(2, 10 - done)) for done in finished]


def terminal(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """A terminal in the place of stderr.  No fixture: pytest sets stderr after those."""
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    return screen


def log_file(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A file in the place of stderr."""
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    return log


def interrupt(number: int) -> None:
    if number == 3:
        raise KeyboardInterrupt


# ---------------------------------------------------------------------------------------- waiting


def test_work_that_ends_soon_shows_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = terminal(monkeypatch)
    work = Work(steps(0, 10))
    assert DisplayPresenter().wait_interactive(work, 1.0, None)
    assert work.waits == [0.3]
    assert screen.getvalue() == ""


def test_updates_come_after_each_interval_and_the_end_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = terminal(monkeypatch)
    work = Work(steps(0, 2, 4, 6, 10))
    assert DisplayPresenter().wait_interactive(work, 1.5, None)
    assert work.waits == [0.3, 1.5, 1.5, 1.5]
    assert "10/10" in screen.getvalue()


def test_updates_come_at_most_ten_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal(monkeypatch)
    work = Work(steps(0, 2, 10))
    DisplayPresenter().wait_interactive(work, 0.001, None)
    assert work.waits == [0.3, 0.1]


def test_a_timeout_is_told_to_the_caller_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    work = Work(steps(0, 2), sleeps=True)
    assert not DisplayPresenter().wait_interactive(work, 1.0, 0.35)
    assert "(timeout)" in screen.getvalue()
    assert screen.getvalue().endswith("\n")


def test_a_poll_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    work = Work(steps(0, 2))
    assert not DisplayPresenter().wait_interactive(work, 1.0, 0.0)
    assert work.waits == [0.0]
    assert screen.getvalue() == ""


def test_a_wait_never_sleeps_longer_than_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal(monkeypatch)
    work = Work(steps(0, 2, 10))
    DisplayPresenter().wait_interactive(work, 60.0, 5.0)
    assert work.waits[0] == 0.3
    assert 0 < (work.waits[1] or 0) <= 5.0


def test_an_interrupt_leaves_a_closed_bar_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        DisplayPresenter().wait_interactive(Work(steps(0, 2), on_wait=interrupt), 1.0, None)
    assert screen.getvalue().endswith("\n")
    assert "(interrupted)" in screen.getvalue().rpartition("\r")[2]


def test_an_error_while_waiting_leaves_a_closed_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)

    def fail(number: int) -> None:
        if number == 2:
            raise OSError("the client is gone")

    with pytest.raises(OSError, match="the client is gone"):
        DisplayPresenter().wait_interactive(Work(steps(0, 2), on_wait=fail), 1.0, None)
    assert "(error)" in screen.getvalue().rpartition("\r")[2]


@pytest.mark.parametrize("said", ["0", "false", "no", "off", " OFF "])
def test_the_environment_turns_progress_off(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    monkeypatch.setenv("IPYASYNCRESULT_PROGRESS", said)
    work = Work(steps(0, 2, 10))
    assert DisplayPresenter().wait_interactive(work, 1.0, None)
    assert work.waits == [0.3, None]
    assert screen.getvalue() == ""


def test_the_setting_turns_progress_off_and_timeouts_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    monkeypatch.setattr(settings, "progress", False)
    assert not DisplayPresenter().wait_interactive(Work(steps(0, 2), sleeps=True), 1.0, 0.35)
    assert screen.getvalue() == ""


# -------------------------------------------------------------------------------------------- bars


def test_the_bar_tells_counts_failures_rate_and_what_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = terminal(monkeypatch)
    bar = TerminalBar(Work(steps(4)))
    bar.show(
        Model(
            Progress(10, 4, 2, 4, 1, 2, elapsed=65.0, rate=3.14, remaining=9.0),
            Progress(10, 10, 0, 0, 1, 2, elapsed=66.0, rate=3.14, remaining=0.0),
        )
    )
    bar.close("done")
    first, last = screen.getvalue().split("\r")[1], screen.getvalue().split("\r")[-1]
    assert "4/10 [01:05, 2 running, 1 failed, 3.1/s, 0:09 left]" in first
    assert "10/10 [01:05, 1 failed, 3.1/s]" in last
    assert last.endswith("\n")


def test_the_bar_tells_what_the_first_engines_run(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    client = FakeClient(engines=5)
    result = client.submit_map([1] * 9, describe_item=lambda item: f"file {item}")
    for engine in range(5):
        client.start(result.msg_ids[engine], engine)
    bar = TerminalBar(result)
    model = LiveModel(result)
    bar.show(model)
    shown = screen.getvalue()
    assert "on 0: item 0: file 0, 1: item 1: file 1, 2: item 2: file 2, 2 more" in shown
    bar.close("done")
    assert "file 0" not in screen.getvalue().rpartition("\r")[2]


def test_a_log_gets_a_line_at_the_end_for_short_work(monkeypatch: pytest.MonkeyPatch) -> None:
    log = log_file(monkeypatch)
    work = Work(steps(*range(11), failed=1), fname="fit")
    DisplayPresenter().wait_interactive(work, 1.0, None)
    (line,) = log.getvalue().splitlines()
    assert line.startswith("fit: 10/10, 1 failed, ")
    assert ", done after 12" in line


def test_a_log_of_long_work_gets_few_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    log = log_file(monkeypatch)
    work = Work(steps(0), fname="fit", elapsed=0.0)
    lines = ProgressLines(work)
    lines.show(Model(*(Progress(10, 1, 2, 7, 0, 2, elapsed=second) for second in range(3600))))
    for _ in range(3600):
        lines.update()
    assert 5 <= log.getvalue().count("\n") <= 20
    assert log.getvalue().startswith("fit: 1/10, 2 running\n")


# ------------------------------------------------------------------------------------------ widgets


def shown_in(outlet: CapturingDisplayPublisher, *, with_widgets: bool) -> LiveView:
    return LiveView(
        Work(steps(10, failed=1)),
        Outlet(io.StringIO(), io.StringIO(), outlet),
        with_widgets=with_widgets,
    )


def published(*, with_widgets: bool, ending: str = "done") -> list[dict[str, object]]:
    publisher = CapturingDisplayPublisher()
    view = shown_in(publisher, with_widgets=with_widgets)
    view.show(LiveModel(Work(steps(2))))
    view.update()
    view.close(ending)
    view.close(ending)
    assert len({one["transient"]["display_id"] for one in publisher.outputs}) == 1
    assert [one.get("update", False) for one in publisher.outputs][:2] == [False, True]
    return [one["data"] for one in publisher.outputs]


VIEW = "application/vnd.jupyter.widget-view+json"


def test_the_widget_is_replaced_by_html_and_text_at_the_end() -> None:
    first, last = published(with_widgets=True)
    assert set(first) == {"text/plain", "text/html", VIEW}
    assert set(last) == {"text/plain", "text/html"}
    assert str(last["text/plain"]).startswith("fit <b>$x$: 10/10 done in 12 s, 1 failed")


def test_what_was_announced_becomes_the_widget_and_then_the_end() -> None:
    publisher = CapturingDisplayPublisher()
    view = shown_in(publisher, with_widgets=True)
    view.announce()
    view.show(LiveModel(Work(steps(2))))
    view.close("done")
    bundles = [set(one["data"]) for one in publisher.outputs]
    assert bundles == [
        {"text/plain", "text/html"},
        {"text/plain", "text/html", VIEW},
        {"text/plain", "text/html"},
    ]
    assert len({one["transient"]["display_id"] for one in publisher.outputs}) == 1


def test_a_button_answers_in_the_widget_and_never_raises() -> None:
    view = shown_in(CapturingDisplayPublisher(), with_widgets=True)
    view.show(LiveModel(Work(steps(2))))
    answers = []
    for action in ("stop", "interrupt", "retry", "format the disk", ["no", "name"], None):
        view._pressed(view._widget, {"action": action} if action else None, [])
        answers.append(view._widget.state["answer"])
    view.close("done")
    assert answers == [
        [1, "2 aborted, 1 already running"],
        [2, "1 interrupted"],
        *[[3, "that did not work: ValueError: the result has ended"]] * 4,
    ]
    view._pressed(None, {"action": "stop"}, [])  # one that came late


def test_no_widget_model_stays_behind() -> None:
    from ipywidgets.widgets.widget import _instances

    before = set(_instances)
    published(with_widgets=True)
    assert set(_instances) == before


def test_without_widgets_text_and_html_are_updated() -> None:
    bundles = published(with_widgets=False, ending="interrupted")
    assert [set(bundle) for bundle in bundles] == [{"text/plain", "text/html"}] * 3
    assert "10/10, interrupted after 12 s" in str(bundles[-1]["text/plain"])


def test_widgets_that_are_asked_for_and_not_there_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ipyasyncresult.display import widget

    monkeypatch.setitem(sys.modules, "anywidget", None)
    widget._widget_class.cache_clear()
    with pytest.raises(ImportError, match="pip install anywidget"):
        LiveView(Work(steps(0)), Outlet(io.StringIO(), io.StringIO()))


# ------------------------------------------------------------------------------------ the presenter


def test_outputs_go_to_stdout_and_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    outputs = [Output("stdout", 0, "out\n"), Output("stderr", 0, "err\n")]
    DisplayPresenter().display_outputs(
        [TaskOutputs(0, "id", 1, None, Status.DONE, outputs)], OutputQuery()
    )
    assert capsys.readouterr() == ("[stdout:1] out\n", "[stderr:1] err\n")


def test_streams_keep_their_order_where_they_end_in_one_place() -> None:
    written: list[str] = []

    class Buffered(io.StringIO):
        def flush(self) -> None:
            written.append(self.getvalue())
            self.seek(0)
            self.truncate()

    outlet = Outlet(Buffered(), Buffered())
    for number, name in enumerate(itertools.islice(itertools.cycle(["out", "err"]), 4)):
        outlet.stream("stdout" if name == "out" else "stderr", f"{name}{number} ")
    outlet.flush()
    assert "".join(written) == "out0 err1 out2 err3 "


def test_a_result_has_html_and_a_timeline() -> None:
    work: ShownResult = Work(steps(10))
    assert "10/10" in DisplayPresenter().html(work)
    assert repr(DisplayPresenter().timeline(work)) == "<Timeline: nothing has run>"


def test_neither_ipython_nor_widgets_are_imported_before_they_are_needed() -> None:
    code = """
import sys
from ipyasyncresult.core.outputs import Output
from ipyasyncresult.core.presenter import OutputQuery, presenter
from ipyasyncresult.core.task import Status, TaskOutputs
outputs = [Output("stdout", 0, "hello")]
presenter().display_outputs([TaskOutputs(0, "id", 1, None, Status.DONE, outputs)], OutputQuery())
print(sorted({"IPython", "ipywidgets", "anywidget", "tqdm"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[stdout:1] hello\n[]\n"
