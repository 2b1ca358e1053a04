"""Functions that run on engines when they are called: what the decorators of a view make."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ipyasyncresult.client.view import View

__all__ = ["ParallelFunction", "RemoteFunction"]


class RemoteFunction:
    """Calling it is ``view.apply(function, ...)``.

    Parameters
    ----------
    view : View
    function : callable
    block : bool, optional
        Whether calls wait; by default as the view does.
    **flags
        Further flags of the view for these calls.
    """

    def __init__(
        self, view: View, function: Callable[..., Any], *, block: bool | None = None, **flags: Any
    ) -> None:
        functools.update_wrapper(self, function)
        self.view = view
        self.function = function
        self.flags: dict[str, Any] = flags if block is None else {"block": block, **flags}

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        with self.view.temp_flags(**self.flags):
            return self.view.apply(self.function, *args, **kwargs)


class ParallelFunction(RemoteFunction):
    """Calling it gives each engine a part of the sequences and joins what comes back.

    ``function`` gets parts, not items; :meth:`map` calls it for each item.
    """

    def __init__(
        self,
        view: View,
        function: Callable[..., Any],
        *,
        dist: str = "b",
        block: bool | None = None,
        **flags: Any,
    ) -> None:
        super().__init__(view, function, block=block, **flags)
        self.dist = dist

    def __call__(self, *sequences: Iterable[Any], **kwargs: Any) -> Any:
        if kwargs:
            raise TypeError("a parallel function takes sequences, no keyword arguments")
        with self.view.temp_flags(**self.flags):
            return self.view.map_parts(self.function, *sequences, dist=self.dist)

    def map(self, *sequences: Iterable[Any]) -> Any:
        """Call the function for each item."""
        with self.view.temp_flags(**self.flags):
            return self.view.map(self.function, *sequences)
