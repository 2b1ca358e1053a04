"""Tasks in an engine that captures outputs by itself: ipyparallel's."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Sequence
from typing import Any

from ipyasyncresult.worker.capture import Capture
from ipyasyncresult.worker.guest import CALL, STAR_CHUNK, Work, deliver, describe_place
from ipyasyncresult.worker.namespace import use_namespace
from ipyasyncresult.worker.recorder import Recorder
from ipyasyncresult.worker.runner import Runner

__all__ = ["run_native"]


class _NoCapture(Capture):
    """The engine's streams stay as they are."""

    def begin(self, recorder: Recorder) -> Any:
        return None

    def end(self, recorder: Recorder, token: Any) -> None:
        """Nothing was begun."""


_runner: Runner | None = None


def _find_runner() -> Runner:
    global _runner
    if _runner is None:
        from IPython.core.getipython import get_ipython

        _runner = Runner(_NoCapture(redirect_fds=False))
        shell: Any = get_ipython()
        if shell is not None:
            use_namespace(shell.user_ns, lambda: shell.reset(new_session=False))
    return _runner


class _RunNative:
    """A function that travels by its name: ipyparallel sends the code of functions."""

    def __call__(self, data: bytes, *buffers: Any) -> tuple[bytes, list[bytes]]:
        work = Work(*pickle.loads(data))
        runner, function, arguments = _find_runner(), work.function, work.arguments
        if work.kind == CALL:
            outcome = runner.run_call(function, arguments, buffers)
        else:
            star = work.kind == STAR_CHUNK
            outcome = runner.run_chunk(function, arguments, buffers, star=star)
        _flush_figures()
        large: Sequence[memoryview] = outcome.buffers
        delivery = deliver(outcome, (), describe_place())._replace(buffers=())
        return pickle.dumps(tuple(delivery), 5), [bytes(buffer) for buffer in large]

    def __reduce__(self) -> str:
        return "run_native"


run_native = _RunNative()


def _flush_figures() -> None:
    """Show what the task drew, as the end of a cell does."""
    backend = sys.modules.get("matplotlib_inline.backend_inline")
    if backend is not None:
        backend.flush_figures()
