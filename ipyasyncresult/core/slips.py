"""Names that nobody knows, and the ones that may have been meant."""

from __future__ import annotations

from collections.abc import Collection, Iterable

__all__ = ["refuse_unknown"]


def refuse_unknown(
    who: str,
    kind: str,
    given: Iterable[str],
    known: Collection[str],
    error: type[Exception] = TypeError,
) -> None:
    """Raise `error` for what is not known.

    ``map has no option 'chunk_size'; did you mean 'chunksize'? It has chunksize, label, ...``
    """
    for name in given:
        if name not in known:
            from difflib import get_close_matches  # for a message only

            lower = {one.lower(): one for one in known}
            near = get_close_matches(name.lower(), lower, n=1)
            meant = f"; did you mean {lower[near[0]]!r}? It" if near else "; it"
            raise error(f"{who} has no {kind} {name!r}{meant} has {', '.join(sorted(known))}")
