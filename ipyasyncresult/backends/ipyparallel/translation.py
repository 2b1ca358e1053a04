"""What ipyparallel sends, in our terms: outputs, errors, replies."""

from __future__ import annotations

import builtins
import pickle
import re
from collections.abc import Mapping
from typing import Any

from ipyasyncresult.core.failure import Failure, encode_failure
from ipyasyncresult.core.outputs import Output, OutputKind
from ipyasyncresult.errors import EngineError, TaskAborted
from ipyasyncresult.worker.functions import dump_result
from ipyasyncresult.worker.guest import Delivery
from ipyasyncresult.worker.reply import ExecuteReply

__all__ = ["delivery_of_call", "delivery_of_cell", "failed_delivery", "output_of", "translate"]

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_DISPLAYS: dict[str, OutputKind] = {
    "display_data": "display_data",
    "execute_result": "execute_result",
    "update_display_data": "update_display_data",
}


def output_of(kind: str, content: Mapping[str, Any], when: float) -> Output | None:
    """An IOPub message as a record of output; None if it is none."""
    if kind == "stream":
        name: OutputKind = "stderr" if content["name"] == "stderr" else "stdout"
        return Output(name, when, content["text"])
    if kind == "clear_output":
        return Output("clear_output", when, wait=bool(content.get("wait")))
    if kind not in _DISPLAYS:
        return None
    return Output(
        _DISPLAYS[kind],
        when,
        data=dict(content["data"]),
        metadata=dict(content.get("metadata") or {}),
        display_id=(content.get("transient") or {}).get("display_id"),
        execution_count=content.get("execution_count"),
    )


def delivery_of_call(reply: bytes | tuple[bytes, list[Any]]) -> Delivery:
    """What ``run_native`` returned."""
    data, buffers = (reply, ()) if isinstance(reply, bytes) else reply
    ok, body, started, duration, failed_items = pickle.loads(data)
    return Delivery(ok, body, buffers, started, duration, failed_items, (), "")


def delivery_of_cell(
    reply: Any, shown: Mapping[str, Any] | None, started: float, ended: float
) -> Delivery:
    """The reply to a cell, with the value of its last expression."""
    value = ExecuteReply(reply.execution_count, dict(shown) if shown else None)
    body, _ = dump_result(value)
    return Delivery(True, body, (), started, max(0.0, ended - started), 0, (), "")


def failed_delivery(error: Any, started: float, ended: float) -> Delivery:
    """A task that raised, of which there is only text; also of its type where that is a builtin."""
    text = _COLOUR.sub("", error.traceback or "")
    kind = getattr(builtins, error.ename, None)
    pickled = b""
    if isinstance(kind, type) and issubclass(kind, Exception):
        pickled = pickle.dumps((kind, (error.evalue,), None))
    failure = Failure(
        ename=error.ename,
        evalue=error.evalue,
        traceback=text[-65536:],
        traceback_ansi=(error.traceback or "")[-65536:],
        pickled=pickled,
    )
    body = encode_failure(failure)
    return Delivery(False, body, (), started, max(0.0, ended - started), 0, (), "")


def translate(error: Any, msg_id: str) -> BaseException | None:
    """ipyparallel's own error as one of ours, the cause kept; None for one that the task raised."""
    name = getattr(error, "ename", None) or type(error).__name__
    made: BaseException
    if name == "TaskAborted":
        made = TaskAborted(msg_id)
    elif name in ("EngineError", "NoEnginesRegistered", "ImpossibleDependency"):
        said = getattr(error, "evalue", None) or str(error)
        made = EngineError(f"the engine died under task {msg_id}: {said}")
    elif name == "ModuleNotFoundError" and "ipyasyncresult" in str(getattr(error, "evalue", error)):
        made = EngineError(
            f"the engine cannot import ipyasyncresult, which must be installed there, too: "
            f"{getattr(error, 'evalue', error)}"
        )
    else:
        return None
    if isinstance(error, BaseException):
        made.__cause__ = error
    return made
