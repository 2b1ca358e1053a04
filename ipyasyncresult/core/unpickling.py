"""Unpickling what another process sent, without changing the classes of this one.

A class of a notebook travels by value.  When an instance of it comes back, cloudpickle finds the
notebook's class by an id, but then overwrites its methods with the copies that came along.  Their
globals are copies, too: the notebook's own methods would no longer see what the notebook assigns.
"""

from __future__ import annotations

import functools
import io
import pickle
import sys
import weakref
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["loads"]

_CLOUDPICKLE = "cloudpickle.cloudpickle"
_MARK = b"_class_setstate"  # in every stream that brings a class by value

_received: weakref.WeakSet[type] = weakref.WeakSet()  # classes that were made here by unpickling


def loads(data: bytes, buffers: Iterable[Any] = ()) -> Any:
    """As ``pickle.loads``, but classes that were defined in this process stay as they are.

    Raises whatever unpickling raises.  Any thread.
    """
    if _MARK not in data:
        return pickle.loads(data, buffers=buffers)
    return _Unpickler(io.BytesIO(data), buffers=buffers).load()


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        if module == _CLOUDPICKLE:
            if name in ("_make_skeleton_class", "_make_skeleton_enum"):
                return functools.partial(_make, found)
            if name == _MARK.decode():
                return functools.partial(_fill, found)
        return found


def _make(make: Callable[..., type], *args: Any) -> type:
    """Make a class, or find the one that is known by its id."""
    known = getattr(sys.modules[_CLOUDPICKLE], "_DYNAMIC_CLASS_TRACKER_BY_ID", {})
    before = known.get(args[-2])
    found = make(*args)
    if found is not before:
        _received.add(found)
    return found


def _fill(fill: Callable[[type, Any], type], found: type, state: Any) -> type:
    return fill(found, state) if found in _received else found
