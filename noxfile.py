"""The versions that are supported, each in an environment of its own.

    nox                   the newest versions of everything, on each Python that is there
    nox -s oldest         the oldest versions that pyproject.toml admits (constraints/oldest.txt)
    nox -s ipykernel6     the newest, with the ipykernel that has no subshells
    nox -s types          the public names, as pyright (so VS Code's editor) sees them
    nox -s tests-3.13 -- tests/unit    what stands after -- goes to pytest

An interpreter that is not there is skipped, and said so; pyenv, uv or a distribution bring them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
nox.options.sessions = ["tests"]

PYTHONS = ["3.11", "3.12", "3.13", "3.14"]

# What can break with a version: everything but browsers, pages, packaging and long soaks.
CORE = [
    "tests/unit",
    "tests/contract",
    "tests/integration/backends",
    "tests/integration/test_views.py",
    "tests/integration/test_results.py",
    "tests/integration/test_capture.py",
    "tests/integration/test_executor.py",
    "tests/integration/test_lifecycle.py",
    "tests/integration/test_familiar.py",
    "tests/integration/test_plugin.py",
    "tests/integration/test_cli.py",
    "tests/jupyter/test_magics.py",
    "tests/jupyter/test_display_kernel.py",
    "tests/jupyter/test_joins.py",
    "tests/jupyter/test_bridge.py",
    "tests/jupyter/test_server.py",
]

# How buttons are heard depends on the kernel.
BROWSER = [
    "tests/jupyter/browser/test_widget.py",
    "tests/jupyter/browser/test_widget_server.py",
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
    """The newest versions, but the older kernel, and the live view in a browser over it."""
    run(session, "ipykernel<7", also=BROWSER)


# What a user's program imports or meets; the other packages are this one's own business.
PUBLIC = re.compile(r"ipyasyncresult\.(\w+$|(client|core|backends|display|errors|testing)\b)")


@nox.session(python=PYTHONS[0])
def types(session: nox.Session) -> None:
    """A user's program and the public names in pyright: nothing is wrong, unknown or guessed."""
    # Pyright brings Node.js where there is none; what public classes are made of must be there.
    session.install(".[dask,pandas,server]", "pyright")
    session.run("pyright", "tests/typing/sample.py")
    verify = ("pyright", "--verifytypes", "ipyasyncresult", "--ignoreexternal", "--outputjson")
    # It fails for internal names, too: looked at here are the public ones alone.
    said = session.run(*verify, silent=True, success_codes=[0, 1])
    symbols = json.loads(str(said))["typeCompleteness"]["symbols"]
    public = [symbol for symbol in symbols if PUBLIC.match(symbol["name"])]
    guessed = [s["name"] for s in public if not s["isTypeKnown"] or s["isTypeAmbiguous"]]
    if guessed or not public:
        session.error(f"{len(guessed)} of {len(public)} public names have no sure type: {guessed}")
    session.log(f"all {len(public)} public names have their types")


def run(session: nox.Session, *requirements: str, also: Sequence[str] = ()) -> None:
    """Install the package with its tests and run them."""
    session.install("--editable", ".[test]", *requirements)
    # Old versions of jupyter_core warn where the first is not set, and a warning is an error.
    # The second: an editable install leaves out what enables the page of clusters.
    config = str(Path(__file__).parent / "jupyter-config")
    settings = {"JUPYTER_PLATFORM_DIRS": "1", "JUPYTER_CONFIG_PATH": config}
    session.run("python", "-m", "pytest", *(session.posargs or [*CORE, *also]), env=settings)
