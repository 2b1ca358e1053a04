"""JupyterLab in a real browser: one server and one page; notebooks are opened, run and looked at.

A notebook is driven by JupyterLab's own commands, as menus and keys do, but without racing for the
focus.  What a test asserts it reads from the page (what the user sees) or from the saved file.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nbformat
from playwright.sync_api import Locator, Page, Playwright

__all__ = ["Lab", "Notebook", "lab_page", "lab_server"]

ARTIFACTS = Path(__file__).parents[2] / "artifacts"
"""Where screenshots go; git ignores it."""

WIDTH, HEIGHT = 1000, 800
PANEL = ".jp-NotebookPanel:not(.lm-mod-hidden)"

CHROMIUM_FLAGS = [
    "--no-sandbox",  # needed as root, so in most containers
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

SETTINGS = {
    # No news pop-up over the notebook, no look-up of new releases.
    "@jupyterlab/apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
    # Every cell is in the page, also when it is scrolled out of sight.
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
}

OPEN = """async (path) => {
  const app = window.jupyterapp;
  await app.restored;
  const panel = await app.commands.execute('docmanager:open', {path, factory: 'Notebook'});
  await panel.context.ready;
  await panel.sessionContext.ready;
  const kernel = panel.sessionContext.session.kernel;
  await kernel.info;
  window.panel = panel;
}"""
# Only then: an idle indicator also shows before there is a kernel, and a run is lost.
IS_IDLE = "() => window.panel.sessionContext.session?.kernel?.status === 'idle'"
COMMAND = "([id, args]) => window.jupyterapp.commands.execute(id, args).then(() => null)"
START = """(index) => {
  window.panel.content.activeCellIndex = index;
  window.jupyterapp.commands.execute('notebook:run-cell');
}"""
FULL_HEIGHT = """() => {
  const outer = window.panel.content.node.querySelector('.jp-WindowedPanel-outer');
  outer.scrollTop = 0;
  return window.innerHeight - outer.clientHeight + outer.scrollHeight;
}"""
CLOSE = """async () => {
  await window.panel.sessionContext.shutdown();
  window.panel.dispose();
}"""


# ---------------------------------------------------------------------------------------- server


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def lab_server(root: Path, home: Path) -> Iterator[str]:
    """A JupyterLab over the files in `root`, with settings in `home`; yields its address."""
    for plugin, values in SETTINGS.items():
        file = home / "settings" / f"{plugin}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    port, token = free_port(), secrets.token_hex(16)
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={root}",
        f"--IdentityProvider.token={token}",
        f"--LabApp.user_settings_dir={home / 'settings'}",
        f"--LabApp.workspaces_dir={home / 'workspaces'}",
        "--LabApp.expose_app_in_browser=True",  # gives window.jupyterapp
    ]
    log = home / "lab.log"
    with log.open("wb") as sink:
        server = subprocess.Popen(command, stdout=sink, stderr=sink)
    try:
        _wait_until_up(server, f"http://127.0.0.1:{port}/api/status?token={token}", log)
        yield f"http://127.0.0.1:{port}/lab?token={token}"
    finally:
        server.terminate()  # it shuts its kernels down, too
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_until_up(server: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=2):
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(0.05)
        if server.returncode is not None or time.monotonic() > deadline:
            raise RuntimeError(f"JupyterLab did not come up:\n{log.read_text()}")


# ------------------------------------------------------------------------------------------ page


def browser_of(playwright: Playwright) -> str | None:
    """The browser that is installed: the system's, or Playwright's own."""
    own = playwright.chromium.executable_path
    found = shutil.which("chromium") or shutil.which("google-chrome") or own
    return found if Path(found).exists() else None


@contextlib.contextmanager
def lab_page(playwright: Playwright, browser: str, address: str) -> Iterator[Page]:
    """A page that shows JupyterLab, ready to open notebooks."""
    launched = playwright.chromium.launch(
        executable_path=browser,
        args=CHROMIUM_FLAGS,
        env={**os.environ, "GSETTINGS_BACKEND": "memory"},  # else it leaves a file behind
    )
    try:
        page = launched.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.set_default_timeout(20_000)
        page.goto(address)
        page.wait_for_function("() => window.jupyterapp?.restored.then(() => true)", timeout=60_000)
        page.evaluate(COMMAND, ["application:toggle-left-area", {}])
        yield page
    finally:
        launched.close()


class Lab:
    """JupyterLab in a page.

    Parameters
    ----------
    page : Page
    root : Path
        The server's folder: what is opened and saved lies there.

    Attributes
    ----------
    page_errors : list of str
        What scripts of the page raised and nobody caught.
    """

    def __init__(self, page: Page, root: Path) -> None:
        self.page = page
        self.root = root
        self.page_errors: list[str] = []
        page.on("pageerror", lambda error: self.page_errors.append(str(error)))

    def command(self, name: str, **args: Any) -> None:
        """Run one of JupyterLab's commands, to its end."""
        self.page.evaluate(COMMAND, [name, args])

    def open(self, name: str) -> Notebook:
        """Open a notebook of the server's folder; its kernel is up."""
        self.page.evaluate(OPEN, name)
        self.page.wait_for_function(IS_IDLE)
        return Notebook(self, name)

    def write(self, name: str, cells: Sequence[str]) -> None:
        """Make a notebook of code cells."""
        spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source) for source in cells],
            metadata={"kernelspec": spec},
        )
        nbformat.write(notebook, self.root / name)

    @contextlib.contextmanager
    def notebook(self, name: str, cells: Sequence[str] = ()) -> Iterator[Notebook]:
        """An open notebook, made of `cells` if there are any; closed at the end."""
        if cells:
            self.write(name, cells)
        opened = self.open(name)
        try:
            yield opened
        finally:
            opened.close()

    @contextlib.contextmanager
    def theme(self, name: str) -> Iterator[None]:
        """Another theme for a while."""
        self.command("apputils:change-theme", theme=name)
        try:
            yield
        finally:
            self.command("apputils:change-theme", theme="JupyterLab Light")


class Notebook:
    """An open notebook.  Cells are named by their number, from 0."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab = lab
        self.page = lab.page
        self.name = name

    def cell(self, index: int) -> Locator:
        return self.page.locator(f"{PANEL} .jp-Notebook-cell").nth(index)

    def outputs(self, index: int) -> Locator:
        """The outputs of a cell, one element each."""
        return self.cell(index).locator(".jp-OutputArea-output")

    def text(self, index: int) -> str:
        """What the outputs of a cell say."""
        return "\n".join(self.outputs(index).all_inner_texts())

    def run(self, index: int) -> None:
        """Run a cell, to its end."""
        self.start(index)
        self.wait_for_end(index)

    def start(self, index: int) -> None:
        """Run a cell and do not wait for it."""
        self.page.evaluate(START, index)

    def wait_for_end(self, index: int, seconds: float = 20) -> None:
        """Until a cell that was started has its number."""
        prompt = self.cell(index).locator(".jp-InputPrompt")
        prompt.get_by_text(re.compile(r"\[\d+\]")).wait_for(timeout=1000 * seconds)

    def run_all(self) -> None:
        """*Run all*, until the last cell has ended or one has failed."""
        self.lab.command("notebook:run-all-cells")

    def interrupt(self) -> None:
        """The toolbar's stop button."""
        self.lab.command("notebook:interrupt-kernel")

    def saved(self) -> nbformat.NotebookNode:
        """Save it; what is in the file then."""
        self.lab.command("docmanager:save")
        notebook: nbformat.NotebookNode = nbformat.read(self.lab.root / self.name, as_version=4)
        return notebook

    def screenshot(self, name: str) -> None:
        """A picture of the whole notebook, without what is around it."""
        ARTIFACTS.mkdir(exist_ok=True)
        height = self.page.evaluate(FULL_HEIGHT)
        self.page.set_viewport_size({"width": WIDTH, "height": max(HEIGHT, height)})
        self.page.locator(PANEL).screenshot(path=ARTIFACTS / f"{name}.png")
        self.page.set_viewport_size({"width": WIDTH, "height": HEIGHT})

    def close(self) -> None:
        """Shut its kernel down and close its tab."""
        self.page.evaluate(CLOSE)
