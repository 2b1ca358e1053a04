"""This project beside others, all in one run: ``make bench``.

    python benchmarks/bench.py --repeat 3 --json out.json
    python benchmarks/bench.py --cases latency,flood

Every case of every side runs in a fresh process, repeats outermost, so that drifts of the machine
hit all alike.  Figures are medians over the repeats; compare within a run only.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

from bench_cases import CASES, ONLY_HERE
from sides import SIDES

LIMIT = 180  # seconds for one case
Medians = dict[tuple[str, str], float]  # (side, figure)


Test = Callable[[float, Callable[[str], float]], bool]


def at_least(factor: float, side: str | None = None) -> Test:
    """Of a number, or of what another side reached."""
    return lambda own, of: own >= factor * (of(side) if side else 1)


def at_most(factor: float, side: str | None = None) -> Test:
    return lambda own, of: own <= factor * (of(side) if side else 1)


class Row(NamedTuple):
    """One line of the table: a figure of ours, and what it is to reach."""

    figure: str
    title: str
    unit: str
    goal: str
    """For people."""
    reached: Test
    """Of our figure, and of a function that gives the same figure of another side."""


ROWS = [
    Row("flood", "10,000 single tasks", "tasks/s", "2 x mp.Pool", at_least(2, "mp.Pool")),
    Row("p50", "round trip, p50", "us", "1.25 x raw sockets", at_most(1.25, "raw sockets")),
    Row("map", "map of 100,000 tiny items", "M items/s", "mp.Pool", at_least(1, "mp.Pool")),
    Row("echo", "100 MB there and back, warm", "MB/s", "4 x Ray", at_least(4, "ray")),
    Row("echo_first", "the same, first time", "MB/s", "", at_least(0)),
    Row("broadcast", "100 MB to all engines", "MB/s", "2 x Ray", at_least(2, "ray")),
    Row("balance", "200 tasks of 10 ms", "of ideal", "0.97", at_least(0.97)),
    Row("mixture", "1 ms and 1 s mixed", "of ideal", "0.97", at_least(0.97)),
    Row("start_2", "cold start, 2 engines", "s", "0.35", at_most(0.35)),
    Row("start_16", "cold start, 16 engines", "s", "0.7", at_most(0.7)),
    Row("held", "memory per finished task", "bytes", "1,500", at_most(1500)),
    Row("released", "the same, released", "bytes", "no growth", at_most(300)),
    Row("progress_1M", "progress of 1,000,000 tasks", "us", "5", at_most(5)),
    Row("ready_1M", "ready() of 1,000,000 tasks", "us", "5", at_most(5)),
    Row("interactive", "wait_interactive / wait", "", "1.02", at_most(1.02)),
    Row("printing", "tasks that print / silent", "", "1.3", at_most(1.3)),
    Row("lines_lost", "lines lost", "", "0", at_most(0)),
    Row("killed_worst", "kill -9 noticed, worst of 10", "s", "0.25", at_most(0.25)),
    Row("import", "import ipyasyncresult", "ms", "100", at_most(100)),
    Row("load_ext", "%load_ext, IPython imported", "ms", "50", at_most(50)),
]  # fmt: skip


def run_one(side: str, case: str) -> dict[str, float]:
    """One case in a process of its own; {} when it failed."""
    with tempfile.TemporaryDirectory(prefix="ipar-bench-") as folder:
        command = [sys.executable, __file__, "--one", side, case]
        environment = os.environ | {
            "PYTHONPATH": str(Path(__file__).parent),
            "OMP_NUM_THREADS": "1",
        }
        try:
            ran = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True,
                timeout=LIMIT, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            print(f"{side}: {case} took too long", file=sys.stderr)
            return {}
    lines = [line for line in ran.stdout.splitlines() if line.startswith("FIGURES ")]
    if not lines:
        print(f"{side}: {case} failed:\n{ran.stderr[-1500:]}", file=sys.stderr)
        return {}
    figures: dict[str, float] = json.loads(lines[0].removeprefix("FIGURES "))
    return figures


def measure(sides: list[str], cases: list[str], repeat: int) -> list[dict[str, Any]]:
    """All runs, in the order in which they were made."""
    runs = []
    for turn in range(repeat):
        for case in cases:
            for side in sides:
                wanted = SIDES[side].cases
                if case in ONLY_HERE and not side.startswith("this"):
                    continue
                if wanted is not None and case not in wanted:
                    continue
                figures = run_one(side, case)
                runs.append({"turn": turn, "side": side, "case": case, "figures": figures})
                print(f"{turn + 1}/{repeat} {case:12} {side:16} {figures}", file=sys.stderr)
    return runs


def medians_of(runs: list[dict[str, Any]]) -> Medians:
    found: dict[tuple[str, str], list[float]] = {}
    for run in runs:
        for figure, value in run["figures"].items():
            found.setdefault((run["side"], figure), []).append(value)
    return {key: statistics.median(values) for key, values in found.items()}


def number(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(medians: Medians, sides: list[str]) -> str:
    """Markdown: a line per figure, a column per side with its ratio to ours."""
    lines = [f"| case | {' | '.join(sides)} | goal | reached |", "|---" * (len(sides) + 3) + "|"]
    for row in ROWS:
        own = medians.get(("this", row.figure))
        if own is None:
            continue
        cells = []
        for side in sides:
            value = medians.get((side, row.figure))
            ratio = f" ({own / value:.2f})" if value and side != "this" else ""
            cells.append("-" if value is None else f"{number(value)}{ratio}")
        theirs = {
            side: medians[side, row.figure] for side in sides if (side, row.figure) in medians
        }
        try:
            reached = "yes" if row.reached(own, theirs.__getitem__) else "**no**"
        except KeyError:
            reached = "?"  # who sets the mark is not installed
        title = f"{row.title}, {row.unit}" if row.unit else row.title
        lines.append(
            f"| {title} | {' | '.join(cells)} | {row.goal} | {reached if row.goal else ''} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    there = [name for name, side in SIDES.items() if side.is_there()]
    parser.add_argument("--sides", default=",".join(there), help="one of: " + "; ".join(SIDES))
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write all runs here")
    parser.add_argument("--show", type=Path, help="only print the table of an earlier run")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        side, case = options.one
        print("FIGURES " + json.dumps(CASES[case](SIDES[side])), flush=True)
        os._exit(0)  # whatever a library leaves behind is not what is measured
    if options.show:
        saved = json.loads(options.show.read_text())
    else:
        sides = options.sides.replace("in memory", "in-memory").split(",")
        sides = [side for side in there if side in options.sides or side in sides]
        began = time.strftime("%Y-%m-%d %H:%M")
        load = os.getloadavg()
        runs = measure(sides, options.cases.split(","), options.repeat)
        saved = {
            "date": began, "cpus": os.cpu_count(), "python": sys.version.split()[0],
            "load_before": load, "load_after": os.getloadavg(), "sides": sides, "runs": runs,
        }  # fmt: skip
        if options.json:
            options.json.write_text(json.dumps(saved, indent=1) + "\n")
    print(f"{saved['date']}, {saved['cpus']} CPUs, Python {saved['python']}, "
          f"load {saved['load_before'][0]:.1f} to {saved['load_after'][0]:.1f}; "
          "in brackets: ours divided by theirs\n")  # fmt: skip
    print(table(medians_of(saved["runs"]), saved["sides"]))


if __name__ == "__main__":
    main()
