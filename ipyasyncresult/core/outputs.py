"""What a task printed and drew, as an ordered list of small records.

One task has one list.  Its order is the order in which the task wrote, over all streams, which is
what makes ``display_outputs(groupby='time')`` possible.  The records travel as msgpack (never as
pickle), so reading the outputs of an old result runs nobody's code.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

__all__ = [
    "Output",
    "OutputKind",
    "apply_carriage_returns",
    "decode_outputs",
    "encode_outputs",
    "execute_result",
    "rich_outputs",
    "stream_text",
]

OutputKind = Literal[
    "stdout", "stderr", "display_data", "execute_result", "update_display_data", "clear_output"
]
"""``stdout`` and ``stderr`` carry ``text``; the display kinds carry ``data``."""


class Output(msgspec.Struct, array_like=True, frozen=True, gc=False, omit_defaults=True):
    """One piece of output of one task.

    Attributes
    ----------
    kind : OutputKind
    time : float
        When it was written, in seconds since the epoch on the engine's clock.
    text : str
        The text of a stream.  Neighbouring pieces of one stream belong together.
    data, metadata : dict
        The MIME bundle of a display and its metadata, as in the Jupyter message protocol.
    display_id : str or None
        What ``update_display_data`` refers to.
    execution_count : int or None
        The number in ``Out[n]`` of an ``execute_result``.
    wait : bool
        For ``clear_output``: clear only when the next output comes.
    """

    kind: OutputKind
    time: float
    text: str = ""
    data: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    display_id: str | None = None
    execution_count: int | None = None
    wait: bool = False


_encoder = msgspec.msgpack.Encoder(enc_hook=repr)  # a display may hold any object: keep its text
_decoder = msgspec.msgpack.Decoder(list[Output])


def encode_outputs(outputs: Sequence[Output]) -> bytes:
    """The records as msgpack bytes.  Any thread."""
    return _encoder.encode(outputs)


def decode_outputs(data: bytes) -> list[Output]:
    """The records from :func:`encode_outputs`.  Any thread.

    Raises
    ------
    msgspec.DecodeError
        When the bytes are not such records.
    """
    return _decoder.decode(data)


def visible(outputs: Iterable[Output]) -> list[Output]:
    """The records that a viewer would still see: ``clear_output`` and updates are applied.

    An update replaces the data of every earlier display with its ``display_id``; one that has no
    such display yet is shown as a display of its own.
    """
    shown: list[Output] = []
    clear_pending = False
    for output in outputs:
        if output.kind == "clear_output":
            if output.wait:
                clear_pending = True
            else:
                shown.clear()
                clear_pending = False
            continue
        if clear_pending:
            shown.clear()
            clear_pending = False
        if output.kind == "update_display_data":
            _apply_update(shown, output)
        else:
            shown.append(output)
    return shown


def _apply_update(shown: list[Output], update: Output) -> None:
    found = False
    for index, earlier in enumerate(shown):
        if earlier.display_id is not None and earlier.display_id == update.display_id:
            shown[index] = msgspec.structs.replace(
                earlier, data=update.data, metadata=update.metadata
            )
            found = True
    if not found:
        shown.append(msgspec.structs.replace(update, kind="display_data"))


def stream_text(outputs: Iterable[Output], kind: OutputKind) -> str:
    """All text of one stream, in order.  What was cleared is kept: it was printed."""
    return "".join([output.text for output in outputs if output.kind == kind])


def rich_outputs(outputs: Iterable[Output]) -> list[dict[str, Any]]:
    """The displays as dicts with ``data`` and ``metadata``, as Jupyter's display messages."""
    return [
        {"data": output.data or {}, "metadata": output.metadata or {}}
        for output in visible(outputs)
        if output.kind == "display_data"
    ]


def execute_result(outputs: Iterable[Output]) -> dict[str, Any] | None:
    """The last ``Out[n]`` of a cell as a dict, or None."""
    found: dict[str, Any] | None = None
    for output in outputs:
        if output.kind == "execute_result":
            found = {
                "execution_count": output.execution_count,
                "data": output.data or {},
                "metadata": output.metadata or {},
            }
    return found


def apply_carriage_returns(text: str) -> str:
    """What a terminal would show of text that rewrites its lines with ``\\r`` (bars in tasks).

    A carriage return moves to the start of the line; what follows overwrites what stands there.
    """
    if "\r" not in text:
        return text
    text = text.replace("\r\n", "\n")
    lines = []
    for line in text.split("\n"):
        shown = ""
        for part in line.split("\r"):
            shown = part + shown[len(part) :]
        lines.append(shown)
    return "\n".join(lines)
