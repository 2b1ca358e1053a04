"""The same view in Notebook 7, and the way to the page of clusters from there."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.jupyter.browser.test_widget import STEPS, Widget, open_gates
from tests.jupyter.lab import IS_UP, Lab, keep_picture

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
        widget.wait_for_others_to_run("item 0: ")
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


def test_the_page_is_found_in_the_view_menu_of_files_and_of_a_notebook(lab: Lab) -> None:
    files = lab.page.context.new_page()
    try:
        files.goto(lab.address.replace("/lab?", "/tree?"))
        files.wait_for_function(IS_UP, timeout=60_000)
        open_from_view_menu(files)
    finally:
        files.close()
    with lab.notebook7("menu.ipynb", ["1"]) as notebook:
        open_from_view_menu(notebook.page)


def open_from_view_menu(page: Page) -> None:
    view = page.get_by_role("menuitem", name="View", exact=True)
    entry = page.locator(".lm-Menu").get_by_text("Clusters", exact=True)
    view.click()
    with page.context.expect_page() as opened:
        entry.click()
    clusters = opened.value
    expect(clusters.get_by_role("heading", name="Clusters", exact=True)).to_be_visible()
    clusters.close()
    view.click()
    expect(entry).to_be_visible()
    keep_picture("notebook7-menu", page.screenshot())
