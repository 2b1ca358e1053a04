"""How a sequence is dealt out to engines or chunks, and put together again."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import chain, islice
from typing import Any

from ipyasyncresult.core.arguments import check_count

__all__ = [
    "DISTRIBUTIONS",
    "ChunkResult",
    "Map",
    "RoundRobinMap",
    "check_chunksize",
    "partition_of",
]


class ChunkResult:
    """What the items of a chunk gave.

    Attributes
    ----------
    values : list
        One per item, in order; None where it failed.
    failures : dict
        Encoded :class:`~ipyasyncresult.core.failure.Failure` by position in the chunk; of tasks of
        this very process, :class:`~ipyasyncresult.core.failure.Raised`.
    """

    __slots__ = ("failures", "values")

    def __init__(self, values: list[Any], failures: dict[int, Any]) -> None:
        self.values: list[Any] = values
        self.failures: dict[int, Any] = failures

    def __reduce__(self) -> tuple[Any, ...]:
        return ChunkResult, (self.values, self.failures)


class Map:
    """Blocks: each part is a run of neighbours."""

    name = "b"

    def getPartition(self, seq: Sequence[Any], p: int, q: int, n: int | None = None) -> Any:
        """Part `p` of `q` of the sequence, whose length may be given as `n`.

        Parts differ in length by one at most.  Slices of arrays stay views.
        """
        size = len(seq) if n is None else n
        if not 0 <= p < q:
            raise ValueError(f"p must be 0 .. {q - 1} for q={q} parts, not {p}")
        base, extra = divmod(size, q)
        start = p * base + min(p, extra)
        stop = start + base + (p < extra)
        try:
            return seq[start:stop]
        except TypeError:  # a set, a dict view: no slices
            return list(islice(iter(seq), start, stop))

    def joinPartitions(self, parts: Sequence[Any]) -> Any:
        """The sequence again: arrays are concatenated, everything else becomes a list."""
        return self._join_arrays(parts) if _is_array(parts) else list(chain.from_iterable(parts))

    def _join_arrays(self, parts: Sequence[Any]) -> Any:
        return sys.modules["numpy"].concatenate(parts)


class RoundRobinMap(Map):
    """Cards: part p of q is every q-th item, starting with the p-th."""

    name = "r"

    def getPartition(self, seq: Sequence[Any], p: int, q: int, n: int | None = None) -> Any:
        size = len(seq) if n is None else n
        if not 0 <= p < q:
            raise ValueError(f"p must be 0 .. {q - 1} for q={q} parts, not {p}")
        try:
            return seq[p:size:q]
        except TypeError:
            return list(islice(iter(seq), p, size, q))

    def joinPartitions(self, parts: Sequence[Any]) -> Any:
        if _is_array(parts):
            joined = self._join_arrays(parts)
            whole = joined.copy()
            start = 0
            for p, part in enumerate(parts):
                whole[p :: len(parts)] = joined[start : start + len(part)]
                start += len(part)
            return whole
        joined = []
        longest = max((len(part) for part in parts), default=0)
        for index in range(longest):
            joined += [part[index] for part in parts if index < len(part)]
        return joined


DISTRIBUTIONS: dict[str, type[Map]] = {"b": Map, "r": RoundRobinMap}
"""What ``dist=`` may be: blocks or round robin."""


def partition_of(dist: Any) -> Map:
    """How ``dist=`` deals out.

    Raises
    ------
    ValueError
        When it is none of the two.
    """
    if not isinstance(dist, str) or dist not in DISTRIBUTIONS:
        raise ValueError(f"dist must be one of {sorted(DISTRIBUTIONS)}, not {dist!r}")
    return DISTRIBUTIONS[dist]()


def _is_array(parts: Sequence[Any]) -> bool:
    # numpy is never imported here: when a part is an array, it is loaded already.
    numpy = sys.modules.get("numpy")
    if numpy is None or len(parts) == 0:
        return False
    return all(isinstance(part, numpy.ndarray) for part in parts)  # a failed part is a list


def check_chunksize(chunksize: int | None) -> int | None:
    """The size of a chunk; None: to be chosen.  Errors as of :func:`check_count`."""
    if chunksize is None:
        return None
    return check_count(chunksize, "chunksize", what="None (to have it chosen) or an integer")
