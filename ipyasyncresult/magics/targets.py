"""What is given to ``-t``: engines, read without ``eval``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from IPython.core.error import UsageError

from ipyasyncresult.client.targets import Targets

__all__ = ["format_targets", "parse_targets"]

_NUMBER = r"[+-]?\d+"
_ONE = re.compile(_NUMBER)
_SLICE = re.compile(rf"({_NUMBER})?:({_NUMBER})?(?::({_NUMBER})?)?")
_LIST = re.compile(rf"{_NUMBER}(?:,{_NUMBER})*,?")


def parse_targets(text: str, namespace: Mapping[str, Any]) -> Targets:
    """``0``, ``-1``, ``0,2``, ``[0, 2]``, ``0:3``, ``::2``, ``all``, or a variable that holds such.

    Raises
    ------
    UsageError
        For anything else.
    """
    bare = "".join(text.split())
    bracketed = bare[:1] == "[" and bare[-1:] == "]"
    inner = bare[1:-1] if bracketed else bare
    if bare == "all":
        return "all"
    if found := _SLICE.fullmatch(inner):
        return slice(*(int(part) if part else None for part in found.groups()))
    if _ONE.fullmatch(inner) and not bracketed:
        return int(inner)
    if _LIST.fullmatch(inner):
        return [int(part) for part in inner.split(",") if part]
    if bare.isidentifier():
        return _from_variable(bare, namespace)
    raise UsageError(
        f"-t/--targets must be an engine (0), several (0,2), a slice (0:3, ::2), all, "
        f"or a variable that holds one of these, not {text.strip()!r}"
    )


def _from_variable(name: str, namespace: Mapping[str, Any]) -> Targets:
    if name not in namespace:
        raise UsageError(f"-t/--targets: there is no variable {name!r}, and it is no engine either")
    value = namespace[name]
    if isinstance(value, tuple | range):
        value = list(value)
    if isinstance(value, bool) or not isinstance(value, int | slice | list):
        raise UsageError(
            f"-t/--targets: the variable {name!r} must hold an engine id, a list of them or a "
            f"slice, not {type(value).__name__}"
        )
    return value


def format_targets(targets: Targets) -> str:
    """The text for ``-t`` that means these engines."""
    if isinstance(targets, slice):
        parts = (targets.start, targets.stop, targets.step)
        text = ":".join("" if part is None else str(part) for part in parts)
        return text[:-1] if targets.step is None else text
    if isinstance(targets, list):
        return "[" + ",".join(map(str, targets)) + "]"
    return str(targets)
