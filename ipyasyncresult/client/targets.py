"""What may stand for engines: a number, a slice, a list of numbers, ``'all'``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ipyasyncresult.core.arguments import integer_of

__all__ = ["Targets", "is_one", "resolve_targets"]

Targets = int | slice | Collection[int] | str | None


def is_one(targets: Targets) -> bool:
    """Whether one engine is meant, not a list of engines that may have one."""
    return integer_of(targets) is not None


def resolve_targets(targets: Targets, ids: Sequence[int]) -> list[int]:
    """Engine ids for what the user gave.

    Negative numbers count from the end; a slice is taken over the sorted ids.

    Raises
    ------
    IndexError
        No such engine.
    TypeError
        Not a number, slice, list of numbers, ``'all'`` or None.
    ValueError
        An engine is named twice, or none at all.
    """
    if targets is None or (isinstance(targets, str) and targets == "all"):
        return list(ids)
    if isinstance(targets, slice):
        return list(ids)[targets]
    if is_one(targets):
        return [_one(targets, ids)]
    if isinstance(targets, str | bytes | Mapping) or not isinstance(targets, Collection):
        raise TypeError(
            "targets must be an engine id, a slice, a list of ids or 'all', "
            f"not {type(targets).__name__} {targets!r}"
        )
    wanted = list(targets)
    chosen = [_one(target, ids) for target in wanted]
    if len(set(chosen)) != len(chosen):
        raise ValueError(f"targets name an engine twice: {wanted}")
    if not chosen:
        raise ValueError("targets must name at least one engine, not []")
    return chosen


def _one(target: object, ids: Sequence[int]) -> int:
    number = integer_of(target)
    if number is None:
        raise TypeError(f"an engine id must be an integer, not {type(target).__name__} {target!r}")
    if number < 0:
        if -number > len(ids):
            raise IndexError(f"no engine {number}: there are {len(ids)}")
        return ids[number]
    if number not in ids:
        raise IndexError(f"no engine {number}; there are {list(ids)}")
    return number
