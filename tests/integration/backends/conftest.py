"""What the tests of single backends share."""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle
import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from ipyasyncresult import AsyncResult
from tests.conftest import forget_shell

SOON = 30.0
"""Seconds after which waiting is given up."""


@pytest.fixture(scope="module", autouse=True)
def _test_code_travels_by_value(request: pytest.FixtureRequest) -> Iterator[None]:
    modules = [request.module, *(m for m in sys.modules.values() if hasattr(m, "NewGate"))]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    yield
    for module in modules:
        cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture
def until() -> Callable[[AsyncResult, Callable[[], object]], None]:
    """Wait until something is true of a result."""

    def wait(result: AsyncResult, condition: Callable[[], object]) -> None:
        seen = threading.Event()
        stop = result.follow(lambda _: seen.set() if condition() else None)
        if condition():
            seen.set()
        assert seen.wait(SOON), f"it did not come to that: {result!r}"
        stop()

    return wait


@pytest.fixture
def run_cell() -> Iterator[Callable[[str], Any]]:
    """Run a cell in a shell with our magics: its value, or its error is raised."""
    config = Config({"HistoryManager": {"enabled": False}})
    shell = InteractiveShell.instance(user_module=types.ModuleType("user"), config=config)
    shell.colors = "nocolor"
    shell.run_line_magic("load_ext", "ipyasyncresult")

    def run(cell: str) -> Any:
        outcome = shell.run_cell(cell)
        outcome.raise_error()
        return outcome.result

    yield run
    shell.run_line_magic("unload_ext", "ipyasyncresult")
    InteractiveShell.clear_instance()
    forget_shell(shell)
