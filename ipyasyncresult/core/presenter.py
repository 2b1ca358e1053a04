"""The one door from results to screens.

``core`` knows nothing of IPython, widgets or bars.  Whoever can show something implements
:class:`Presenter` and installs it with :func:`install_presenter`; the package's ``__init__``
installs the one of ``ipyasyncresult.display``.  With none installed, results print plain text.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ipyasyncresult.core.arguments import integer_of

if TYPE_CHECKING:
    from ipyasyncresult.core.asyncresult import AsyncResult
    from ipyasyncresult.core.task import TaskOutputs

__all__ = [
    "GROUPINGS",
    "OutputQuery",
    "Presenter",
    "check_query",
    "install_presenter",
    "presenter",
]

STREAMS: tuple[Literal["stdout", "stderr"], ...] = ("stdout", "stderr")
GROUPINGS: tuple[str, ...] = ("type", "engine", "order", "time", "task")


@dataclass(frozen=True, slots=True)
class OutputQuery:
    """Which outputs to show and how to group them; checked where the user gave it.

    Attributes
    ----------
    groupby : str
        One of :data:`GROUPINGS`.
    only : str or None
        ``'failed'``: only tasks that did not end well.
    engine : int, collection of int, or None
        Only tasks of these engines.
    grep : str or None
        Only stream lines and displays whose text matches this regular expression.
    result_only : bool
        Leave streams and displays out, show only ``Out[n]``.
    """

    groupby: str = "type"
    only: Literal["failed"] | None = None
    engine: frozenset[int] | None = None
    grep: str | None = None
    result_only: bool = False


def check_query(
    groupby: str,
    only: str | None,
    engine: int | Collection[int] | None,
    grep: str | None,
    *,
    result_only: bool = False,
) -> OutputQuery:
    """The query, or an error that names the argument, what was given and what is allowed.

    Raises
    ------
    ValueError, TypeError
    """
    if groupby not in GROUPINGS:
        raise ValueError(
            f"groupby must be one of {', '.join(map(repr, GROUPINGS))}, not {groupby!r}"
        )
    if only not in (None, "failed"):
        raise ValueError(f"only must be 'failed' or None, not {only!r}")
    if grep is not None:
        if not isinstance(grep, str | re.Pattern):
            raise ValueError(f"grep must be a regular expression, not {grep!r}")
        try:
            re.compile(grep)
        except re.error as error:
            raise ValueError(f"grep must be a regular expression, not {grep!r}: {error}") from None
    engines: frozenset[int] | None = None
    if engine is not None:
        wanted = list(engine) if isinstance(engine, Collection) else [engine]
        numbers = [integer_of(one) for one in wanted]
        if None in numbers:
            raise TypeError(f"engine must be an engine id or a collection of them, not {engine!r}")
        engines = frozenset(number for number in numbers if number is not None)
    return OutputQuery(groupby, only, engines, grep, result_only)  # type: ignore[arg-type]


class Presenter(Protocol):
    """What a screen does for a result.  All methods: the caller's thread."""

    def display_outputs(self, tasks: Sequence[TaskOutputs], query: OutputQuery) -> None:
        """Show the outputs of the tasks, grouped."""

    def stream_output(self, result: AsyncResult) -> AbstractContextManager[None]:
        """Within the context: show outputs as they come, first those that are there already."""

    def wait_interactive(self, result: AsyncResult, interval: float, timeout: float | None) -> bool:
        """Wait and show progress; False when `timeout` seconds passed before the end."""

    def show(self, result: AsyncResult) -> bool:
        """Show a pending result, live, without waiting; False where its text will do."""

    def show_live(self, result: AsyncResult) -> AbstractContextManager[None]:
        """Within the context: show progress while the caller does other things."""

    def timeline(self, result: AsyncResult) -> Any:
        """A picture of who ran what when."""

    def html(self, result: AsyncResult) -> str | None:
        """The result as a piece of HTML, everything from tasks escaped; None: text will do."""


class PlainPresenter:
    """Text on ``sys.stdout``; what ``core`` uses when nobody installed anything better."""

    def display_outputs(self, tasks: Sequence[TaskOutputs], query: OutputQuery) -> None:
        from ipyasyncresult.core.outputs import stream_text  # importing the package is quick

        for task in tasks:
            for kind in STREAMS:
                text = stream_text(task.outputs, kind)
                if text:
                    print(f"[{kind}:{task.engine_id}] {text}", end="" if text[-1] == "\n" else "\n")

    def stream_output(self, result: AsyncResult) -> AbstractContextManager[None]:
        return nullcontext()

    def wait_interactive(self, result: AsyncResult, interval: float, timeout: float | None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not result.ready():
            left = interval if deadline is None else min(interval, deadline - time.monotonic())
            if left <= 0:
                return False
            result.wait(left)
            print(f"{result.progress}/{len(result)} {result.fname}")
        return True

    def show(self, result: AsyncResult) -> bool:
        return False

    def show_live(self, result: AsyncResult) -> AbstractContextManager[None]:
        return nullcontext()

    def timeline(self, result: AsyncResult) -> Any:
        return None

    def html(self, result: AsyncResult) -> str | None:
        return None


_make: Callable[[], Presenter] = PlainPresenter
_installed: Presenter | None = None


def install_presenter(make: Callable[[], Presenter]) -> None:
    """From now on results show themselves through what `make` returns (called at first use)."""
    global _make, _installed
    _make, _installed = make, None


def presenter() -> Presenter:
    """The installed presenter."""
    global _installed
    if _installed is None:
        _installed = _make()
    return _installed
