"""Progress without widgets: a tqdm bar in a terminal, a few lines where stderr is no terminal.

The one file that knows tqdm.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ipyasyncresult.core.timing import format_seconds
from ipyasyncresult.display.model import LiveModel, Look
from ipyasyncresult.display.shown import ShownResult

__all__ = ["ProgressLines", "TerminalBar", "beside_bars"]

_FIRST_LINE, _MOST = 10.0, 300.0  # seconds between two lines: doubled each time

_open_bars: set[Any] = set()
"""Bars on the screen.  Written by the threads that wait; usually there is one."""


@contextmanager
def beside_bars() -> Iterator[bool]:
    """Text printed within does not break a bar; yields whether one is shown.  Any thread."""
    if not _open_bars:
        yield False
        return
    from tqdm import tqdm

    with tqdm.external_write_mode(file=sys.stderr):
        yield True


class TerminalBar:
    """A tqdm bar on stderr.  One thread at a time."""

    def __init__(self, result: ShownResult) -> None:
        self._result = result
        self._model: LiveModel | None = None
        self._bar: Any = None

    def show(self, model: LiveModel) -> None:
        """Draw it."""
        from tqdm import tqdm

        self._model = model
        look = model.look()
        self._bar = tqdm(
            desc=self._result.fname,
            total=look.progress.total,
            file=sys.stderr,
            dynamic_ncols=True,
            delay=1e-9,  # no picture before `start_t` is right
            bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]",
        )
        self._bar.start_t -= look.progress.elapsed
        _open_bars.add(self._bar)
        self._draw(self._bar, look)

    def update(self) -> None:
        """Draw it again."""
        if self._model is not None:
            self._draw(self._bar, self._model.look())

    def close(self, ending: str) -> None:
        """Leave the last state on the screen, with `ending` if that is not ``'done'``."""
        if self._bar is None or self._model is None:
            return
        bar, self._bar = self._bar, None
        _open_bars.discard(bar)
        try:
            if ending != "done":
                bar.set_description_str(f"{self._result.fname} ({ending})", refresh=False)
            self._draw(bar, self._model.look(), is_over=True)
        finally:
            bar.close()

    @staticmethod
    def _draw(bar: Any, look: Look, *, is_over: bool = False) -> None:
        bar.n = look.progress.done
        bar.colour = "red" if look.progress.failed else None
        said = look.progress.details()
        if not is_over and any(lane.what for lane in look.lanes):
            said.append(f"on {look.engines_in_words()}")
        bar.set_postfix_str(", ".join(said), refresh=False)
        bar.refresh()


class ProgressLines:
    """A line on stderr now and then, for logs.  One thread at a time."""

    def __init__(self, result: ShownResult) -> None:
        self._result = result
        self._model: LiveModel | None = None
        self._due = 0.0
        self._pause = _FIRST_LINE

    def show(self, model: LiveModel) -> None:
        """Nothing yet."""
        self._model = model
        self._due = self._result.elapsed + self._pause

    def update(self) -> None:
        """A line, if the last one is long ago."""
        if self._model is None:
            return
        progress = self._model.look().progress
        if progress.elapsed >= self._due:
            self._pause = min(2 * self._pause, _MOST)
            self._due = progress.elapsed + self._pause
            self._print(progress.describe())

    def close(self, ending: str) -> None:
        """The last line."""
        if self._model is not None:
            progress = self._model.look().progress
            after = format_seconds(progress.elapsed)
            self._print(f"{progress.describe()}, {ending} after {after}")

    def _print(self, text: str) -> None:
        print(f"{self._result.fname}: {text}", file=sys.stderr, flush=True)
