"""The versions that are supported, each in an environment of its own.

    nox                   the newest versions of everything, on each Python that is there
    nox -s oldest         the oldest versions that pyproject.toml admits (constraints/oldest.txt)
    nox -s ipykernel6     the newest, with the ipykernel that has no subshells
    nox -s tests-3.13 -- tests/unit    what stands after -- goes to pytest

An interpreter that is not there is skipped, and said so; pyenv, uv or a distribution bring them.
"""

from __future__ import annotations

import nox

nox.options.default_venv_backend = "venv"
nox.options.sessions = ["tests"]

PYTHONS = ["3.11", "3.12", "3.13", "3.14"]

# What can break with a version: everything but browsers, pages, packaging and long soaks.
CORE = [
    "tests/unit",
    "tests/contract",
    "tests/integration/test_views.py",
    "tests/integration/test_results.py",
    "tests/integration/test_capture.py",
    "tests/integration/test_executor.py",
    "tests/integration/test_lifecycle.py",
    "tests/integration/test_familiar.py",
    "tests/integration/test_plugin.py",
    "tests/jupyter/test_magics.py",
    "tests/jupyter/test_display_kernel.py",
]


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The newest versions of everything."""
    run(session)


@nox.session(python=PYTHONS[0])
def oldest(session: nox.Session) -> None:
    """The oldest versions that pyproject.toml admits."""
    run(session, "--constraint", "constraints/oldest.txt")


@nox.session(python=PYTHONS[1])
def ipykernel6(session: nox.Session) -> None:
    """The newest versions, but the older kernel."""
    run(session, "ipykernel<7")


def run(session: nox.Session, *requirements: str) -> None:
    """Install the package with its tests and run them."""
    session.install("--editable", ".[test]", *requirements)
    # Old versions of jupyter_core warn where this is not set, and a warning is an error.
    settings = {"JUPYTER_PLATFORM_DIRS": "1"}
    session.run("python", "-m", "pytest", *(session.posargs or CORE), env=settings)
