"""What callers may give: whole numbers and seconds, numpy's included, and text that can travel.

Each check gives the value as it is kept, of Python's own type, or an error that names the argument,
what was given and what is allowed.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from numbers import Real
from typing import Any, TypeGuard

__all__ = [
    "check_bytes",
    "check_callable",
    "check_count",
    "check_label",
    "check_names",
    "check_number",
    "integer_of",
    "is_number",
]

_MOST = 2**63 - 1
"""More does not travel."""


def integer_of(value: object) -> int | None:
    """The value as an int; None for what is no whole number (booleans, strings, 1.0)."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a real number; booleans are none."""
    return isinstance(value, int | float | Real) and not isinstance(value, bool)


def check_count(value: Any, name: str, least: int = 1, *, what: str = "an integer") -> int:
    """A whole number of at least so many.

    Raises
    ------
    TypeError
        For what is no whole number.
    ValueError
        For one that is too small, or has more than 63 bits.
    """
    number = integer_of(value)
    if number is None:
        raise TypeError(f"{name} must be {what} >= {least}, not {type(value).__name__} {value!r}")
    if not least <= number <= _MOST:
        raise ValueError(f"{name} must be {what} >= {least}, not {number}")
    return number


def check_bytes(value: Any, name: str, least: int = 0) -> int:
    """A number of bytes; ``2e9`` is one, too.  Errors as of :func:`check_count`."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return check_count(value, name, least, what="a number of bytes")


def check_callable(value: object, name: str) -> None:
    """TypeError for what cannot be called: there, not where it is called one day."""
    if not callable(value):
        raise TypeError(f"{name} must be callable, not {type(value).__name__} {value!r}")


def check_number(value: Any, name: str, least: float | None = None) -> float:
    """A real number, as it is; of at least so much.

    Raises
    ------
    TypeError
        For what is no number.
    ValueError
        For one that is too small, and for nan where there is a `least`.
    """
    if not is_number(value):
        raise TypeError(f"{name} must be a number, not {type(value).__name__} {value!r}")
    if least is not None and not value >= least:
        raise ValueError(f"{name} must be a number >= {least:g}, not {value!r}")
    return value


def check_names(value: Any, name: str, *, what: str = "a string or a list of strings") -> list[str]:
    """Strings, or one.

    Raises
    ------
    TypeError
        When one of them is none.
    """
    several = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    for one in several:
        if not isinstance(one, str):
            kind = type(one).__name__
            raise TypeError(f"{name} must be {what}, not {kind} {one!r}")
    return several


def check_label(label: Any) -> str | None:
    """A label for tasks, or None.

    Raises
    ------
    TypeError
        For what is no string.
    ValueError
        For a string that cannot be encoded: it has half a surrogate pair.
    """
    if label is None:
        return None
    if not isinstance(label, str):
        raise TypeError(f"label must be a string or None, not {type(label).__name__} {label!r}")
    try:
        label.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"label must be text that UTF-8 can encode: {error}") from None
    return str(label)
