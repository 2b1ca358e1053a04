"""The documentation builds without a warning, and every page and public name is in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import ipyasyncresult

pytest.importorskip("sphinx", reason="builds the pages: the 'docs' extra")

DOCS = Path(__file__).parents[2] / "docs"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages as HTML; broken links within them are warnings, and warnings are errors."""
    made = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "--quiet", "-b", "html"]
    ended = subprocess.run([*build, DOCS, made], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return made


def test_every_page_can_be_reached_from_the_first(site: Path) -> None:
    first = (site / "index.html").read_text()
    for page in DOCS.rglob("*.md"):
        name = page.relative_to(DOCS).with_suffix(".html").as_posix()
        assert (site / name).exists()
        assert name == "index.html" or f'href="{name}"' in first, f"{name} is in no list of pages"


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    reference = "".join(page.read_text() for page in (site / "reference").glob("*.html"))
    magic = {"__version__", "load_ipython_extension", "unload_ipython_extension"}
    missing = [name for name in ipyasyncresult.__all__ if f".{name}" not in reference]
    assert set(missing) <= magic
