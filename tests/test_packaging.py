"""The sdist builds a wheel, and the wheel works where nothing of the checkout is."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import ipyasyncresult

REPOSITORY = Path(__file__).parents[1]
DATA = f"ipyasyncresult-{ipyasyncresult.__version__}.data/data/"
ENABLES = "jupyter_server_config.d/ipyasyncresult.json"
"""Tells Jupyter's server of the page and its routes."""

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
    assert f"jupyter-config/{ENABLES}" in names


def test_the_wheel_holds_the_package_its_types_and_its_licence(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as archive:
        names = set(archive.namelist())
    info = f"ipyasyncresult-{ipyasyncresult.__version__}.dist-info"
    code = {name for name in names if not name.startswith((info, DATA))}
    assert code == package_files()
    assert "ipyasyncresult/py.typed" in names
    assert f"{info}/licenses/LICENSE" in names


def installed(built: Path, folder: Path) -> Path:
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


def test_the_wheel_works_in_an_environment_of_its_own(built: Path, tmp_path: Path) -> None:
    environment = installed(built, tmp_path)
    python = environment / "bin" / "python"

    program = (
        "import ipyasyncresult\n"
        "for name in ipyasyncresult.__all__: getattr(ipyasyncresult, name)\n"
        "print(ipyasyncresult.__version__, ipyasyncresult.__file__)"
    )
    version, file = run(python, "-c", program, cwd=tmp_path).split()
    assert version == ipyasyncresult.__version__
    assert Path(file).is_relative_to(environment)


def test_jupyters_server_finds_the_page_after_a_plain_install(built: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as archive:
        assert f"{DATA}etc/jupyter/{ENABLES}" in archive.namelist()
    environment = installed(built, tmp_path)
    python = environment / "bin" / "python"
    listed = run(python, "-m", "jupyter_server.extension.serverextension", "list", cwd=tmp_path)
    ours = listed.partition(str(environment))[2]
    assert "ipyasyncresult \x1b[32menabled" in ours
    assert f"ipyasyncresult {ipyasyncresult.__version__} \x1b[32mOK" in ours
    pip = (sys.executable, "-m", "pip", "--python", python)
    run(*pip, "uninstall", "--quiet", "--yes", "ipyasyncresult", cwd=tmp_path)
    assert not (environment / "etc" / "jupyter" / ENABLES).exists()


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
    return ended.stdout
