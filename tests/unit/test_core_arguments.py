"""What callers may give."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from ipyasyncresult.core.arguments import (
    check_bytes,
    check_count,
    check_label,
    integer_of,
    is_number,
)

WHOLE = [0, 7, -3, np.int64(5), np.uint8(200)]
NOT_WHOLE = [True, np.True_, 1.0, np.float64(2), "1", None, [1], np.array([1, 2])]


@pytest.mark.parametrize("given", WHOLE)
def test_whole_numbers_become_ints(given: Any) -> None:
    assert type(integer_of(given)) is int
    assert integer_of(given) == given


@pytest.mark.parametrize("given", NOT_WHOLE)
def test_nothing_else_is_a_whole_number(given: Any) -> None:
    assert integer_of(given) is None
    with pytest.raises(
        TypeError, match=f"most must be a number of bytes >= 1, not {type(given).__name__}"
    ):
        check_count(given, "most", what="a number of bytes")


def test_a_count_has_bounds() -> None:
    assert check_count(np.int64(0), "most", 0) == 0
    for given in (0, -1, 2**63):
        with pytest.raises(ValueError, match=f"most must be an integer >= 1, not {given}"):
            check_count(given, "most")


def test_numbers_are_real_and_no_booleans() -> None:
    assert all(is_number(given) for given in (0, 1.5, np.float32(1), np.int8(1), Fraction(1, 2)))
    assert not any(is_number(given) for given in (True, np.True_, "1", None, 1j, [1]))


def test_labels_are_text() -> None:
    assert [check_label(given) for given in (None, "", "ü")] == [None, "", "ü"]
    assert type(check_label(np.str_("a"))) is str
    with pytest.raises(TypeError, match="label must be a string or None, not int 3"):
        check_label(3)
    with pytest.raises(ValueError, match="label must be text that UTF-8 can encode"):
        check_label("half \ud83d")


def test_bytes_may_be_written_as_powers() -> None:
    assert check_bytes(2e9, "keep_bytes") == 2_000_000_000
    assert type(check_bytes(2e9, "keep_bytes")) is int
    for given in (1.5, float("nan"), float("inf"), "2e9"):
        with pytest.raises(TypeError, match="keep_bytes must be a number of bytes >= 0, not"):
            check_bytes(given, "keep_bytes")
