"""One server and one browser for all tests of this folder, which run last (tests/conftest.py)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from tests.jupyter.lab import Lab, Notebook, browser_of, lab_page, lab_server


@pytest.fixture(scope="session")
def lab(runtime_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    root, home = tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("lab")
    with sync_playwright() as playwright:
        browser = browser_of(playwright)
        if browser is None:
            assert not os.environ.get("CI"), "no browser is installed, and CI needs one"
            pytest.skip("no browser is installed (make test installs one where it may)")
        with lab_server(root, home) as address, lab_page(playwright, browser, address) as page:
            yield Lab(page, root, address)


@pytest.fixture(scope="session")
def notebook(lab: Lab) -> Iterator[Notebook]:
    """A notebook whose engines are up; tests add cells."""
    with lab.notebook("shared.ipynb", ["%load_ext ipyasyncresult"]) as opened:
        opened[0].start()
        opened.run("%%px\nimport sys, time\nfrom pathlib import Path")
        opened.run("import contextlib, ipyasyncresult\nfrom pathlib import Path")
        yield opened


@pytest.fixture(autouse=True)
def no_page_errors(lab: Lab) -> Iterator[None]:
    lab.page_errors.clear()
    yield
    assert lab.page_errors == []
