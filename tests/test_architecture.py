"""The house rules that a tool can check: layers, public names, sizes, nothing of anybody's machine.

``print`` in the package and ``time.sleep`` in tests are ruff's to find (``T20``, ``TID251``).
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ipyasyncresult

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "ipyasyncresult"
MODULES = sorted(PACKAGE.rglob("*.py"))

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

MODULE_LINES, CLASS_LINES, FUNCTION_LINES = 500, 250, 50
"""The budgets.  Docstrings count for modules only: a class may be explained at length."""

OVER_BUDGET: dict[str, str] = {}
"""What may be larger, by file and name (``core/ledger.py::Ledger``), each with its reason."""

PUBLIC_NAMES: list[str] = [
    "AsyncHubResult",
    "AsyncMapResult",
    "AsyncResult",
    "Client",
    "Cluster",
    "CompositeError",
    "DirectView",
    "EngineError",
    "EngineExecutor",
    "LoadBalancedView",
    "Reference",
    "RemoteError",
    "ResultNotReady",
    "TaskAborted",
    "TaskTimeout",
    "TimeoutError",
    "__version__",
    "check_ready",
    "connect",
    "load_ipython_extension",
    "register_joblib_backend",
    "require",
    "track",
    "unload_ipython_extension",
]
"""What ``ipyasyncresult`` exports; a new name is public API and belongs into docs and changelog."""


def relative(module: Path) -> str:
    return module.relative_to(PACKAGE).as_posix()


def test_modules_import_from_their_own_layer_or_below() -> None:
    lint = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    checked = subprocess.run(lint, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_package_exports_the_documented_names() -> None:
    assert sorted(ipyasyncresult.__all__) == sorted(PUBLIC_NAMES)
    for name in PUBLIC_NAMES:
        assert getattr(ipyasyncresult, name) is not None
    assert set(PUBLIC_NAMES) <= set(dir(ipyasyncresult))


@pytest.mark.parametrize("module", MODULES, ids=relative)
def test_a_module_says_what_it_offers(module: Path) -> None:
    """``__all__`` in every module that has something to import."""
    tree = ast.parse(module.read_bytes())
    offers = [node for node in tree.body if not is_docstring(node)]
    if offers and module.name != "__main__.py":
        names = {name for node in offers for name in assigned(node)}
        assert "__all__" in names, f"{relative(module)} has no __all__"


@pytest.mark.parametrize("module", MODULES, ids=relative)
def test_sizes_are_within_budget(module: Path) -> None:
    assert list(too_large(module)) == []


def test_every_exception_to_the_budgets_is_still_needed() -> None:
    found = {name for module in MODULES for name, _ in sizes_over_budget(module)}
    assert set(OVER_BUDGET) <= found


# The first two: folders of a person's or a build machine's own.  The others: where a lock file or a
# page says which registry it was made with.
FOREIGN = re.compile(
    r"(?<![\w.$~-])/(?:[w]ork|[r]oot|[h]ome/\w+|[U]sers/\w+)/"
    r"|[f]iles\.pythonhosted\.org|[p]ypi\.org/simple|[r]egistry\.npmjs"
    r"|/packages/[0-9a-f]{2}/[0-9a-f]{2}/"
    r'|"[r]esolved": *"http'
)


def test_tracked_files_name_nobodys_machine_and_no_registry() -> None:
    git = shutil.which("git")
    if git is None or not (REPOSITORY / ".git").exists():
        pytest.skip("not in a git checkout: nothing is tracked")
    listed = [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listed, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    found = [
        f"{name}:{number}: {line.strip()[:120]}"
        for name in filter(None, files.stdout.split("\0"))
        for number, line in enumerate(text_lines(REPOSITORY / name), start=1)
        if FOREIGN.search(line)
    ]
    assert found == []


# ----------------------------------------------------------------------------------- measuring


def too_large(module: Path) -> Iterator[str]:
    for name, finding in sizes_over_budget(module):
        if name not in OVER_BUDGET:
            yield finding


def sizes_over_budget(module: Path) -> Iterator[tuple[str, str]]:
    source = module.read_text()
    name = relative(module)
    lines = source.count("\n")
    if lines > MODULE_LINES:
        yield name, f"{name}: {lines} lines, at most {MODULE_LINES}"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Definition):
            budget = CLASS_LINES if isinstance(node, ast.ClassDef) else FUNCTION_LINES
            size = lines_of(node) - sum(
                lines_of(inner.body[0])
                for inner in ast.walk(node)
                if isinstance(inner, Definition) and is_docstring(inner.body[0])
            )
            if size > budget:
                key = f"{name}::{node.name}"
                yield key, f"{key}: {size} lines without docstrings, at most {budget}"


def lines_of(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def is_docstring(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def assigned(node: ast.stmt) -> Iterator[str]:
    """The names that a module-level assignment gives."""
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign | ast.AugAssign):
        targets = [node.target]
    else:
        targets = []
    for target in targets:
        if isinstance(target, ast.Name):
            yield target.id


def text_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
        return []  # a picture, or deleted in the work tree
