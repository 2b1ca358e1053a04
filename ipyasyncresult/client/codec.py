"""What the hub delivered, turned into values and errors in the thread that asks."""

from __future__ import annotations

from ipyasyncresult.core.failure import Failure, decode_failure
from ipyasyncresult.core.outcome import make_remote_error
from ipyasyncresult.core.outputs import stream_text
from ipyasyncresult.core.partition import ChunkResult
from ipyasyncresult.core.task import TaskRecord
from ipyasyncresult.errors import EngineError, ResultDecodeError, TaskAborted
from ipyasyncresult.wire.messages import ERROR, LostTask
from ipyasyncresult.worker.functions import load_result

__all__ = ["WireCodec", "lost_error"]

_LAST_LINES = 5


class WireCodec:
    """Decodes results of the own engines.  A task's ``raw`` is ``(status, body, frames)``."""

    def decode(self, record: TaskRecord) -> None:
        """Make ``value`` or ``error`` of ``raw``.  The thread that asks for the result."""
        raw = record.raw
        if raw is None:  # another thread was faster
            return
        status, body, frames = raw
        if status == ERROR:
            record.error = make_remote_error(record, body)
        else:
            try:
                value = load_result(body, [frame.buffer for frame in frames])
            except (KeyboardInterrupt, MemoryError):
                raise
            except BaseException as error:  # noqa: BLE001  unpickling runs anybody's code
                record.error = _decode_error(record, error)
                return
            if isinstance(value, ChunkResult):
                position = min(value.failures)
                record.error = make_remote_error(record, value.failures[position])
            record.value = value
        record.raw = None

    def peek(self, record: TaskRecord) -> Failure | None:
        """How it failed, without unpickling; None where that needs :meth:`decode`.  Any thread."""
        raw = record.raw
        return decode_failure(raw[1]) if raw is not None and raw[0] == ERROR else None


def _decode_error(record: TaskRecord, cause: BaseException) -> ResultDecodeError:
    error = ResultDecodeError(
        f"the result of task {record.msg_id} (engine {record.engine_id}) arrived, but cannot be "
        f"unpickled here: {type(cause).__name__}: {cause}"
    )
    error.__cause__ = cause
    return error


def lost_error(item: LostTask, record: TaskRecord) -> BaseException:
    """The error of a task that ended without an engine's word."""
    if item.reason == "aborted":
        return TaskAborted(item.msg_id)
    details = item.details
    died = details.get("signal") or (
        f"exit code {details['exit_code']}" if details.get("exit_code") is not None else "gone"
    )
    engine = f"engine {item.engine_id}" if item.engine_id >= 0 else "the engine"
    lines = [f"{engine} (pid {details.get('pid')}) died under task {item.msg_id}: {died}"]
    if details.get("reason"):
        lines[0] = f"no engine is left to run task {item.msg_id}: {details['reason']}"
    if died == "SIGKILL":
        lines.append("(killed from outside; the kernel does that when memory runs out)")
    for title, text in (
        ("last output", stream_text(record.outputs or (), "stdout")),
        ("stderr", details.get("stderr") or ""),
    ):
        last = _telling_lines(text)
        if last:
            lines += [f"{title}:", *("  " + line for line in last)]
    error = EngineError("\n".join(lines))
    error.__dict__.update(
        engine_id=item.engine_id,
        pid=details.get("pid"),
        exit_code=details.get("exit_code"),
        signal=details.get("signal"),
        stderr=details.get("stderr") or "",
        msg_id=item.msg_id,
    )
    return error


def _telling_lines(text: str) -> list[str]:
    """The last lines; of a crash the kind and the innermost frames, which faulthandler writes
    first."""
    lines = text.rstrip().splitlines()
    for number, line in enumerate(lines):
        if line.startswith("Current thread"):
            kind = [earlier for earlier in lines[:number] if earlier.startswith("Fatal")]
            return [*kind[-1:], *lines[number : number + 2 * _LAST_LINES]]
    return lines[-_LAST_LINES:]
