"""Options of clusters from configuration files, for calls that do not say otherwise."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from ipyasyncresult.core.slips import refuse_unknown

__all__ = ["with_cluster_options"]

P = ParamSpec("P")
Self = TypeVar("Self")


def with_cluster_options(
    init: Callable[Concatenate[Self, P], None],
) -> Callable[Concatenate[Self, P], None]:
    """Decorator for ``__init__``: what the call does not give comes from ``ClusterOptions``."""

    known = {"n", *(init.__kwdefaults__ or ())}

    @functools.wraps(init)
    def configured(self: Any, *args: Any, **given: Any) -> None:
        wanted = {**_configured(), **given}
        if args and args[0] is not None:
            wanted.pop("n", None)
        elif "n" in wanted:
            args = args[1:]  # None: as many as the options say
        refuse_unknown("Cluster", "option", given, known)
        init(self, *args, **wanted)

    return cast("Callable[Concatenate[Self, P], None]", configured)


def _configured() -> dict[str, Any]:
    """What differs from the defaults."""
    if "traitlets.config" not in sys.modules and not _has_files():
        return {}  # a script without options: loading traitlets would take a tenth of its start
    from ipyasyncresult.config import ClusterOptions, options

    return options(ClusterOptions).changed()


@functools.cache
def _has_files() -> bool:
    from jupyter_core.paths import jupyter_config_path

    names = ("ipyasyncresult_config.py", "ipyasyncresult_config.json")
    return any(Path(folder, name).exists() for folder in jupyter_config_path() for name in names)
