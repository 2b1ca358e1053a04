"""Results as a table of pandas.  The one file that knows it."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["frame_of"]


def frame_of(rows: list[dict[str, Any]]) -> Any:
    """A ``pandas.DataFrame`` of these rows, with the task's position as its index.

    Raises
    ------
    ImportError
        When pandas is not installed; names the extra.
    """
    try:
        pandas = importlib.import_module("pandas")
    except ImportError as error:
        raise ImportError(
            "to_dataframe() needs pandas: pip install 'ipyasyncresult[pandas]'; "
            "to_records() gives the same as a list of dicts"
        ) from error
    return pandas.DataFrame(rows).set_index("index") if rows else pandas.DataFrame()
