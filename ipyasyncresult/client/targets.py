"""What may stand for engines: a number, a slice, a list of numbers, ``'all'``."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Targets", "resolve_targets"]

Targets = int | slice | Sequence[int] | str | None


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
    if isinstance(targets, str) or not isinstance(targets, int | Sequence | set | range):
        raise TypeError(
            "targets must be an engine id, a slice, a list of ids or 'all', "
            f"not {type(targets).__name__} {targets!r}"
        )
    wanted = [targets] if isinstance(targets, int) else list(targets)
    chosen = [_one(target, ids) for target in wanted]
    if len(set(chosen)) != len(chosen):
        raise ValueError(f"targets name an engine twice: {wanted}")
    if not chosen:
        raise ValueError("targets must name at least one engine, not []")
    return chosen


def _one(target: object, ids: Sequence[int]) -> int:
    if isinstance(target, bool) or not isinstance(target, int):
        raise TypeError(f"an engine id must be an integer, not {type(target).__name__} {target!r}")
    if target < 0:
        if -target > len(ids):
            raise IndexError(f"no engine {target}: there are {len(ids)}")
        return ids[target]
    if target not in ids:
        raise IndexError(f"no engine {target}; there are {list(ids)}")
    return target
