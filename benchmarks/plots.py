"""Pictures of ``data/growth.json`` for the page on performance: ``make bench-plots``."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "ipyasyncresult"  # the same picture from the same data
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
IMAGES = HERE.parent / "docs" / "images"
TITLES = {
    "tasks": "Tasks of one result",
    "engines": "Engines (stubs)",
    "lines": "Lines printed by one task",
    "arrays": "Kilobytes of an array, there and back",
    "chunks": "Tasks of a map of 100,000 tiny items",
}


def main() -> None:
    found = json.loads((HERE / "data" / "growth.json").read_text())
    IMAGES.mkdir(exist_ok=True, parents=True)
    for axis, recorded in found.items():
        points = recorded["points"]
        at = [int(key) for key in points]
        figure, plot = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
        for name in next(iter(points.values())):
            plot.plot(at, [points[str(x)][name] for x in at], "o-", markersize=4, label=name)
        plot.set_xscale("symlog", linthresh=1)
        plot.set_yscale("log")
        plot.set_xlabel(TITLES[axis])
        plot.grid(alpha=0.3)
        figure.legend(loc="outside upper center", ncols=3, fontsize=8, frameon=False)
        figure.savefig(IMAGES / f"growth-{axis}.svg", metadata={"Date": None})
        plt.close(figure)


if __name__ == "__main__":
    main()
