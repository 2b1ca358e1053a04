"""The documentation: ``make docs``.  Everything it needs is in the 'docs' extra."""

from __future__ import annotations

import ipyasyncresult

project = "ipyasyncresult"
author = "ipyasyncresult developers"
copyright = author
version = release = ipyasyncresult.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["tools"]

# -- pages

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3  # links to headings, as GitHub makes them: page.md#a-heading
html_theme = "furo"
html_title = f"ipyasyncresult {release}"
pygments_style = "friendly"
pygments_dark_style = "monokai"

# -- reference: from the docstrings

napoleon_google_docstring = False
napoleon_use_ivar = True  # "Attributes" of a class and its properties are one thing
napoleon_use_rtype = False
autodoc_default_options = {"show-inheritance": False}
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say what an argument is; annotations would say it twice
autodoc_class_signature = "mixed"

# -- files above this folder: the same links work here and where the repository is browsed

_PROJECT_PAGES = {
    name: f"project/{name.lower()}" for name in ("CHANGELOG", "CONTRIBUTING", "SECURITY")
}


def _link_project_pages(_app: object, page: str, source: list[str]) -> None:
    up = "../" * page.count("/")
    for name, target in _PROJECT_PAGES.items():
        source[0] = source[0].replace(f"](../{up}{name}.md", f"]({up}{target}.md")


def setup(app: object) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _link_project_pages)  # type: ignore[attr-defined]
