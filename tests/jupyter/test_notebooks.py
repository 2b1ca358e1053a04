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


@pytest.fixture(scope="module")
def quickstart() -> nbformat.NotebookNode:
    """The quickstart after *Run all*; nbclient raises when a cell does."""
    source = (NOTEBOOKS / "quickstart.ipynb").read_text()
    notebook: nbformat.NotebookNode = nbformat.reads(source, as_version=4)
    client = NotebookClient(notebook, timeout=120, kernel_name="python3")
    # Not execute(): it leaves an event loop open in this thread.
    asyncio.run(client.async_execute(cwd=str(NOTEBOOKS)))
    return notebook


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
