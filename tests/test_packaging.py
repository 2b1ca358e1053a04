"""The sdist builds a wheel, and the wheel works where nothing of the checkout is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

import ipyasyncresult

REPOSITORY = Path(__file__).parents[1]
DATA = f"ipyasyncresult-{ipyasyncresult.__version__}.data/data/"
ENABLES = "jupyter_server_config.d/ipyasyncresult.json"
"""Tells Jupyter's server of the page and its routes."""
LAB = "share/jupyter/labextensions/ipyasyncresult"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it; made without a network."""
    source = tmp_path_factory.mktemp("source") / "checkout"
    # A copy without what earlier builds left: setuptools would take its old list of files.
    leave_out = shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "build", "dist")
    shutil.copytree(REPOSITORY, source, ignore=leave_out)
    run(sys.executable, "-m", "build", "--no-isolation", source, cwd=source)
    return source / "dist"


def test_the_sdist_holds_what_a_packager_needs(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "Makefile"}
    assert names >= {"tests/conftest.py", "docs/architecture.md", "notebooks/quickstart.ipynb"}
    assert names >= package_files()
    assert names >= {f"jupyter-config/{ENABLES}", "labextension/static/remoteEntry.js"}
    assert names >= {"labextension/package.json", "constraints/oldest.txt", "benchmarks/bench.py"}
    assert names >= {f"docs/images/{file.name}" for file in REPOSITORY.glob("docs/images/*")}


def test_the_wheel_holds_the_package_its_types_and_its_licence(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as archive:
        names = set(archive.namelist())
    info = f"ipyasyncresult-{ipyasyncresult.__version__}.dist-info"
    code = {name for name in names if not name.startswith((info, DATA))}
    assert code == package_files()
    assert "ipyasyncresult/py.typed" in names
    assert f"{info}/licenses/LICENSE" in names


def install_into(folder: Path, built: Path) -> Path:
    """An environment with the wheel; its dependencies are this one's."""
    environment = folder / "environment"
    venv.create(environment, symlinks=True)
    python = environment / "bin" / "python"
    wheel = next(built.glob("*.whl"))
    pip = (sys.executable, "-m", "pip", "--python", python)
    run(*pip, "install", "--quiet", "--no-index", "--no-deps", wheel, cwd=folder)
    # They need no network then, and no second download.
    base = {"base": str(environment), "platbase": str(environment)}
    packages = Path(sysconfig.get_path("purelib", scheme="venv", vars=base))
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return environment


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment of those tests that leave it as it is."""
    return install_into(tmp_path_factory.mktemp("installed"), built)


def test_the_wheel_works_in_an_environment_of_its_own(installed: Path, tmp_path: Path) -> None:
    python = installed / "bin" / "python"
    program = (
        "import ipyasyncresult\n"
        "for name in ipyasyncresult.__all__: getattr(ipyasyncresult, name)\n"
        "print(ipyasyncresult.__version__, ipyasyncresult.__file__)"
    )
    version, file = run(python, "-c", program, cwd=tmp_path).split()
    assert version == ipyasyncresult.__version__
    assert Path(file).is_relative_to(installed)


def test_jupyters_server_finds_the_page_after_a_plain_install(built: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as archive:
        names = set(archive.namelist())
    assert names >= {f"{DATA}etc/jupyter/{ENABLES}", f"{DATA}{LAB}/package.json"}
    environment = install_into(tmp_path, built)
    python = environment / "bin" / "python"
    listed = run(python, "-m", "jupyter_server.extension.serverextension", "list", cwd=tmp_path)
    ours = listed.partition(str(environment))[2]
    assert "ipyasyncresult \x1b[32menabled" in ours
    assert f"ipyasyncresult {ipyasyncresult.__version__} \x1b[32mOK" in ours
    listed = run(python, "-m", "jupyterlab.labextensions", "list", cwd=tmp_path)
    ours = listed.partition(str(environment))[2]
    assert f"ipyasyncresult v{ipyasyncresult.__version__} \x1b[32menabled" in ours
    pip = (sys.executable, "-m", "pip", "--python", python)
    run(*pip, "uninstall", "--quiet", "--yes", "ipyasyncresult", cwd=tmp_path)
    assert not (environment / "etc" / "jupyter" / ENABLES).exists()
    assert not (environment / LAB / "static").exists()


def test_the_wheel_starts_engines_and_brings_command_and_plugin(
    installed: Path, tmp_path: Path
) -> None:
    python = installed / "bin" / "python"
    program = (
        "import ipyasyncresult as ipar\n"
        "with ipar.Cluster(n=1) as client:\n"
        "    home = client[0].apply_sync(lambda: __import__('ipyasyncresult').__file__)\n"
        "    print(home, client[:].map_sync(abs, [-1, -2]))"
    )
    file, _, values = run(python, "-c", program, cwd=tmp_path).strip().partition(" ")
    assert Path(file).is_relative_to(installed)
    assert values == "[1, 2]"

    command = python.with_name("ipyasyncresult")
    assert run(command, "--version", cwd=tmp_path).strip() == ipyasyncresult.__version__
    helped = run(python, "-m", "pytest", "--help", cwd=tmp_path)
    assert "ipyasyncresult_engines" in helped


def test_a_program_that_uses_the_wheel_is_checked_strictly(installed: Path) -> None:
    python = installed / "bin" / "python"
    sample = REPOSITORY / "tests" / "typing" / "sample.py"
    # Not from this checkout, whose settings and sources are not the user's.
    cache = f"--cache-dir={REPOSITORY / '.mypy_cache' / 'sample'}"
    mypy = (sys.executable, "-m", "mypy", "--strict", "--config-file=", cache)
    run(*mypy, f"--python-executable={python}", sample, cwd=installed)


# --------------------------------------------------------------------------- supported versions

UNTRIED = {"docs", "dev"}
"""Extras of which nobody needs the oldest versions."""


def project() -> dict[str, Any]:
    """What pyproject.toml says of the project."""
    found: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    return found


def test_the_oldest_versions_are_those_that_the_project_admits() -> None:
    lines = (REPOSITORY / "constraints" / "oldest.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    extras = project()["optional-dependencies"]
    asked = {
        requirement
        for name, extra in extras.items()
        if name not in UNTRIED
        for requirement in extra
    }
    for requirement in {*project()["dependencies"], *asked}:
        name, _, oldest = requirement.partition(">=")
        if oldest:  # the others are the package's own extras
            pin = pinned.pop(name)
            assert (pin + ".0").startswith(oldest + "."), f"{requirement}, but oldest is {pin}"
    assert pinned == {}, "pinned, but no dependency"


def test_the_classifiers_are_the_pythons_of_the_matrix_that_ran() -> None:
    classifiers = " ".join(project()["classifiers"])
    claimed = re.findall(r"Python :: (3\.\d+)", classifiers)
    matrix = (REPOSITORY / "noxfile.py").read_text()
    assert claimed
    assert all(f'"{version}"' in matrix for version in claimed)
    assert f">={claimed[0]}" == project()["requires-python"]


def package_files() -> set[str]:
    """What must be in the sdist and, exactly, in the wheel."""
    return {
        path.relative_to(REPOSITORY).as_posix()
        for path in (REPOSITORY / "ipyasyncresult").rglob("*")
        if path.suffix in {".py", ".js", ".css", ".html"} or path.name == "py.typed"
    }


def run(*command: str | Path, cwd: Path) -> str:
    """What the command prints; when it fails, so does the test, with all that it said."""
    ended = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout or ended.stderr  # JupyterLab logs its lists
