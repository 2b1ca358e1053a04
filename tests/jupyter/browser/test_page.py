"""The page of clusters in a real browser.  Screenshots are left in ``artifacts/``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from ipyasyncresult import Client, Cluster
from ipyasyncresult.client.clusters import stop_cluster
from ipyasyncresult.errors import HubError
from ipyasyncresult.wire.runtime import cluster_folder
from tests.integration.conftest import Gate, _test_code_travels_by_value  # noqa: F401  a fixture
from tests.jupyter.jupyterserver import jupyter_server
from tests.jupyter.lab import Lab, keep_picture

expect.set_options(timeout=30_000)
pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(120)]

HOSTILE = [
    "<img src=x onerror=\"document.title='hacked'\">",
    "<script>document.title='hacked'</script>",
    "</pre></td><svg onload=\"document.title='hacked'\">",
    "javascript:document.title='hacked'",
    "\x1b[31mred\x1b]0;hacked\x07\u202egnp.exe",
    "{{constructor.constructor(\"document.title='hacked'\")()}}",
]


@pytest.fixture(scope="module")
def page(lab: Lab) -> Iterator[Page]:
    """The page, as a person opens it who was given an address with the token."""
    opened = lab.page.context.new_page()
    opened.set_viewport_size({"width": 1200, "height": 900})
    opened.goto(lab.address.replace("/lab?", "/ipyasyncresult?"))
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def complaints(page: Page) -> Iterator[list[str]]:
    """Errors of scripts, and what the content security policy had to stop: there must be none."""
    found: list[str] = []

    def note(message: object) -> None:
        found.append(str(message))

    page.on("pageerror", note)
    page.on("console", lambda message: note(message.text) if message.type == "error" else None)
    yield found
    page.remove_listener("pageerror", note)
    assert found == []


@pytest.fixture(scope="module")
def client(page: Page) -> Iterator[Client]:
    """A cluster that the page finds by itself, beside those of notebooks that are open."""
    with Cluster(n=2, cluster_id="grid") as client:
        page.get_by_role("button", name="grid", exact=True).click()
        expect(page.get_by_role("heading", name="grid")).to_be_visible()
        expect(page.locator("#lanes tr")).to_have_count(2)
        yield client


def say(text: str) -> None:
    print(text)
    raise ValueError(text)


def hold(gate: Gate) -> None:
    gate.wait()


def test_the_address_keeps_no_token(page: Page, lab: Lab, client: Client) -> None:
    assert "token=" in lab.address
    assert page.url == lab.address.partition("/lab?")[0] + "/ipyasyncresult#grid"


def test_a_call_is_followed_as_it_goes(page: Page, client: Client, tmp_path: Path) -> None:
    gates = [Gate(tmp_path / f"gate{number}") for number in range(4)]
    result = client.load_balanced_view().map_async(hold, gates, chunksize=1)
    row = page.locator("#calls tr", has_text="hold").first
    expect(page.locator("#lanes tr", has_text="running")).to_have_count(2)
    expect(page.locator("#lanes tr").first).to_contain_text("hold")
    for number, gate in enumerate(gates[:3], start=1):
        gate.open()
        expect(row).to_contain_text(f"{number} done")
    keep_picture("clusters-page", page.screenshot())
    gates[3].open()
    expect(row).to_contain_text("4 done")
    expect(row.get_by_role("button", name="Interrupt")).to_be_hidden()
    expect(page.locator("#lanes tr", has_text="idle")).to_have_count(2)
    result.get()


def test_hostile_text_is_shown_as_text(page: Page, client: Client) -> None:
    view = client.load_balanced_view()
    view.label = HOSTILE[0]
    view.map_async(say, HOSTILE, chunksize=1).wait()
    row = page.locator("#calls tr", has_text=HOSTILE[0]).first
    expect(row).to_contain_text("6 failed")
    row.get_by_role("button").first.click()
    tasks = page.locator("#calls .detail [data-task]")
    expect(tasks).to_have_count(len(HOSTILE))
    for number, text in enumerate(HOSTILE):
        tasks.nth(number).get_by_role("button").click()
        shown = page.locator("#calls .detail .detail").nth(number)
        expect(shown.locator("pre.stdout")).to_have_text(f"{text}\n")
        expect(shown.locator("pre.traceback")).to_contain_text("ValueError")
    assert page.locator("#calls img, #calls script, #calls svg").count() == 0
    assert page.title() == "grid · ipyasyncresult"
    page.get_by_role("button", name="Only failed").click()
    expect(tasks).to_have_count(len(HOSTILE))
    keep_picture("clusters-page-hostile", page.screenshot(full_page=True))
    row.get_by_role("button").first.click()


def test_queued_work_is_taken_back_and_running_work_interrupted(
    page: Page, client: Client, tmp_path: Path
) -> None:
    gate = Gate(tmp_path / "gate")
    result = client.load_balanced_view().map_async(hold, [gate] * 5, chunksize=1)
    expect(page.locator("#lanes .dot.running")).to_have_count(2)
    # They have begun, as the time tells: what an engine has not begun is taken back, too.
    expect(page.locator("#lanes .now", has_text="hold · ")).to_have_count(2)
    row = page.locator("#calls tr", has_text="2 running, 3 waiting").first
    row.get_by_role("button", name="Stop queued").click()
    expect(page.get_by_role("status")).to_have_text("3 tasks taken back")
    page.get_by_role("button", name="Interrupt what engine 0 runs").click()
    expect(page.get_by_role("status")).to_have_text("engine 0 is interrupted")
    page.get_by_role("button", name="Interrupt running").click()
    expect(page.locator("#calls tr").first).to_contain_text("2 failed, 3 aborted")
    result.wait(timeout=20)
    assert result.ready()


def test_what_the_hub_wrote_is_shown_as_text(page: Page, client: Client) -> None:
    with (cluster_folder("grid") / "hub.log").open("a") as file:
        file.write(f"{HOSTILE[0]}\n")
    page.get_by_text("What the hub wrote").click()
    expect(page.locator("#log-lines")).to_contain_text(HOSTILE[0])
    assert page.locator("#log img").count() == 0
    page.get_by_text("What the hub wrote").click()


def test_it_is_readable_in_the_dark(page: Page, client: Client) -> None:
    page.emulate_media(color_scheme="dark")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    keep_picture("clusters-page-dark", page.screenshot())
    page.emulate_media(color_scheme="light")
    assert ground != page.evaluate("getComputedStyle(document.body).backgroundColor")


@pytest.fixture
def made_here() -> Iterator[str]:
    """A name for a cluster; it does not outlive the test, whatever happens."""
    yield "made-here"
    with contextlib.suppress(HubError):
        stop_cluster("made-here")


def test_a_cluster_is_started_and_stopped_with_the_keyboard(
    page: Page, client: Client, made_here: str
) -> None:
    page.get_by_label("Engines").fill("1")
    page.get_by_label("Name").fill(made_here)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="made-here")).to_be_visible()
    expect(page.locator("#lanes tr")).to_have_count(1)
    assert cluster_folder("made-here").exists()
    page.get_by_role("button", name="Stop cluster").press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("Stop cluster made-here?")
    page.get_by_role("button", name="Keep it").press("Enter")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.get_by_role("button", name="Stop cluster").press("Enter")
    page.get_by_role("button", name="Stop it").press("Enter")
    expect(page.get_by_role("status")).to_have_text("made-here is stopped")
    expect(page.get_by_role("heading", name="made-here")).to_be_hidden()  # it shows another one
    page.get_by_role("button", name="grid", exact=True).click()
    assert not cluster_folder("made-here").exists()


def test_a_press_is_heard_also_when_the_list_changes_meanwhile(page: Page, client: Client) -> None:
    with Cluster(n=0, cluster_id="beside"):
        page.get_by_role("button", name="beside", exact=True).click()
        expect(page.get_by_role("heading", name="beside")).to_be_visible()
        page.get_by_role("button", name="grid", exact=True).hover()
        page.mouse.down()
        with Cluster(n=0, cluster_id="another"):
            expect(page.get_by_role("button", name="another", exact=True)).to_be_visible()
            page.mouse.up()
            expect(page.get_by_role("heading", name="grid")).to_be_visible()


def test_what_cannot_be_done_is_said(page: Page, client: Client, complaints: list[str]) -> None:
    page.get_by_label("Name").fill("../up")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("status")).to_contain_text("cluster_id must be 1 to 32 letters")
    page.get_by_label("Name").fill("")
    assert all("400" in complaint for complaint in complaints)
    complaints.clear()  # the browser notes each such answer


def test_a_plain_jupyter_server_has_the_page_too(
    lab: Lab, client: Client, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Without JupyterLab and Notebook, and below an address of its own, as behind JupyterHub."""
    home = tmp_path_factory.mktemp("home")
    with jupyter_server(tmp_path, home) as server:
        opened = lab.page.context.new_page()
        try:
            opened.goto(f"{server.url()}?token={server.token}#grid")
            expect(opened.get_by_role("heading", name="grid")).to_be_visible()
            expect(opened.locator("#lanes tr")).to_have_count(2)
            assert opened.url == f"{server.url()}#grid"
            opened.get_by_label("Name").fill("../up")
            opened.get_by_role("button", name="Start").click()
            # It got as far as the server's own check: login and XSRF are in order.
            expect(opened.get_by_role("status")).to_contain_text("cluster_id must be")
        finally:
            opened.close()
