"""Values and errors of finished tasks, decoded once, in the thread that asks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from ipyasyncresult.core.failure import Failure, Raised, decode_failure
from ipyasyncresult.core.ledger import Codec
from ipyasyncresult.core.outputs import stream_text
from ipyasyncresult.core.partition import ChunkResult
from ipyasyncresult.core.task import UNSET, TaskRecord
from ipyasyncresult.errors import CompositeError, RemoteError, ResultDecodeError, remote_error

__all__ = [
    "Failed",
    "error_of",
    "errors_in",
    "failures_in",
    "items_of",
    "make_remote_error",
    "outcome_of",
    "raise_for",
    "unwrap",
    "value_of",
]

LAST_OUTPUT_CHARACTERS = 2_000


def error_of(codec: Codec, record: TaskRecord) -> BaseException | None:
    """The error of a finished task, or None when it ended well."""
    error = record.error
    if record.value is UNSET and (error is None or isinstance(error, ResultDecodeError)):
        record.error = None  # a module may have been imported since the last try
        codec.decode(record)
        error = record.error
    return error


def value_of(codec: Codec, record: TaskRecord) -> Any:
    """The value of a finished task; raises its error."""
    error = record.error
    if record.value is UNSET:
        if error is None:
            codec.decode(record)
            error = record.error
        else:
            error = error_of(codec, record)
    if error is not None:
        # The same object may be raised many times: without this its traceback would grow.
        raise error.with_traceback(None)
    return record.value


class Failed:
    """Stands for an item that has an error instead of a value (an exception may be a value)."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error: BaseException = error


def outcome_of(codec: Codec, record: TaskRecord) -> list[Any]:
    """The value of a finished task, or its :class:`Failed`, as a list of one."""
    error = error_of(codec, record)
    return [record.value if error is None else Failed(error)]


def items_of(codec: Codec, record: TaskRecord) -> list[Any]:
    """One entry per item of a finished chunk: its value or its :class:`Failed`."""
    error = error_of(codec, record)
    value = record.value
    if isinstance(value, ChunkResult):
        items = list(value.values)
        for position, failure in value.failures.items():
            items[position] = Failed(make_remote_error(record, failure))
        return items
    if error is not None:
        return [Failed(error)] * record.items
    return value  # type: ignore[no-any-return]


def failures_in(codec: Codec, record: TaskRecord, limit: int) -> list[tuple[int, Failure]]:
    """What failed in a finished task, as text, by position in the task; at most `limit`.

    Nothing of the user's is unpickled where the codec can ``peek``, so any thread may ask.
    """
    peek = getattr(codec, "peek", None)
    seen: Failure | None = peek(record) if peek is not None else None
    if seen is not None:
        return [(0, seen)]
    error = error_of(codec, record)
    if isinstance(record.value, ChunkResult):
        found = islice(record.value.failures.items(), limit)
        return [(position, decode_failure(failure)) for position, failure in found]
    if isinstance(error, RemoteError):
        return [(0, error.failure)]
    message, _, more = str(error).partition("\n")
    return [(0, Failure(ename=type(error).__name__, evalue=message, traceback=more))]


def unwrap(pieces: Iterable[list[Any]]) -> list[list[Any]]:
    """Exceptions in the places of failed items."""
    return [
        [item.error if isinstance(item, Failed) else item for item in piece] for piece in pieces
    ]


def errors_in(pieces: Iterable[list[Any]]) -> list[BaseException]:
    """The errors of the failed items, in order."""
    return [item.error for piece in pieces for item in piece if isinstance(item, Failed)]


def make_remote_error(record: TaskRecord, failure: bytes | Raised) -> RemoteError:
    """The error of a task from how it failed, with what is known about the place."""
    output = stream_text(record.outputs or (), "stdout")[-LAST_OUTPUT_CHARACTERS:]
    return remote_error(
        decode_failure(failure),
        {
            "engine_id": record.engine_id,
            "msg_id": record.msg_id,
            "label": record.label,
            "last_output": output.rstrip(),
        },
        failure.error if isinstance(failure, Raised) else None,
    )


def raise_for(errors: Sequence[BaseException], total: int) -> None:
    """Raise the error, or all of them grouped when there are several.

    A chunk that was lost as a whole has one error for all its items.
    """
    if len({id(error) for error in errors}) == 1:
        raise errors[0].with_traceback(None)
    if errors:
        raise CompositeError(errors, total)
