"""``with view.sync_imports():`` imports here and on the engines."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ipyasyncresult.client.directview import DirectView

__all__ = ["importing"]


@contextmanager
def importing(view: DirectView, *, local: bool, quiet: bool) -> Iterator[None]:
    """Hook ``import`` within the context: statements run on the engines, too."""
    original = builtins.__import__
    seen: list[str] = []

    def hooked(
        name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
    ) -> Any:
        # Imports made by imported modules are not the user's statements.
        if level == 0 and (globals or {}).get("__name__") == "__main__":
            names = ", ".join(fromlist or ())
            seen.append(f"from {name} import {names}" if names else f"import {name}")
            if not local:
                return _Nothing()
        return original(name, globals, locals, fromlist, level)

    builtins.__import__ = hooked
    try:
        yield
    finally:
        builtins.__import__ = original
    for statement in dict.fromkeys(seen):
        if not quiet:
            import sys

            sys.stdout.write(f"importing on engines: {statement}\n")
        view.execute(statement, silent=True, block=True, store_history=False)


class _Nothing:
    """Stands for a module that is imported on the engines only."""

    def __getattr__(self, name: str) -> Any:
        return _Nothing()
