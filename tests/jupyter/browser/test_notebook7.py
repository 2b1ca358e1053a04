"""The same view in the application of Notebook 7."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.jupyter.browser.test_widget import STEPS, Widget, open_gates
from tests.jupyter.lab import Lab

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(240)]


def test_the_widget_is_live_heard_and_static_at_the_end(lab: Lab, tmp_path: Path) -> None:
    cells = [STEPS.format(folder=str(tmp_path), count=6), "result.wait_interactive()", "result"]
    with lab.notebook7("seven.ipynb", cells) as notebook:
        notebook[0].start()
        waiting = notebook[1]
        waiting.start()
        widget = Widget(waiting)
        widget.part("lane-what").get_by_text("item 0: ").wait_for()
        open_gates(tmp_path, 0)
        widget.wait_for_count("1 of 6")
        assert waiting.prompt == "[*]:"
        waiting.screenshot("notebook7")
        assert widget.press("stop") == "3 aborted, 2 already running"
        open_gates(tmp_path, *range(1, 6))
        waiting.wait_for_end()
        waiting.wait_for("step: 6/6 done")
        assert waiting.outputs.locator(".jupyter-widgets").count() == 0
        saved = notebook.saved()
        assert [set(output.data) for output in saved.cells[1].outputs] == [
            {"text/plain", "text/html"}
        ]
