"""The code on the pages runs, from top to bottom, and prints what the page says it prints.

A block of ``python`` or ``ipython`` is a cell, and so are the lines of a ``diff`` after the change.
A block of ``text`` right behind one is what it prints; ``...`` stands for what differs from run to
run.  ``<!--- skip: next -->`` before a block leaves it out, and ``<!--- invisible-code-block:
python ... -->`` runs what readers need not see.
"""

from __future__ import annotations

import asyncio
import doctest
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager
from jupyter_core.utils import ensure_event_loop

from ipyasyncresult import Client, Cluster

pytest.importorskip("sybil", reason="finds the code on the pages: the 'docs' extra")

from sybil import Example, Region, Sybil
from sybil.parsers.myst import CodeBlockParser, SkipParser

REPOSITORY = Path(__file__).parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
BEFORE = {
    # Names that its examples use and leave to the reader.
    "README.md": "measure, count, files = len, len, ['a', 'bc', 'def']",
}

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


# -------------------------------------------------------------------------------- a notebook


@dataclass
class Ran:
    """What a cell printed and showed, and how it failed."""

    printed: str = ""
    shown: list[str] = field(default_factory=list)
    traceback: str = ""

    @property
    def text(self) -> str:
        return COLOURS.sub("", "\n".join([self.printed, *self.shown]))

    def take(self, message: dict[str, Any]) -> None:
        content = message["content"]
        match message["msg_type"]:
            # Not stderr: Dask logs there when its processes take long to end, on a slow machine.
            case "stream" if content["name"] == "stdout":
                self.printed += content["text"]
            case "display_data" | "execute_result":
                self.shown.append(content["data"].get("text/plain", ""))
            case "error":
                self.traceback += COLOURS.sub("", "\n".join(content["traceback"]))


class Notebook:
    """A kernel that runs cells, as a notebook has one."""

    def __init__(self, manager: KernelManager) -> None:
        self._client = manager.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=60)

    def run(self, cell: str) -> Ran:
        ran = Ran()
        self._client.execute_interactive(cell, output_hook=ran.take, allow_stdin=False, timeout=60)
        return ran

    def close(self) -> None:
        self._client.stop_channels()


@pytest.fixture(scope="module")
def engines(runtime_dir: Path) -> Iterator[Client]:
    """Two engines that ``connect()`` finds, in whatever process."""
    cluster = Cluster(n=2, cluster_id="pages", persist=True)
    client = cluster.start_and_connect_sync()
    client[:].apply_sync(list)  # from now on every socket is open
    yield client
    client.shutdown()
    cluster.stop_cluster_sync()


@pytest.fixture(scope="module")
def notebook(engines: Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    """One kernel for all pages: starting one takes longer than running a page."""
    loop = ensure_event_loop()  # jupyter_client makes one for its blocking calls, and keeps it
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(tmp_path_factory.mktemp("pages")))
    try:
        made = Notebook(manager)
        yield made
        made.close()
    finally:
        manager.shutdown_kernel()
        manager.cleanup_resources()
        loop.close()
        asyncio.set_event_loop(None)


# ---------------------------------------------------------------------------- the code on a page


@dataclass
class Runner:
    """Runs the blocks of one page, each as a cell of the same notebook."""

    notebook: Notebook
    last: Region | None = None
    ran: Ran = field(default_factory=Ran)

    def run_cell(self, example: Example) -> str | None:
        return self._run(str(example.parsed), example)

    def run_changed(self, example: Example) -> str | None:
        lines = str(example.parsed).splitlines()
        return self._run("\n".join(line[2:] for line in lines if line[:1] != "-"), example)

    def _run(self, cell: str, example: Example) -> str | None:
        self.ran = self.notebook.run(cell)
        self.last = example.region
        return self.ran.traceback or None

    def compare(self, example: Example) -> str | None:
        """A text that stands right behind a cell is what the cell printed."""
        if self.last is None:
            return None
        between = example.document.text[self.last.end : example.region.start]
        self.last = None
        said, ran = str(example.parsed), self.ran.text
        if between.strip() or is_like(said, ran) or is_like(by_line(said), by_line(ran)):
            return None
        return f"the page says:\n{said}\nbut it is:\n{ran}"


def is_like(said: str, ran: str) -> bool:
    return doctest.OutputChecker().check_output(said, ran, FLAGS)


def by_line(text: str) -> str:
    """The lines sorted: those of several engines come in any order."""
    return "\n".join(sorted(filter(None, text.splitlines())))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_the_code_of_a_page_runs_and_prints_what_it_says(
    page: Path, notebook: Notebook, engines: Client
) -> None:
    runner = Runner(notebook)
    parsers: list[Any] = [
        SkipParser(),
        *(CodeBlockParser(language, runner.run_cell) for language in ("python", "ipython")),
        CodeBlockParser("diff", runner.run_changed),
        CodeBlockParser("text", runner.compare),
    ]
    # What a module has, and Python looks at before it starts others, goes with the rest.
    notebook.run("%reset -f\n__spec__ = None\n" + BEFORE.get(page.name, ""))
    engines.clear()
    for example in Sybil(parsers, patterns=["*.md"]).parse(page).examples():
        example.evaluate()
    assert engines.wait(timeout=30), "the page leaves work behind"


def test_a_page_that_lies_is_found(notebook: Notebook, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    runner = Runner(notebook)
    parsers = [
        CodeBlockParser("python", runner.run_cell),
        CodeBlockParser("text", runner.compare),
    ]

    def run(text: str) -> None:
        page.write_text(text)
        for example in Sybil(parsers, patterns=["*.md"]).parse(page).examples():
            example.evaluate()

    run("```python\nprint(6 * 7)\n```\n```text\n4...\n```\n")
    with pytest.raises(AssertionError, match="the page says"):
        run("```python\nprint(6 * 7)\n```\n```text\n43\n```\n")
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        run("```python\n1 / 0\n```\n")
