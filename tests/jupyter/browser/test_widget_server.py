"""The live view and Jupyter's own server: the link, and the way round a kernel that is deaf.

And the view alone in a page, without a server and without a kernel.
"""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Request, expect

from ipyasyncresult.display import widget as widget_module
from ipyasyncresult.display.model import LiveModel, state_of
from ipyasyncresult.testing import FakeClient
from tests.jupyter.browser.test_widget import STEPS, Widget, open_gates
from tests.jupyter.lab import Lab

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(240)]

# As with a kernel or a frontend that has none.
NO_SUBSHELLS = (
    "() => { window.panel.sessionContext.session.kernel.commsOverSubshells = 'disabled' }"
)


@pytest.fixture
def requests(lab: Lab) -> Iterator[list[Request]]:
    """What the page asked our routes."""
    found: list[Request] = []

    def note(request: Request) -> None:
        if "/ipyasyncresult" in request.url:
            found.append(request)

    lab.page.on("request", note)
    yield found
    lab.page.remove_listener("request", note)


def test_buttons_reach_the_engines_past_a_blocked_kernel(
    lab: Lab, tmp_path: Path, requests: list[Request]
) -> None:
    cells = [STEPS.format(folder=str(tmp_path), count=8), "result.wait_interactive()"]
    with lab.notebook("deaf.ipynb", cells) as notebook:
        lab.page.evaluate(NO_SUBSHELLS)
        notebook.start_all()
        waiting = notebook[1]
        widget = Widget(waiting)
        for item in ("item 0: ", "item 1: "):
            widget.part("lane-what").get_by_text(item).wait_for()
        link = widget.root.get_by_role("link", name="Cluster")
        link.wait_for()
        address = lab.address.partition("/lab?")[0] + "/ipyasyncresult"
        cluster = str(link.get_attribute("href")).removeprefix(f"{address}#")
        assert re.fullmatch(r"[\w.-]+", cluster)

        answer = widget.press("interrupt")
        assert answer == "2 interrupted, 6 still queued"
        widget.part("failure-title").get_by_text("KeyboardInterrupt").wait_for()
        widget.wait_for_others_to_run("item 0: ", "item 1: ")
        assert widget.press("stop") == "4 aborted, 2 already running"
        widget.wait_for_key(r"\d aborted")
        assert waiting.prompt == "[*]:"  # the kernel has heard nothing of all this
        waiting.screenshot("buttons-over-the-server")
        # What only the kernel can do waits for it, and that is said.
        widget.root.locator("[data-action=retry]").click()
        expect(widget.part("answer")).to_have_text(re.compile("^The kernel is busy"))

        with lab.page.context.expect_page() as opened:
            link.click()
        expect(opened.value.get_by_role("heading", name=cluster)).to_be_visible()
        opened.value.close()
        open_gates(tmp_path, *range(8))
        waiting.wait_for_end()
        assert lab.address.partition("token=")[2] not in " ".join(one.url for one in requests)
        # The status bar's requests are JupyterLab's own, and are made with its token.
        ours = [request.all_headers() for request in requests if request.method == "POST"]
        assert len(ours) == 2
        for headers in ours:
            assert headers["x-xsrftoken"]
            assert "authorization" not in headers


# ------------------------------------------------------------------------------ without a server

DISPLAY = Path(widget_module.__file__).parent
CODE = "".join((DISPLAY / name).read_text() for name in ("server.js", "widget.js"))
RENDER = """async ([code, config, state]) => {
  if (config !== null) {
    const said = document.createElement('script');
    Object.assign(said, {id: 'jupyter-config-data', type: 'application/json', textContent: config});
    document.head.append(said);
  }
  const module = await import(URL.createObjectURL(new Blob([code], {type: 'text/javascript'})));
  window.sent = [];
  const model = {get: () => state, on() {}, off() {}, send: (message) => window.sent.push(message)};
  const root = document.body.appendChild(document.createElement('div'));
  module.default.render({model, el: root});
}"""

ABSENT = '() => globalThis[Symbol.for("ipyasyncresult: this page\'s server has no such routes")]'


@pytest.fixture
def bare(lab: Lab) -> Iterator[tuple[Page, list[str]]]:
    """A page of the same server that is no JupyterLab, and what it asks for."""
    page = lab.page.context.new_page()
    page.goto(lab.address.partition("/lab?")[0] + "/static/favicons/favicon.ico")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    yield page, asked
    page.close()


def state_in(cluster: str) -> dict[str, Any]:
    result = FakeClient().submit("step", 3)
    reach = {"cluster": cluster, "tasks": [["c0ffee", 0, 2]]}
    return state_of(LiveModel(result).look(), reach=reach)


@pytest.mark.parametrize(
    ("config", "cluster"),
    [
        (None, "grid"),
        ("", "grid"),
        ("{}", "grid"),
        ('{"baseUrl": 3}', "grid"),
        ('{"baseUrl": "https://example.org/"}', "grid"),
        ('{"baseUrl": "//example.org/"}', "grid"),
        ('{"baseUrl": "javascript:alert(1)//"}', "grid"),
        ('{"baseUrl": "/"}', "../../api/shutdown?"),
        ('{"baseUrl": "/"}', 'x" onclick=alert(1)'),
    ],
)
def test_a_page_without_our_server_asks_nobody(
    config: str | None, cluster: str, bare: tuple[Page, list[str]]
) -> None:
    page, asked = bare
    page.evaluate(RENDER, [CODE, config, state_in(cluster)])
    page.locator("[data-action=stop]").click()
    page.wait_for_function("() => window.sent.length")
    assert page.evaluate("window.sent") == [{"action": "stop"}]
    assert [address for address in asked if not address.startswith("blob:")] == []
    assert page.locator(".ipar-link").is_hidden()


def test_a_server_without_our_routes_is_asked_once(bare: tuple[Page, list[str]]) -> None:
    page, asked = bare
    for _ in range(2):
        page.evaluate(RENDER, [CODE, '{"baseUrl": "/nowhere/"}', state_in("grid")])
        page.wait_for_function(ABSENT)
    page.locator("[data-action=stop]").last.click()
    page.wait_for_function("() => window.sent.length")
    assert len([address for address in asked if "/nowhere/" in address]) == 1
    assert page.locator(".ipar-link:visible").count() == 0


# --------------------------------------------------------------------------------- for everyone

AXE = importlib.resources.files("axe_playwright_python") / "axe.min.js"
LOOK = """async ([code, style]) => {
  document.head.append(Object.assign(document.createElement('style'), {textContent: style}));
  document.querySelectorAll('details').forEach((details) => { details.open = true; });
  (0, eval)(code);
  const found = await axe.run('.ipar', {resultTypes: ['violations']});
  return found.violations.map(({id, nodes}) => [id, nodes.map((node) => node.html)]);
}"""
MOVES = "(root) => root.getAnimations({subtree: true}).length"


@pytest.mark.parametrize("engines", [3, 40])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_has_nothing_to_complain_about(
    engines: int, scheme: str, bare: tuple[Page, list[str]]
) -> None:
    client = FakeClient(engines)
    result = client.submit("step", 2 * engines)
    model = LiveModel(result)
    for engine, msg_id in enumerate(result.msg_ids[:engines]):
        client.start(msg_id, engine)
        client.output(msg_id, "stderr", "careful\n")
    client.fail(result.msg_ids[0], ValueError("bad"), engine=0, inputs="step(0)")
    client.finish(result.msg_ids[1], 1, engine=1)
    page, _ = bare
    page.emulate_media(reduced_motion="reduce")
    page.evaluate(RENDER, [CODE, None, state_of(model.look())])
    page.locator(".ipar-failure").wait_for()
    style = (DISPLAY / "widget.css").read_text()
    ground = {"light": "white", "dark": "#111"}[scheme]
    words = {"light": "black", "dark": "white"}[scheme]
    style += f":root, body {{ background: {ground} !important; color: {words}; }}"
    style += f".ipar {{ --jp-layout-color1: {ground}; --jp-content-font-color1: {words}; }}"
    # As the themes of JupyterLab have it.
    if scheme == "dark":
        style += ".ipar { --jp-error-color1: #f44336; --jp-brand-color1: #2196f3; }"
    assert page.evaluate(LOOK, [AXE.read_text(), style]) == []
    assert page.locator(".ipar").evaluate(MOVES) == 0
