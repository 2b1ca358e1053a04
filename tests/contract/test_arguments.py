"""Anything is given for every argument of every method, over all backends.

What cannot be is refused at once, by an error that was written for it.  Nothing waits for ever, and
afterwards everything works as before.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import ipyasyncresult as ipar
from ipyasyncresult.errors import IpyAsyncResultError
from tests.contract.conftest import BACKENDS, param

if TYPE_CHECKING:
    from tests.contract.conftest import Backend

pytestmark = pytest.mark.timeout(180)

SOON = 30.0
"""Seconds after which waiting is given up."""

JUNK = [None, -1, 1.5, float("nan"), "x", "\udc80", object(), [object()], np.int64(1), 2**70]

GOOD: dict[str, Any] = {"f": abs, "code": "1", "ns": {"a": 1}, "names": "__name__", "seq": [1]}
"""For arguments that are needed where another one is tried; for all others: an empty string."""

OTHERS = {
    # the end of it
    *("close", "shutdown", "stop", "send_signal"),
    # needs IPython, and what is for one
    *("activate", "bind_kernel"),
    # asked by other parts of this package, not by users
    *("become_dask", "failures_in", "fetch_records", "new_msg_id", "over", "over_map"),
    *("reduce_result", "resubmit_records", "submit", "submit_one"),
}

PYTHONS = (
    *("object is not", "has no attribute", "object cannot be", "unhashable", "unsupported"),
    *("argument of type", "not supported between", "not subscriptable"),
)
"""What Python says by itself: of no use to who gave the argument."""

HELPFUL = (IpyAsyncResultError, TypeError, ValueError, LookupError, AttributeError, OSError)

Call = tuple[str, Callable[[], Any]]


def calls_of(thing: Any) -> Iterator[Call]:
    """Every method with every argument being anything."""
    for name, function in inspect.getmembers(type(thing), inspect.isfunction):
        if name.startswith("_") or name in OTHERS:
            continue
        needed = [*inspect.signature(function).parameters.values()][1:]
        for tried in needed:
            if tried.kind is not tried.VAR_KEYWORD:
                for given in JUNK:
                    call = prepared(getattr(thing, name), needed, tried, given)
                    yield f"{name}({tried.name}={given!r})", call


def prepared(
    method: Callable[..., Any],
    parameters: list[inspect.Parameter],
    tried: inspect.Parameter,
    given: Any,
) -> Callable[[], Any]:
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for one in parameters:
        is_open = one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
        if one is not tried and (is_open or one.default is not one.empty):
            continue
        value = given if one is tried else GOOD.get(one.name, "")
        if one.kind in (one.POSITIONAL_ONLY, one.VAR_POSITIONAL):
            positional.append(value)
        else:
            named[one.name] = value
    return lambda: method(*positional, **named)


def complaints(thing: Any) -> list[str]:
    """Errors that do not help."""
    found = []
    for told, call in calls_of(thing):
        try:
            answer = call()
            if isinstance(answer, ipar.AsyncResult) and answer is not thing:
                answer.get(SOON)
        except (ipar.RemoteError, ipar.CompositeError):
            pass  # of the function that was called, where it ran
        except HELPFUL as error:
            if any(words in str(error) for words in PYTHONS):
                found.append(f"{told}: {error!r}")
        except BaseException as error:
            found.append(f"{told}: {error!r}")
    return found


@pytest.mark.parametrize(
    "make_backend", [param(name) for name in sorted(BACKENDS) if name != "least"], indirect=True
)
def test_a_client_takes_it_or_says_what_is_wrong(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert complaints(backend.client) == []
    assert backend.call(abs, -1).get(SOON) == 1
    assert backend.map(abs, range(-3, 0)).get(SOON) == [3, 2, 1]


@pytest.mark.parametrize("make_backend", ["own"], indirect=True)  # it is the same code over others
@pytest.mark.parametrize("kind", ["load-balanced", "direct", "result", "map"])
def test_so_do_views_and_results(
    backend: Backend,
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    make: dict[str, Callable[[], Any]] = {
        "load-balanced": backend.client.load_balanced_view,
        "direct": lambda: backend.client[:],
        "result": lambda: backend.call(abs, -1),
        "map": lambda: backend.map(abs, range(-3, 0)),
    }
    thing = make[kind]()
    if isinstance(thing, ipar.AsyncResult):
        thing.wait(SOON)
    assert complaints(thing) == []
    assert backend.call(abs, -1).get(SOON) == 1
