"""Run the notebooks and keep their outputs: ``python docs/tools/notebooks.py [name ...]``.

What is kept reads well without a kernel: no widget states, no times of single cells.
"""

from __future__ import annotations

import asyncio
import os
import sys
import sysconfig
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def run(path: Path) -> None:
    """Execute one in place; raises when a cell does."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=180, kernel_name="python3", store_widget_state=False, record_timing=False
    )
    asyncio.run(client.async_execute(cwd=str(path.parent)))
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.metadata.pop("widgets", None)
    # Tracebacks name files; where this machine keeps them is nobody's business.
    text = nbformat.writes(notebook)
    for ours, anybodys in (
        (sysconfig.get_path("stdlib"), "/usr/lib/python3"),
        (str(NOTEBOOKS.parent), "."),
    ):
        text = text.replace(ours, anybodys)
    path.write_text(text + "\n", encoding="utf-8")


def main(names: list[str]) -> None:
    """Run those that are named, or all."""
    # A runtime folder of its own: no cluster of yours is joined.
    with tempfile.TemporaryDirectory(prefix="ipar-") as runtime:
        os.environ["XDG_RUNTIME_DIR"] = runtime
        for path in sorted(NOTEBOOKS.glob("*.ipynb")):
            if not names or path.stem in names:
                print(path.name, flush=True)
                run(path)


if __name__ == "__main__":
    main(sys.argv[1:])
