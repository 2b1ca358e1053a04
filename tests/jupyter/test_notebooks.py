"""The notebooks run from top to bottom in a real kernel, and show what their text promises."""

from __future__ import annotations

import asyncio
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def executed(name: str) -> nbformat.NotebookNode:
    """A notebook after *Run all*; nbclient raises when a cell does."""
    source = (NOTEBOOKS / f"{name}.ipynb").read_text()
    notebook: nbformat.NotebookNode = nbformat.reads(source, as_version=4)
    client = NotebookClient(notebook, timeout=120, kernel_name="python3")
    # Not execute(): it leaves an event loop open in this thread.
    asyncio.run(client.async_execute(cwd=str(NOTEBOOKS)))
    return notebook


@pytest.fixture(scope="module")
def quickstart() -> nbformat.NotebookNode:
    return executed("quickstart")


def outputs(notebook: nbformat.NotebookNode, source: str) -> list[dict[str, Any]]:
    """The outputs of the one cell that has `source` in it."""
    (cell,) = [c for c in notebook.cells if c.cell_type == "code" and source in c.source]
    return [dict(output) for output in cell.outputs]


def text(notebook: nbformat.NotebookNode, source: str, stream: str = "stdout") -> str:
    return "".join(
        output["text"] for output in outputs(notebook, source) if output.get("name") == stream
    )


def test_every_engine_speaks_in_the_first_parallel_cell(quickstart: nbformat.NotebookNode) -> None:
    said = text(quickstart, "os.getpid()")
    assert "[stdout:0] I am process" in said
    pids = {line.split()[-1] for line in said.splitlines() if "I am process" in line}
    assert len(pids) == said.count("I am process")


def test_all_files_but_the_broken_one_are_measured(quickstart: nbformat.NotebookNode) -> None:
    found = int(text(quickstart, "files = library_files()").split()[0])
    shown = text(quickstart, "by_package(result.ok)")
    assert found > 500
    assert shown.startswith(f"{found} files measured, 1 failed\n")
    assert "(modules)" in shown


def test_the_failure_is_readable(quickstart: nbformat.NotebookNode) -> None:
    said = text(quickstart, "except SyntaxError as error")
    assert "SyntaxError" in said
    assert "broken_on_purpose.py" in said


def test_figures_are_collated_by_order(quickstart: nbformat.NotebookNode) -> None:
    shown = outputs(quickstart, 'groupby="order"')
    engines = text(quickstart, "os.getpid()").count("I am process")
    printed = text(quickstart, 'groupby="order"')
    assert all(f"[stdout:{engine}]" in printed for engine in range(engines))

    drawn = [
        (engine_of(before), picture)
        for before, picture in pairwise(shown)
        if "image/png" in picture.get("data", {})
    ]
    # All first pictures, then all second ones.
    assert [engine for engine, _ in drawn] == [*range(engines), *range(engines)]
    assert len({picture["data"]["image/png"] for _, picture in drawn}) == 2 * engines


def engine_of(output: dict[str, Any]) -> int:
    """The engine that a prefix like ``[output:1]`` names."""
    prefix = output.get("text") or output["data"]["text/plain"]
    return int(prefix.rpartition("[output:")[2].partition("]")[0])


def test_the_summary_says_how_much_faster_it_was(quickstart: nbformat.NotebookNode) -> None:
    assert re.search(r"\d\.\dx on \d+ engine", text(quickstart, "result.summary()"))


# ------------------------------------------------------------------------------- one topic each


def shown(notebook: nbformat.NotebookNode, source: str, mime: str = "text/plain") -> str:
    """What the displays of a cell show in the end."""
    cell = outputs(notebook, source)
    return "\n".join(output["data"][mime] for output in cell if mime in output.get("data", {}))


def test_live_progress_stays_as_html_and_text() -> None:
    notebook = executed("live-progress")
    for source in (
        "result = view.map_async",
        "wait_interactive()\nprint",
        "with again.show_live()",
    ):
        assert re.match(r"simulate: 24/24 done in .* s", shown(notebook, source))
        assert "24/24" in shown(notebook, source, "text/html")
    assert re.search(r"best: 0\.\d", text(notebook, "with again.show_live()"))
    assert shown(notebook, "values = await") == "6"


def test_outputs_and_plots_are_shown_in_every_grouping() -> None:
    notebook = executed("outputs-and-plots")
    engines = text(notebook, "rank =").count("this engine draws")
    assert engines >= 1
    drawn = [
        engine_of(before)
        for before, picture in pairwise(outputs(notebook, 'groupby="order"'))
        if "image/png" in picture.get("data", {})
    ]
    assert drawn == [*range(engines), *range(engines)]
    assert text(notebook, "power 2$").count("drew power 2") == engines
    bars = shown(notebook, "training.stream_output()")
    assert bars.count("epoch 4/4") == 4
    assert "\x1b[32mrun 0\x1b[0m" in bars
    assert "run 2 did not converge" in text(notebook, "training.stream_output()", "stderr")
    assert shown(notebook, "training.stderr") == "['run 2 did not converge']"


def test_errors_are_caught_counted_and_retried() -> None:
    notebook = executed("errors-and-retries")
    assert "2 x ZeroDivisionError: division by zero" in shown(
        notebook, "result.wait()\nresult", "text/html"
    )
    said = text(notebook, "except ipar.CompositeError")
    assert "2 of 6 failed:" in said
    assert "[engine " in said
    assert shown(notebook, "first.retry_failed()") == "[0, 1, 2, 3, 4, 5]"
    assert shown(notebook, "retries=1") == "[0, 1, 2, 3, 4, 5]"


def test_the_timeline_shows_what_came_last() -> None:
    notebook = executed("timeline-and-tuning")
    assert "slowest: item 20: 400" in text(notebook, "long_last = ")
    assert "waiting" in shown(notebook, "long_last.timeline()", "image/svg+xml")
    assert "slowest: item 0: 400" in text(notebook, "long_first = ")
    assert "True" in text(notebook, "chunks are worth it")
    assert "count" in shown(notebook, "to_dataframe()")


def test_work_of_a_notebook_that_was_killed_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # How-tos run in the tests, too, and have a cluster of the same name: its results stay on disk.
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    notebook = executed("coming-back")
    assert shown(notebook, "YESTERDAY") == "-9"
    assert shown(notebook, "sum(result.get())") == "(2470, 20)"
    assert text(notebook, 'grep="seed 1').count(" done") == 10
    assert "20 tasks on 2 engines" in shown(notebook, "result.timeline()")
    assert "20 tasks are known" in text(notebook, "hub_history()")


def test_the_same_cell_runs_over_other_clusters() -> None:
    notebook = executed("other-clusters")
    over = [c for c in notebook.cells if c.cell_type == "code" and "map_async" in c.source]
    assert len({cell.source for cell in over}) == 1
    seeds = [
        re.findall(r"\[stdout:\d+\] seed (\d)", str([o.get("text") for o in c.outputs]))
        for c in over
    ]
    assert seeds == [[str(seed) for seed in range(8)]] * 4
    assert {cell.outputs[-1]["data"]["text/plain"] for cell in over} == {"3.14"}
    # What changes is one line.
    changed = [cell.source for cell in notebook.cells if cell.source.startswith("client = ")]
    assert [source.count("\n") for source in changed] == [0] * 4
    assert "Dask" in shown(notebook, "capabilities()")
    assert "| Dask |" in shown(notebook, "capabilities()", "text/markdown")
    # Dask logs, where a machine is slow, that its processes take long to end, or were cut off.
    (ends_dask,) = [cell for cell in notebook.cells if "workers.close()" in cell.source]
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if cell is not ends_dask:
                assert output.get("name") != "stderr", output["text"]
