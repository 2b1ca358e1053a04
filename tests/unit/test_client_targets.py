"""What may stand for engines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ipyasyncresult.client.targets import resolve_targets

IDS = [0, 1, 3]  # engine 2 has gone for good


@pytest.mark.parametrize(
    ("targets", "chosen"),
    [
        (None, [0, 1, 3]),
        ("all", [0, 1, 3]),
        (slice(None), [0, 1, 3]),
        (slice(1, None), [1, 3]),
        (slice(None, None, -1), [3, 1, 0]),
        (0, [0]),
        (3, [3]),
        (-1, [3]),
        (-3, [0]),
        ([3, 0], [3, 0]),
        ((1, -1), [1, 3]),
        (range(2), [0, 1]),
        ({1}, [1]),
        (np.int64(-1), [3]),
        (np.array([3, 0]), [3, 0]),
        ([np.int64(1)], [1]),
    ],
)
def test_engines_are_given_by_number_slice_list_or_all(targets: Any, chosen: list[int]) -> None:
    assert resolve_targets(targets, IDS) == chosen


@pytest.mark.parametrize(
    ("targets", "error", "message"),
    [
        (99, IndexError, r"no engine 99; there are \[0, 1, 3\]"),
        (2, IndexError, r"no engine 2; there are"),
        ([0, 7], IndexError, r"no engine 7; there are"),
        (-4, IndexError, r"no engine -4: there are 3"),
        ("x", TypeError, r"targets must be an engine id, a slice, .*, not str 'x'"),
        ("0", TypeError, r"not str '0'"),
        (1.0, TypeError, r"not float 1.0"),
        ({0: 1}, TypeError, r"not dict"),
        (True, TypeError, r"targets must be an engine id, a slice, a list .* not bool True"),
        ([True], TypeError, r"an engine id must be an integer, not bool True"),
        ([0, "1"], TypeError, r"an engine id must be an integer, not str '1'"),
        ([0, False], TypeError, r"not bool False"),
        ([1, 1], ValueError, r"targets name an engine twice: \[1, 1\]"),
        ([3, -1], ValueError, r"targets name an engine twice: \[3, -1\]"),
        ([], ValueError, r"targets must name at least one engine"),
    ],
)
def test_anything_else_is_refused_with_what_there_is(
    targets: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        resolve_targets(targets, IDS)


@pytest.mark.parametrize("targets", [0, -1, [0]])
def test_without_engines_no_number_is_right(targets: Any) -> None:
    with pytest.raises(IndexError):
        resolve_targets(targets, [])
    assert resolve_targets("all", []) == []
