"""``docs/compatibility.md`` is true of both packages and gives a reason for each gap."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("ipyparallel", reason="compares with ipyparallel: the 'docs' extra")

TOOL = Path(__file__).parents[2] / "docs" / "tools" / "compatibility.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compatibility", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date_and_every_missing_name_has_its_reason(tool: ModuleType) -> None:
    assert list(tool.problems()) == [], "make compatibility writes it anew"


def test_what_is_not_here_cannot_hide(tool: ModuleType) -> None:
    made = tool.compare({})
    assert "package.not.ClusterManager" in made.unexplained
    assert "magics.not.%result" in made.unexplained


def test_a_reason_for_what_is_here_is_out_of_date(tool: ModuleType) -> None:
    made = tool.compare({"Client": {"not": {"ids": "no engines"}, "differs": {"nonsense": "?"}}})
    assert made.stale == ["Client.not.ids", "Client.differs.nonsense"]


def test_signatures_are_compared(tool: ModuleType) -> None:
    def theirs(a: int, b: int = 1, owner: bool = True) -> None: ...
    def ours(a: int, *, b: int = 1) -> None: ...

    assert list(tool.differences(theirs, ours)) == ["`b` by keyword only", "no `owner`"]
