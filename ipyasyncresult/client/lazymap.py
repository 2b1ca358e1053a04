"""``imap``: a map that takes items only as fast as results are taken from it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Self

from ipyasyncresult.core.arguments import check_count
from ipyasyncresult.core.asyncresult import AsyncResult
from ipyasyncresult.core.tracebacks import interrupts_of_the_user

if TYPE_CHECKING:
    from ipyasyncresult.client.loadbalanced import LoadBalancedView

__all__ = ["LazyMap"]

_PER_ENGINE = 4


class LazyMap(Iterator[Any]):
    """Yields results; keeps a bounded number of items under way.  One thread at a time.

    When the iterable raises, or a task failed, the error is raised in its turn; iteration can go
    on after a failed task.  What the iterable raised has what was under way then as its
    ``async_result``.
    """

    def __init__(
        self,
        view: LoadBalancedView,
        f: Callable[..., Any],
        sequences: tuple[Iterable[Any], ...],
        *,
        ordered: bool,
        max_outstanding: int | str,
        return_exceptions: bool,
    ) -> None:
        if not sequences:
            raise TypeError("imap needs at least one sequence of items")
        if isinstance(max_outstanding, str) and max_outstanding == "auto":
            max_outstanding = _PER_ENGINE * max(1, view.client.engine_count())
        limit = check_count(max_outstanding, "max_outstanding", what="'auto' or an integer")
        self._view = view
        self._f = f
        self._items = zip(*sequences, strict=False)
        self._limit = limit
        self._ordered = ordered
        self._return_exceptions = return_exceptions
        self._under_way: list[AsyncResult] = []  # in the order of their submission
        self._broken: BaseException | None = None  # what the iterable raised

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        self._fill()
        if not self._under_way:
            broken, self._broken = self._broken, None
            raise broken if broken is not None else StopIteration
        try:
            return self._take_done().get()
        except Exception as error:
            if self._return_exceptions:
                return error
            raise

    def _fill(self) -> None:
        while len(self._under_way) < self._limit and self._broken is None:
            try:
                args = next(self._items)
            except StopIteration:
                return
            except Exception as error:  # noqa: BLE001  raised when the results before it are taken
                self._broken = error
                if self._under_way:
                    with contextlib.suppress(AttributeError):  # its class has no room for one
                        error.async_result = AsyncResult.join(*self._under_way)  # type: ignore[attr-defined]
                return
            self._under_way.append(self._view.apply_async(self._f, *args))

    def _take_done(self) -> AsyncResult:
        """The next one; an interrupt of the wait leaves it where it is."""
        candidates = self._under_way[:1] if self._ordered else self._under_way

        def done() -> int | None:
            return next((i for i, one in enumerate(candidates) if one.records[0].received), None)

        with interrupts_of_the_user():
            self._view.client.ledger.waits.wait(lambda: done() is not None, None)
        index = done()
        assert index is not None, "something is done"
        return self._under_way.pop(index)

    def cancel(self) -> dict[str, str]:
        """Take back what has not started, and take no more items."""
        self._items = zip((), strict=False)
        pending = [one.msg_ids[0] for one in self._under_way if not one.ready()]
        self._under_way.clear()
        client = self._view.client
        return client.abort(pending) if pending and client.capabilities.abort_queued else {}
