"""Run the notebooks and keep their outputs: ``python docs/tools/notebooks.py [name ...]``.

What is kept reads well without a kernel: no widget states, no times of single cells.
"""

from __future__ import annotations

import asyncio
import os
import sys
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
    # Tracebacks name the Python that ran it; where that is installed is nobody's business.
    path.write_text(nbformat.writes(notebook).replace(sys.base_prefix, "/usr") + "\n")


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
