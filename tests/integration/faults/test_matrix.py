"""The table of faults is whole, its tests exist, and its page is up to date."""

from __future__ import annotations

import ast
import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

TESTS = Path(__file__).parents[2]


def load_matrix() -> ModuleType:
    path = Path(__file__).with_name("matrix.py")
    spec = importlib.util.spec_from_file_location("fault_matrix", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


matrix = load_matrix()


@cache
def functions_of(path: Path) -> dict[str, list[str]]:
    """The test functions of a file, each with its decorators as text."""
    tree = ast.parse(path.read_text())
    return {
        node.name: [ast.unparse(one) for one in node.decorator_list]
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_there_are_75_rows_each_once() -> None:
    assert [row.number for row in matrix.rows()] == list(range(1, 76))


@pytest.mark.parametrize("row", list(matrix.rows()), ids=lambda row: f"{row.number}")
def test_a_row_is_shown_by_tests_that_exist_and_are_run(row: object) -> None:
    assert isinstance(row, matrix.Row)
    not_yet = row.here.startswith(matrix.NOT_YET)
    assert bool(row.tests) != not_yet
    for named in row.tests:
        file, _, name = named.partition("::")
        found = functions_of(TESTS / file)
        assert name in found, f"{named} does not exist"
        assert not [mark for mark in found[name] if "skip" in mark or "xfail" in mark]


def test_the_page_is_up_to_date() -> None:
    assert matrix.PAGE.read_text() == matrix.page(), (
        "run: python tests/integration/faults/matrix.py"
    )
