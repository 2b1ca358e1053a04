"""What JupyterLab has to offer: ways to the page of clusters, and a stop in the status bar."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from ipyasyncresult import Cluster
from ipyasyncresult.client.clusters import list_clusters
from tests.conftest import eventually
from tests.jupyter.lab import Lab, keep_picture

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(120)]


def test_the_page_is_found_in_the_launcher_and_in_the_run_menu(lab: Lab) -> None:
    lab.command("launcher:create")
    # There may be another launcher, behind the notebooks.
    card = lab.page.locator(".jp-LauncherCard:visible", has_text="Clusters")
    with lab.page.context.expect_page() as opened:
        card.click()
    opened.value.wait_for_url("**/ipyasyncresult*")
    opened.value.close()
    lab.page.get_by_role("menuitem", name="Run", exact=True).click()
    entry = lab.page.locator(".lm-Menu").get_by_text("Clusters", exact=True)
    expect(entry).to_be_visible()
    keep_picture("lab-menu", lab.page.screenshot())
    with lab.page.context.expect_page() as opened:
        entry.click()
    heading = opened.value.get_by_role("heading", name="Clusters", exact=True)
    expect(heading).to_be_visible(timeout=30_000)
    opened.value.close()


def test_the_status_bar_stops_a_cluster(lab: Lab) -> None:
    with Cluster(n=1, cluster_id="to-stop"):
        item = lab.page.locator("#ipyasyncresult-clusters")
        expect(item).to_contain_text("Engines", timeout=30_000)
        # It looks every ten seconds; whoever opens the menu sees what is there.
        item.click()
        stop = lab.page.locator(".lm-Menu").get_by_text("Stop to-stop …")
        expect(stop).to_be_visible(timeout=30_000)
        keep_picture("lab-status-bar", lab.page.screenshot())
        stop.click()
        lab.page.locator(".jp-Dialog").get_by_role("button", name="Stop").click()
        expect(lab.page.locator(".jp-Dialog")).to_have_count(0)
        assert eventually(lambda: "to-stop" not in [one.cluster_id for one in list_clusters()], 20)
