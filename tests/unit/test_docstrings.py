"""Public docstrings say what their signatures say: every parameter, and none that is gone."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ipyasyncresult
from ipyasyncresult.client.directview import DirectView
from ipyasyncresult.client.loadbalanced import LoadBalancedView

_SECTION = re.compile(r"^(\w+)\n-{3,}$", re.MULTILINE)

BETWEEN_PARTS = {
    "call_at_close",
    "failures_in",
    "fetch_records",
    "follow",
    "reduce_result",
    "resubmit_records",
    "submit",
    "submit_one",
}
"""Methods by which results, views and clients speak with each other, for nobody else."""


def public_things() -> Iterator[tuple[str, Any]]:
    """Functions, classes that are made by a call, and methods; by their full name."""
    kinds: list[type] = [DirectView, LoadBalancedView]
    for name in ipyasyncresult.__all__:
        found = getattr(ipyasyncresult, name)
        if inspect.isclass(found):
            kinds.append(found)
        elif inspect.isfunction(found):
            yield name, found
    seen: set[object] = set()
    for kind in kinds:
        if "__init__" in vars(kind):
            yield kind.__name__, kind
        for name, method in inspect.getmembers(kind, callable):
            own = inspect.unwrap(method) if not inspect.isclass(method) else method
            module = getattr(own, "__module__", None) or ""
            if name.startswith("_") or own in seen or not module.startswith("ipyasyncresult"):
                continue
            seen.add(own)
            is_between = name in BETWEEN_PARTS and kind is not ipyasyncresult.EngineExecutor
            if inspect.isfunction(own) and not is_between:
                yield f"{kind.__name__}.{name}", own


def names_in(text: str, section: str) -> list[str]:
    """The names of a section."""
    parts = _SECTION.split(text)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    heads = [
        line.partition(" : ")[0]
        for line in sections.get(section, "").splitlines()
        if line and not line.startswith(" ")
    ]
    return [name.strip().lstrip("*") for head in heads for name in head.split(",")]


@pytest.mark.parametrize(("name", "thing"), list(public_things()), ids=lambda one: str(one)[:60])
def test_a_docstring_has_every_parameter_and_none_that_is_gone(
    name: str, thing: Callable[..., Any]
) -> None:
    text = inspect.cleandoc(thing.__doc__ or "")
    assert text, f"{name} has no docstring"
    taken = inspect.signature(thing).parameters
    listed = names_in(text, "Parameters")
    if not any(one.kind is one.VAR_KEYWORD for one in taken.values()):
        assert set(listed) <= set(taken), f"{name} has no such parameters"
    # In a section of their own, or named in the sentence that says what happens, or an attribute.
    listed += names_in(text, "Attributes")
    quoted = " ".join(re.findall(r"`{1,2}([^`]+)`{1,2}", text))
    missing = [
        one.name
        for one in taken.values()
        if one.name not in ("self", *listed)
        and one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)
        and not re.search(rf"\b{one.name}\b", quoted)
    ]
    leads_on = re.search(r":meth:`", text.partition("\n")[0])  # to the one that has them
    assert leads_on or not missing, f"{name} does not say what {missing} are"
