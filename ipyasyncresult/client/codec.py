"""What the hub delivered, turned into values and errors in the thread that asks."""

from __future__ import annotations

import re
from itertools import takewhile
from typing import Any

from ipyasyncresult.core.failure import Failure, decode_failure
from ipyasyncresult.core.outcome import LAST_OUTPUT_CHARACTERS, make_remote_error
from ipyasyncresult.core.outputs import stream_text
from ipyasyncresult.core.partition import ChunkResult
from ipyasyncresult.core.task import TaskRecord
from ipyasyncresult.core.unpickling import loads
from ipyasyncresult.errors import EngineError, ResultDecodeError, TaskAborted, TaskTimeout
from ipyasyncresult.wire.buffers import BufferList
from ipyasyncresult.wire.messages import ERROR, LostTask

__all__ = ["ObjectCodec", "WireCodec", "lost_error"]

_OUR_FRAME = re.compile(r'/ipyasyncresult/(?:worker|engine|hub)/\w+\.py", line')
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
                value = self._load(body, frames)
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

    @staticmethod
    def _load(body: Any, frames: Any) -> Any:
        return loads(bytes(body), BufferList(frames) if frames else ())

    def peek(self, record: TaskRecord) -> Failure | None:
        """How it failed, without unpickling; None where that needs :meth:`decode`.  Any thread."""
        raw = record.raw
        return decode_failure(raw[1]) if raw is not None and raw[0] == ERROR else None


class ObjectCodec(WireCodec):
    """Of results in this process: the body is the value itself, or a ``Raised``."""

    @staticmethod
    def _load(body: Any, frames: Any) -> Any:
        del frames
        return body


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
    task = f"task {item.msg_id}" + (f" ({record.label})" if record.label else "")
    engine = f"engine {item.engine_id}" if item.engine_id >= 0 else "the engine"
    host = f" on {details['host']}" if details.get("host") else ""
    where = f"{engine} (pid {details.get('pid')}{host})"
    if item.reason == "timeout":
        return TaskTimeout(
            f"{task} took longer than its time-out of {details.get('timeout', 0):g} s, did not end "
            f"when it was interrupted, and was killed with {where}"
        )
    stdout = stream_text(record.outputs or (), "stdout")
    stderr = details.get("stderr") or ""
    lines = [_how_it_died(details, where, task)]
    for title, text in (("last output", stdout), ("stderr", stderr)):
        last = _telling_lines(text)
        if last:
            lines += [f"{title}:", *("  " + line for line in last)]
    error = EngineError("\n".join(lines))
    error.__dict__.update(
        engine_id=item.engine_id,
        pid=details.get("pid"),
        host=details.get("host"),
        exit_code=details.get("exit_code"),
        signal=details.get("signal"),
        oom=bool(details.get("oom")),
        on_request=details.get("on_request", ""),
        stderr=stderr,
        last_output=stdout[-LAST_OUTPUT_CHARACTERS:].rstrip(),
        msg_id=item.msg_id,
        label=record.label,
    )
    return error


def _how_it_died(details: dict[str, Any], where: str, task: str) -> str:
    if details.get("reason"):
        return f"no engine is left to run {task}: {details['reason']}"
    code = details.get("exit_code")
    died = details.get("signal") or (f"exit code {code}" if code is not None else "gone")
    under = (
        f"after {task} and before its result had left" if details.get("ended") else f"under {task}"
    )
    text = f"{where} died {under}: {died}"
    if details.get("on_request"):
        return f"{text} ({details['on_request']})"
    if details.get("oom"):
        return f"{text}: the kernel killed it, as memory ran out"
    if died == "SIGKILL":
        return f"{text}\n(killed from outside; the kernel does that when memory runs out)"
    return text


def _telling_lines(text: str) -> list[str]:
    """The last lines; of a crash the kind and the innermost frames, which faulthandler writes
    first."""
    lines = text.rstrip().splitlines()
    for number, line in enumerate(lines):
        if line.startswith("Current thread"):
            kind = [earlier for earlier in lines[:number] if earlier.startswith("Fatal")]
            frames = lines[number + 1 : number + 2 * _LAST_LINES]
            # Those of the task come first, unless it was something of ours that crashed.
            theirs = list(takewhile(lambda frame: not _OUR_FRAME.search(frame), frames))
            return [*kind[-1:], line, *(theirs or frames)]
    return lines[-_LAST_LINES:]
