"""Every message between client, hub and engine.

A message is one msgpack frame, decoded and validated in one step by msgspec, and after it the
out-of-band frames of its tasks or results, in their order::

    client ──Hello, Submit, Abort, Interrupt, Ask, ...──▶ hub ──Run, Recall──▶ engine
    client ◀──Welcome, News, Answer, EngineNews──────── hub ◀──Register, Stream──  engine

User data (pickled functions, arguments, results, and encoded outputs) are bytes that the hub never
opens.  Structs are arrays on the wire and are not tracked by the garbage collector: a task costs
about 0.3 us to encode and decode.
"""

from __future__ import annotations

from typing import Any, final

import msgspec

__all__ = [
    "CALL",
    "CELL",
    "CHUNK",
    "ERROR",
    "FIRST",
    "MALFORMED",
    "NO_HISTORY",
    "OK",
    "PARTIAL",
    "PROTOCOL",
    "SILENT",
    "STAR_CHUNK",
    "Abort",
    "Answer",
    "Ask",
    "BindKernel",
    "Closing",
    "EngineNews",
    "EngineReply",
    "Finished",
    "FromClient",
    "FromEngine",
    "FromHub",
    "Group",
    "Hello",
    "Interrupt",
    "Introduce",
    "LostTask",
    "News",
    "Notice",
    "OutputPiece",
    "Recall",
    "Received",
    "Refused",
    "Register",
    "Released",
    "Requeued",
    "Returned",
    "Run",
    "Safe",
    "Segments",
    "Shutdown",
    "Started",
    "Stop",
    "Stored",
    "Stream",
    "Submit",
    "Task",
    "ToEngine",
    "Welcome",
    "decode_from_client",
    "decode_from_engine",
    "decode_from_hub",
    "decode_to_engine",
    "encode",
]

PROTOCOL = 2
"""Changes whenever two versions could not talk to each other."""

# What a task is: a call, a cell, or a call for each item of a chunk.
CALL, CELL, CHUNK, STAR_CHUNK = range(4)
# How it ended on its engine.
OK, ERROR, PARTIAL = range(3)
# Options, as bits.
SILENT, NO_HISTORY, FIRST = 1, 2, 4


class Task(msgspec.Struct, array_like=True, gc=False):
    """One task on its way to an engine.

    ``function`` is a position in the list of functions of the same message; for a cell that entry
    is its source text.  ``frames`` out-of-band frames of the message belong to the task.
    """

    msg_id: str
    function: int
    arguments: bytes
    frames: int = 0
    kind: int = CALL
    target: int = -1
    label: str | None = None
    retries: int = 0
    options: int = 0
    """Of a cell: SILENT, NO_HISTORY.  Of a call: FIRST, engines that come later run it first."""
    items: int = 1
    """How many items of a map it stands for."""
    timeout: float = 0.0
    """Seconds that the call, or the call for each item, may take; 0: as long as it likes."""


class Group(msgspec.Struct, array_like=True, gc=False):
    """What belongs together: the shape of a map, kept by the hub for whoever comes back."""

    group_id: str
    fname: str
    kind: str
    """``'map'`` or ``'list'``."""
    partition: str = "b"
    ordered: bool = True


# -- client to hub ---------------------------------------------------------------------------------


class Hello(msgspec.Struct, array_like=True, tag=0):
    """A client introduces itself; the answer is Welcome or Refused."""

    session: str
    protocol: int
    package: str
    python: str
    pid: int


class Submit(msgspec.Struct, array_like=True, tag=1):
    """Tasks.  The client keeps the message until the hub says ``Stored`` with its number."""

    functions: list[bytes]
    tasks: list[Task]
    group: Group | None = None
    number: int = 0


class Abort(msgspec.Struct, array_like=True, tag=2):
    """Take back queued tasks; answered with a dict of what happened to each."""

    request: int
    msg_ids: list[str] | None


class Interrupt(msgspec.Struct, array_like=True, tag=3):
    """Signal the engines that run these tasks, or these engines; answered like Abort."""

    request: int
    msg_ids: list[str] | None
    engines: list[int] | None
    signal: int


class Ask(msgspec.Struct, array_like=True, tag=4):
    """A question to the hub, answered with plain data."""

    request: int
    question: str
    about: dict[str, Any]


class Shutdown(msgspec.Struct, array_like=True, tag=5):
    """End the cluster: engines, hub, files."""


@final
class Released(msgspec.Struct, array_like=True, tag=20, gc=False):
    """Segments of shared memory that came and are not used here any more.

    Each with how it was used, as bits (``wire.buffers``).  Also what an engine says.
    """

    segments: list[tuple[str, int]]


class Goodbye(msgspec.Struct, array_like=True, tag=6):
    """The client closes; what it submitted goes on."""


class Received(msgspec.Struct, array_like=True, tag=7):
    """The client has all News up to this number (it counts them from 1)."""

    number: int


FromClient = Hello | Submit | Abort | Interrupt | Ask | Shutdown | Goodbye | Received | Released


# -- engine to hub ---------------------------------------------------------------------------------


class Register(msgspec.Struct, array_like=True, tag=0):
    """An engine introduces itself: when it starts, and to a hub that took the place of another."""

    engine_id: int
    engine_uuid: str
    pid: int
    protocol: int
    package: str
    python: str
    again: bool = False
    unsaved: list[str] = []
    """Tasks that ended and whose ends follow: no hub said that they are stored."""
    held: list[str] = []
    """Tasks that run and wait there, in this order."""
    finished: int = 0
    """How many ends it reported before those that follow."""


@final
class Started(msgspec.Struct, array_like=True, tag=0, gc=False):
    """A task runs, and has for some time: short tasks are not announced."""

    msg_id: str
    engine_id: int
    started: float


@final
class OutputPiece(msgspec.Struct, array_like=True, tag=1, gc=False):
    """More output of a task: encoded records, opened by the client only."""

    msg_id: str
    outputs: bytes


@final
class Finished(msgspec.Struct, array_like=True, tag=2, gc=False):
    """A task ended on its engine.  Times are epoch seconds there; the duration is monotonic."""

    msg_id: str
    status: int
    """OK, ERROR (``body`` is an encoded Failure), PARTIAL (a chunk with failed items)."""
    body: bytes
    frames: int
    started: float
    completed: float
    duration: float
    engine_id: int = -1
    failed_items: int = 0
    lingers: bool = False
    """Threads of the engine go on: they may still print, and that belongs to the task."""


@final
class Returned(msgspec.Struct, array_like=True, tag=3, gc=False):
    """What the hub recalled: given back unstarted, or kept because it runs or has ended."""

    msg_ids: list[str]
    kept: list[str]


class LostTask(msgspec.Struct, array_like=True, tag=4, gc=False):
    """A task ended without an engine's word: its engine died, or it was aborted."""

    msg_id: str
    reason: str
    """``'aborted'``, ``'engine'`` (it died) or ``'timeout'`` (it was killed for that)."""
    details: dict[str, Any]
    engine_id: int = -1


class Requeued(msgspec.Struct, array_like=True, tag=5, gc=False):
    """A task waits again; another engine will run it."""

    msg_id: str


class EngineReply(msgspec.Struct, array_like=True, tag=6):
    """What an engine says to a client that asked it something."""

    session: str
    request: int
    content: Any


class Stream(msgspec.Struct, array_like=True, tag=1):
    """What happened on an engine, in order.  Kept there until the hub says ``Stored``."""

    items: list[Started | OutputPiece | Finished | Returned | Released | EngineReply]
    number: int = 0


FromEngine = Register | Stream


# -- hub to engine ---------------------------------------------------------------------------------


class Run(msgspec.Struct, array_like=True, tag=0):
    functions: list[bytes]
    tasks: list[Task]


class Recall(msgspec.Struct, array_like=True, tag=1):
    """Give back what has not started; None: everything."""

    msg_ids: list[str] | None


class Stop(msgspec.Struct, array_like=True, tag=2):
    """End the process."""


class Stored(msgspec.Struct, array_like=True, tag=8):
    """Everything up to this number of the receiver's messages is on disk."""

    number: int


class Introduce(msgspec.Struct, array_like=True, tag=9):
    """A new hub asks an engine of its predecessor to register again."""


class Segments(msgspec.Struct, array_like=True, tag=20):
    """To their owner: nobody uses these segments any more.  Also what a client hears."""

    free: list[str]
    """It may write there again."""
    drop: list[str]
    """It must not: somebody may look at them still, unknown to the hub."""
    rest: list[str]
    """It may, and does not: it shall give the memory back."""


class BindKernel(msgspec.Struct, array_like=True, tag=3):
    """Be a Jupyter kernel, too; answered with EngineReply."""

    session: str
    request: int
    file: str
    """The connection file to write."""
    sockets: str
    """How the paths of its sockets begin."""


ToEngine = Run | Recall | Stop | BindKernel | Segments | Stored | Introduce


# -- hub to client ---------------------------------------------------------------------------------


class Welcome(msgspec.Struct, array_like=True, tag=0):
    cluster_id: str
    pid: int
    engines: dict[int, dict[str, Any]]
    persist: bool = False
    """When the hub dies, another one takes its place."""
    durable: bool = False
    """The hub says ``Stored`` and wants to hear ``Received``."""


class Refused(msgspec.Struct, array_like=True, tag=1):
    reason: str


class News(msgspec.Struct, array_like=True, tag=2):
    """What happened to the client's tasks, in order."""

    items: list[Started | OutputPiece | Finished | LostTask | Requeued]


class Answer(msgspec.Struct, array_like=True, tag=3):
    request: int
    content: Any


class EngineNews(msgspec.Struct, array_like=True, tag=4):
    """An engine came, died, stopped or went on."""

    engine_id: int
    event: str
    details: dict[str, Any]


class Closing(msgspec.Struct, array_like=True, tag=5):
    """The hub ends; nothing else will come."""

    reason: str


class Notice(msgspec.Struct, array_like=True, tag=6):
    """Something that people should know."""

    text: str


class Safe(msgspec.Struct, array_like=True, tag=7):
    """As ``Stored``, for a client's ``Submit``."""

    number: int


FromHub = Welcome | Refused | News | Answer | EngineNews | Closing | Notice | Safe | Segments

# TypeError: for a dict as a key of a dict, by msgspec up to 0.20.
MALFORMED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError)
"""What the decoders raise for bytes that are no message of theirs."""

encode = msgspec.msgpack.Encoder().encode
decode_from_client = msgspec.msgpack.Decoder(FromClient).decode
decode_from_engine = msgspec.msgpack.Decoder(FromEngine).decode
decode_to_engine = msgspec.msgpack.Decoder(ToEngine).decode
decode_from_hub = msgspec.msgpack.Decoder(FromHub).decode
