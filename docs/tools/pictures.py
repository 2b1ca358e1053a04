"""Make the pictures of the README: ``python docs/tools/pictures.py``.  Needs Chromium.

What they show is real: a JupyterLab, four engines, and work that fails now and then.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.jupyter.lab import Lab, browser_of, lab_page, lab_server  # noqa: E402

HALF_WAY = re.compile(r"^(2[2-9]|3\d) of 64$")
IMAGES = ROOT / "docs" / "images"
WORK = """
import ipyasyncresult as ipar

view = ipar.connect(n=4).load_balanced_view()


def fit(path, rate):
    import random
    import time

    chance = random.Random(path)
    for epoch in range(9):
        time.sleep(0.06 + 0.12 * chance.random())
        print(f"epoch {epoch}: loss {1 / (epoch + 1 + rate):.4f}")
        if chance.random() < 0.02:
            raise ValueError("no column 'time' in the header")


runs = [f"run-{n:03}.csv" for n in range(64)]
result = view.map_async(fit, runs, [n % 7 for n in range(64)], chunksize=1)
"""


def main() -> None:
    """Take them."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ipar-") as folder, sync_playwright() as playwright:
        home = Path(folder)
        os.environ["XDG_RUNTIME_DIR"] = folder
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
            os.environ[name] = str(home / name.lower())
        browser = browser_of(playwright)
        if browser is None:
            sys.exit("no browser is installed")
        root = home / "notebooks"
        root.mkdir()
        with lab_server(root, home) as address, lab_page(playwright, browser, address) as page:
            lab = Lab(page, root, address)
            with lab.notebook("picture.ipynb", [WORK, "result"]) as notebook:
                notebook.start_all()
                widget = notebook[1].outputs.locator(".ipar")
                widget.locator(".ipar-count").get_by_text(HALF_WAY).wait_for(timeout=120_000)
                widget.locator(".ipar-failure summary").first.wait_for()
                (IMAGES / "widget.png").write_bytes(widget.screenshot())
                with lab.dark():
                    (IMAGES / "widget-dark.png").write_bytes(widget.screenshot())


if __name__ == "__main__":
    main()
