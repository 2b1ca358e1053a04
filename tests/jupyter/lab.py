"""JupyterLab and Notebook 7 in a real browser: notebooks that are run and looked at.

A notebook is driven by JupyterLab's own commands, as its menus and keys do, but without a race for
the focus.  What a test asserts it reads from the page, which is what the user sees, or from the
saved file.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
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

__all__ = [
    "IS_UP",
    "Cell",
    "Lab",
    "Notebook",
    "browser_of",
    "free_port",
    "keep_picture",
    "lab_page",
    "lab_server",
    "wait_until_up",
]

ARTIFACTS = Path(__file__).parents[2] / "artifacts"
"""Where screenshots go, for people to look at."""

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

# With the plugins that come last: what they add to an open menu closes it.
IS_UP = """() => window.jupyterapp?.restored
  .then(() => window.jupyterapp.allPluginsActivated)
  .then(() => true)"""
COMMAND = "([id, args]) => window.jupyterapp.commands.execute(id, args).then(() => null)"
OPEN = """async (path) => {
  const app = window.jupyterapp;
  const panel = await app.commands.execute('docmanager:open', {path, factory: 'Notebook'});
  await panel.context.ready;
  await panel.sessionContext.ready;
  await panel.sessionContext.session.kernel.info;
  (window.panels ??= []).push(panel);
  window.panel = panel;
}"""
FIND_OPEN = """async () => {
  const panel = window.jupyterapp.shell.currentWidget;
  await panel.context.ready;
  await panel.sessionContext.ready;
  await panel.sessionContext.session.kernel.info;
  window.panel = panel;
}"""
# An idle indicator also shows before there is a kernel, and what is run then is lost.
IS_IDLE = "() => window.panel.sessionContext.session?.kernel?.status === 'idle'"
ADD = """async (source) => {
  const notebook = window.panel.content;
  notebook.activeCellIndex = notebook.widgets.length - 1;
  await window.jupyterapp.commands.execute('notebook:insert-cell-below');
  notebook.activeCell.model.sharedModel.setSource(source);
  return notebook.activeCellIndex;
}"""
START = """(index) => {
  window.panel.content.activeCellIndex = index;
  window.jupyterapp.commands.execute('notebook:run-cell');
}"""
FIND = """(source) => window.panel.content.widgets.findIndex(
  cell => cell.model.type === 'code' && cell.model.sharedModel.getSource().includes(source)
)"""
FULL_HEIGHT = """() => {
  const scrolled = window.panel.content.node.querySelector('.jp-WindowedPanel-outer');
  scrolled.scrollTop = 0;
  return window.innerHeight - scrolled.clientHeight + scrolled.scrollHeight;
}"""
CLOSE = """async () => {
  await window.panel.sessionContext.shutdown();
  window.panels.pop().dispose();
  window.panel = window.panels.at(-1);
  if (window.panel) window.jupyterapp.shell.activateById(window.panel.id);
}"""


# ---------------------------------------------------------------------------------------- server


@contextlib.contextmanager
def lab_server(root: Path, home: Path) -> Iterator[str]:
    """A JupyterLab over the files in `root`, its settings in `home`; yields its address."""
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
        "--JupyterNotebookApp.expose_app_in_browser=True",
    ]
    log = home / "lab.log"
    with log.open("wb") as sink:
        server = subprocess.Popen(command, stdout=sink, stderr=sink)
    try:
        wait_until_up(server, f"http://127.0.0.1:{port}/api/status?token={token}", log)
        yield f"http://127.0.0.1:{port}/lab?token={token}"
    finally:
        server.terminate()  # it shuts its kernels down, too
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def free_port() -> int:
    """A port for a server that is about to start.

    It is bound some seconds later, so it is none of those that the kernel gives to whoever asks for
    any: they begin at 32768.
    """
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("a hundred ports are in use")


def wait_until_up(server: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + 100  # of the 120 that a test has: it starts for the first one
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
        context = launched.new_context(viewport={"width": WIDTH, "height": HEIGHT})
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.goto(address)
        page.wait_for_function(IS_UP, timeout=60_000)
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
        The server's folder, where the notebooks are.
    address : str
        The server's, with its token.

    Attributes
    ----------
    page_errors : list of str
        What scripts of the page raised and nobody caught.
    """

    def __init__(self, page: Page, root: Path, address: str) -> None:
        self.page = page
        self.root = root
        self.address = address
        self.page_errors: list[str] = []
        page.on("pageerror", lambda error: self.page_errors.append(str(error)))

    def command(self, name: str, **args: Any) -> None:
        """Run one of JupyterLab's commands, to its end."""
        self.page.evaluate(COMMAND, [name, args])

    @contextlib.contextmanager
    def notebook(self, name: str, cells: Sequence[str] = ()) -> Iterator[Notebook]:
        """An open notebook with a kernel of its own; it is made if `cells` are given."""
        if cells:
            self._write(name, cells)
        self.page.evaluate(OPEN, name)
        try:
            self.page.wait_for_function(IS_IDLE)
            yield Notebook(self, name)
        finally:
            self.page.evaluate(CLOSE)

    @contextlib.contextmanager
    def notebook7(self, name: str, cells: Sequence[str]) -> Iterator[Notebook]:
        """The same in a page of its own, in the application of Notebook 7."""
        self._write(name, cells)
        page = self.page.context.new_page()
        page.set_default_timeout(20_000)
        # With page errors of its own: the application has some that are not ours.
        other = Lab(page, self.root, self.address)
        try:
            page.goto(self.address.replace("/lab?", f"/notebooks/{name}?"))
            page.wait_for_function(IS_UP, timeout=60_000)
            page.evaluate(FIND_OPEN)
            page.wait_for_function(IS_IDLE)
            yield Notebook(other, name)
            page.evaluate("() => window.panel.sessionContext.shutdown()")
        finally:
            page.close()

    def _write(self, name: str, cells: Sequence[str]) -> None:
        spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source) for source in cells],
            metadata={"kernelspec": spec},
        )
        nbformat.write(notebook, self.root / name)

    @contextlib.contextmanager
    def dark(self) -> Iterator[None]:
        """The dark theme for a while."""
        self._change_theme("JupyterLab Dark")
        try:
            yield
        finally:
            self._change_theme("JupyterLab Light")

    def _change_theme(self, name: str) -> None:
        self.command("apputils:change-theme", theme=name)
        # JupyterLab covers the page meanwhile, and stumbles when asked again before that ends.
        self.page.locator("#jupyterlab-splash").wait_for(state="detached")


# -------------------------------------------------------------------------------------- notebook


class Notebook:
    """The open notebook."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab = lab
        self.page = lab.page
        self.name = name

    def __getitem__(self, index: int) -> Cell:
        """A cell by its number, from 0; markdown counts, too."""
        return Cell(self, index)

    def cell(self, source: str) -> Cell:
        """The first code cell that has `source` in it."""
        index = self.page.evaluate(FIND, source)
        assert index >= 0, f"no cell has {source!r}"
        return Cell(self, index)

    def add(self, source: str) -> Cell:
        """A new code cell at the end."""
        return Cell(self, self.page.evaluate(ADD, source))

    def run(self, source: str) -> Cell:
        """A new code cell at the end, run to its end."""
        cell = self.add(source)
        cell.start()
        cell.wait_for_end()
        return cell

    def start_all(self) -> None:
        """*Run all*."""
        self.page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")

    def interrupt(self) -> None:
        """The toolbar's stop button."""
        self.lab.command("notebook:interrupt-kernel")

    def restart_kernel(self) -> None:
        """*Restart kernel*, confirmed."""
        self.page.evaluate("() => window.panel.sessionContext.session.kernel.restart()")
        self.page.wait_for_function(IS_IDLE)

    def saved(self) -> nbformat.NotebookNode:
        """Save it; what is in the file then."""
        self.lab.command("docmanager:save")
        notebook: nbformat.NotebookNode = nbformat.read(self.lab.root / self.name, as_version=4)
        return notebook

    def screenshot(self, name: str) -> None:
        """A picture of all of it."""
        height = self.page.evaluate(FULL_HEIGHT)
        self.page.set_viewport_size({"width": WIDTH, "height": height})
        keep_picture(name, self.page.locator(PANEL).screenshot())
        self.page.set_viewport_size({"width": WIDTH, "height": HEIGHT})


class Cell:
    """A cell of the open notebook."""

    def __init__(self, notebook: Notebook, index: int) -> None:
        self._notebook = notebook
        self._page = notebook.page
        self._index = index
        self._element = self._page.locator(f"{PANEL} .jp-Notebook-cell").nth(index)

    @property
    def outputs(self) -> Locator:
        """Its outputs, an element each."""
        return self._element.locator(".jp-OutputArea-output")

    def text(self) -> str:
        """What the outputs say."""
        return "\n".join(text.rstrip("\n") for text in self.outputs.all_inner_texts())

    @property
    def prompt(self) -> str:
        """``[3]:``, ``[*]:`` while it runs or waits for its turn, ``[ ]:`` if it did not run."""
        return self._element.locator(".jp-InputPrompt").inner_text()

    def start(self) -> None:
        """Run it and do not wait for it."""
        self._page.evaluate(START, self._index)

    def wait_for_end(self, seconds: float = 20) -> None:
        """Until it has run."""
        prompt = self._element.locator(".jp-InputPrompt")
        prompt.get_by_text(re.compile(r"\[\d+\]")).wait_for(timeout=1000 * seconds)

    def wait_for(self, text: str | re.Pattern[str]) -> None:
        """Until an output says this."""
        self.outputs.filter(has_text=text).first.wait_for()

    def screenshot(self, name: str) -> None:
        """A picture of it."""
        keep_picture(name, self._element.screenshot())


def keep_picture(name: str, picture: bytes) -> None:
    """Leave a picture for people to look at."""
    # Playwright would write the file in a thread of its own, and keep that.
    ARTIFACTS.mkdir(exist_ok=True)
    (ARTIFACTS / f"{name}.png").write_bytes(picture)
