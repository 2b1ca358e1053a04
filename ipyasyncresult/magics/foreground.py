"""A cell that waits for its result: it shows, it can be stopped, it fails when a task failed."""

from __future__ import annotations

import builtins
import signal
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from ipyasyncresult.magics.settings import Settings

if TYPE_CHECKING:
    from ipyasyncresult.client.anyclient import AnyClient
    from ipyasyncresult.core.asyncresult import AsyncResult

__all__ = ["run_in_foreground", "stop_work"]

_PATIENCE = 2.0
"""Seconds that interrupted engines get to come to an end, so that their last outputs are seen."""


class KeyboardInterrupt(builtins.KeyboardInterrupt):
    """The stop button.  IPython shows it without our frames: where we waited tells nothing."""

    def _render_traceback_(self) -> list[str]:
        return [f"KeyboardInterrupt: {self}"]


def run_in_foreground(
    result: AsyncResult,
    settings: Settings,
    stop: Callable[[], None],
    meanwhile: Callable[[], BaseException | None] = lambda: None,
) -> BaseException | None:
    """Wait for a result and show it.

    Parameters
    ----------
    result : AsyncResult
    settings : Settings
    stop : callable
        Called when the wait is interrupted; outputs are shown on.
    meanwhile : callable, optional
        Called while the engines work.

    Returns
    -------
    BaseException or None
        What `meanwhile` returned.

    Raises
    ------
    KeyboardInterrupt
        When the wait was interrupted, after `stop` and after all outputs were shown.  A second
        interrupt leaves at once.
    """
    is_interrupted = False
    failure: BaseException | None = None
    with ExitStack() as streaming:
        try:
            if settings.stream:
                streaming.enter_context(result.stream_output())
            failure = meanwhile()
            result.wait(settings.progress_after)
            if not result.ready():
                result.wait_interactive()
        except builtins.KeyboardInterrupt:
            is_interrupted = True
            stop()
    if not settings.stream:
        result.display_outputs(settings.group_outputs, timeout=0)
    if not is_interrupted:
        return failure
    left = result.counts()
    if left.finished < left.total:
        can = result.capabilities
        why = "" if can.interrupt_running else f", as {can.backend} cannot interrupt them"
        print(
            f"ipyasyncresult: {left.total - left.finished} of {left.total} tasks go on{why}; "
            "%pxresult waits for them"
        )
    raise KeyboardInterrupt("the cell was interrupted")


def stop_work(client: AnyClient, result: AsyncResult, number: int) -> None:
    """Take back what waits, signal what runs, and give it a moment to end; nothing for signal 0."""
    if not number:
        return
    can = result.capabilities
    fate = result.abort() if can.abort_queued else {}
    if not can.interrupt_running:
        return
    running = [r for r in result.records if fate.get(r.msg_id, str(r.status)) == "running"]
    if running and number == signal.SIGINT:
        result.interrupt()  # the tasks, not whatever their engines run by now
    elif running:
        engines = {record.target for record in running if record.target is not None}
        client.send_signal(number, sorted(engines))
    result.wait(_PATIENCE)
