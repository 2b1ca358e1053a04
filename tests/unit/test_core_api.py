"""Names, signatures, defaults and properties of ``IPython.parallel.client.asyncresult``."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import ipyasyncresult
from ipyasyncresult import AsyncHubResult, AsyncMapResult, AsyncResult, check_ready
from ipyasyncresult.core.clientprotocol import ClientProtocol
from ipyasyncresult.testing import FakeClient, ManualClock

CONSTRUCTORS: dict[type[AsyncResult], str] = {
    AsyncResult: "client, msg_ids, fname='unknown', targets=None, tracker=None",
    AsyncMapResult: "client, msg_ids, mapObject, fname='', ordered=True",
    AsyncHubResult: "client, msg_ids, fname='unknown', targets=None, tracker=None",
}

METHODS = [
    "abort()",
    "display_outputs(groupby='type')",
    "get(timeout=-1)",
    "get_dict(timeout=-1)",
    "ready()",
    "successful()",
    "timedelta(start, end, start_key=min, end_key=max)",
    "wait(timeout=-1)",
    "wait_for_send(timeout=-1)",
    "wait_interactive(interval=1.0, timeout=None)",
]

PROPERTIES = [
    "elapsed",
    "metadata",
    "progress",
    "r",
    "result",
    "result_dict",
    "sent",
    "serial_time",
    "wall_time",
    "msg_ids",
]


def parameters(signature: str) -> list[inspect.Parameter]:
    return list(inspect.signature(eval(f"lambda {signature}: None")).parameters.values())


def assert_callable_as(function: Any, reference: str) -> None:
    """The reference's parameters come first, by name, order and default; more are by keyword."""
    ours = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in inspect.signature(function).parameters.values()
    ]
    if ours and ours[0].name == "self":
        del ours[0]
    theirs = parameters(reference)
    assert ours[: len(theirs)] == theirs
    for further in ours[len(theirs) :]:
        assert further.kind is inspect.Parameter.KEYWORD_ONLY
        assert further.default is not inspect.Parameter.empty


@pytest.mark.parametrize("kind", CONSTRUCTORS)
def test_a_result_is_made_as_in_the_reference(kind: type[AsyncResult]) -> None:
    assert_callable_as(kind.__init__, CONSTRUCTORS[kind])


@pytest.mark.parametrize("line", METHODS, ids=str.strip)
def test_a_method_is_called_as_in_the_reference(line: str) -> None:
    name, _, rest = line.strip().partition("(")
    for kind in CONSTRUCTORS:
        method = getattr(kind, name)
        assert_callable_as(method, rest.removesuffix(")"))
        assert inspect.getdoc(method)


@pytest.mark.parametrize("name", PROPERTIES)
def test_a_property_is_one_as_in_the_reference(name: str) -> None:
    for kind in CONSTRUCTORS:
        assert isinstance(inspect.getattr_static(kind, name), property)


def test_check_ready_is_a_decorator_of_methods() -> None:
    assert_callable_as(check_ready, "f")
    assert check_ready(AsyncResult.get).__name__ == "get"


def test_a_map_result_and_a_hub_result_are_results() -> None:
    assert issubclass(AsyncMapResult, AsyncResult)
    assert issubclass(AsyncHubResult, AsyncResult)


@pytest.mark.parametrize("name", ["AsyncResult", "AsyncMapResult", "AsyncHubResult", "check_ready"])
def test_the_package_offers_it_by_its_own_name(name: str) -> None:
    assert name in ipyasyncresult.__all__
    assert getattr(ipyasyncresult, name).__name__ == name


def test_results_are_made_by_the_constructors_of_the_reference_over_outstanding_ids() -> None:
    client = FakeClient()
    ids = client.submit("f", 2).msg_ids
    several = AsyncResult(client, ids, fname="f")
    single = AsyncResult(client, ids[0], "f", 0)
    mapped = AsyncMapResult(client, ids, ipyasyncresult.core.partition.Map(), "f", False)
    hub = AsyncHubResult(client, ids, "f", targets=[0, 1])
    for msg_id in ids:
        client.finish(msg_id, [msg_id])
    assert several.get() == [[ids[0]], [ids[1]]] == hub.get()
    assert single.get() == [ids[0]]
    assert mapped.get() == ids
    assert (single.targets, hub.targets, several.targets) == (0, [0, 1], None)


def test_an_id_that_is_not_outstanding_is_refused_and_says_who_finds_it() -> None:
    client = FakeClient()
    ended = client.submit("f").msg_ids[0]
    client.finish(ended)
    for msg_id in (ended, "nobody"):
        with pytest.raises(KeyError, match=r"client\.get_result\(msg_ids\) finds") as caught:
            AsyncResult(client, msg_id)
        assert isinstance(caught.value, ipyasyncresult.errors.UnknownTaskError)


def test_the_fake_client_is_a_client() -> None:
    client: ClientProtocol = FakeClient(engines=3)
    assert client.engine_count() == 3


def test_the_manual_clock_goes_forward_only_and_only_when_wound() -> None:
    clock = ManualClock(100.0)
    assert [clock(), clock()] == [100.0, 100.0]
    clock.advance(2.5)
    assert clock() == 102.5
    for wrong in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="seconds must be >= 0"):
            clock.advance(wrong)
