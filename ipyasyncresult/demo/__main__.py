"""The terminal demo: ``python -m ipyasyncresult.demo [engines]``."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from typing import Any

from IPython.display import display

import ipyasyncresult as ipar
from ipyasyncresult.demo.sources import (
    Measured,
    broken_file,
    by_package,
    histogram,
    library_files,
    measure,
    table,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the standard library in parallel and show what a result can show."""
    parser = argparse.ArgumentParser(prog="python -m ipyasyncresult.demo", description=main.__doc__)
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser.add_argument("engines", nargs="?", type=int, default=min(cpus or 1, 4))
    engines: int = parser.parse_args(arguments).engines
    with ipar.Cluster(n=engines) as client, tempfile.TemporaryDirectory() as folder:
        files = [*library_files(), broken_file(folder)]
        title(f"{len(files):,} files of Python's library and one that is broken, {engines} engines")
        measuring = client.load_balanced_view().map_async(measure, files)
        measuring.wait_interactive()
        show_measurements(measuring)

        title("What each engine makes of its part")
        view = client[:]
        view.scatter("part", measuring.ok, block=True)
        drawing = view.apply_async(draw, ipar.Reference("part"))
        drawing.wait_interactive()
        drawing.display_outputs(groupby="order")

        title("Where the time went")
        print(measuring.summary())


def draw(part: Sequence[Measured]) -> None:
    """Runs on an engine: one line and two pictures of its part of the files."""
    print(f"{len(part):,} files, {sum(one.lines for one in part):,} lines")
    show(histogram((one.lines for one in part), "lines"))
    show(histogram((one.functions for one in part), "functions"))


def show(text: str) -> None:
    display({"text/plain": text}, raw=True)


def show_measurements(measuring: Any) -> None:
    print(table(by_package(measuring.ok)))
    title("What went wrong")
    for error in measuring.failed:
        print(error)


def title(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m\n" if os.isatty(1) else f"\n== {text}\n")


if __name__ == "__main__":
    main()
