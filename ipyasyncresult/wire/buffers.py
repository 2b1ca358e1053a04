"""Large buffers on their way: a message carries either the bytes or a reference to shared memory.

A reference is a frame of a few bytes in the place of the buffers.  Hub, archive and store treat
both kinds alike: as frames that are not opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

if TYPE_CHECKING:
    from ipyasyncresult.wire.messages import Segments
    from ipyasyncresult.wire.sharedmemory import Mappings, SegmentPool

__all__ = [
    "KEPT_APART",
    "READ",
    "BufferList",
    "Buffers",
    "LostBuffers",
    "Reference",
    "bytes_behind",
    "encode_reference",
    "next_name",
    "previous_name",
    "reference_of",
]

_MARK = b"\x00ipyasyncresult-segment\x00"
_LONGEST = 1 << 16  # bytes; a frame with data is never so short: see OUT_OF_BAND_BYTES

# How a segment comes back, as bits.
READ, KEPT_APART = 1, 2
"""READ: somebody looked at it.  KEPT_APART: another process may see it still (this one forked), so
nothing else may ever be written there."""


class Reference(msgspec.Struct, array_like=True, gc=False):
    """Where buffers lie: in one segment, one span ``(start, length)`` each.

    ``name`` is ``OWNER.NUMBER.USE``, and of its file.  The hub renames it as soon as nobody uses
    it, before its owner hears of that: a reference never leads to what it was not made for.
    """

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9]+\.[0-9]+\.[0-9]+$", max_length=80)]
    size: int
    """Bytes of memory that the segment takes."""
    spans: list[tuple[int, int]]

    @property
    def owner(self) -> str:
        """The session or engine that wrote it, and may write there again."""
        return self.name.partition(".")[0]

    @property
    def place(self) -> str:
        """The segment, whatever its use."""
        return self.name.rpartition(".")[0]


def next_name(name: str) -> str:
    """Of the same segment, for its next use."""
    place, _, use = name.rpartition(".")
    return f"{place}.{int(use) + 1}"


def previous_name(name: str) -> str:
    """Of the same segment, at its use before."""
    place, _, use = name.rpartition(".")
    return f"{place}.{int(use) - 1}"


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Reference).decode


def encode_reference(reference: Reference) -> bytes:
    """As a frame."""
    return _MARK + _encode(reference)


def reference_of(frame: Any) -> Reference | None:
    """The reference that a frame is, None when it is the data itself.  Never raises."""
    if len(frame) >= _LONGEST:
        return None
    data = frame if type(frame) is bytes else bytes(memoryview(frame))
    if not data.startswith(_MARK):
        return None
    try:
        return _decode(memoryview(data)[len(_MARK) :])
    except msgspec.MsgspecError:
        return None


def bytes_behind(frame: Any) -> int:
    """Of the data that a frame is, or to which it refers."""
    reference = reference_of(frame)
    return len(frame) if reference is None else sum([length for _, length in reference.spans])


class LostBuffers:
    """In the place of buffers whose memory was given back; says so when it is looked at."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference

    def __iter__(self) -> Iterator[Any]:
        raise BufferError(
            f"its data ({self._reference.size / 1e6:.0f} MB in shared memory) is not kept any "
            "more: large results are, as long as somebody holds them"
        )


class Buffers:
    """Both ways between buffers and frames, for one client or one engine.

    Parameters
    ----------
    folder : Path or None
        Of the cluster's shared memory; None: everything travels inside the messages.
    owner : str
        Session or engine: nobody else writes segments of this name.
    released : callable
        Called with the name and the bits of a segment that was received and is no longer used
        here: from any thread, also from within the garbage collector.
    reclaim : callable
        Called before new memory is taken: what came back may be known to the hub only.
    """

    def __init__(
        self,
        folder: Path | None,
        owner: str,
        released: Callable[[str, int], None],
        reclaim: Callable[[], None],
    ) -> None:
        self._folder = folder
        self._owner = owner
        self._released = released
        self._reclaim = reclaim
        self._pool: SegmentPool | None = None
        self._mappings: Mappings | None = None

    def pack(self, buffers: Sequence[memoryview]) -> Sequence[Any]:
        """Frames for these buffers.  They must live until the message has left.  Any thread.

        What came through shared memory itself goes on without a copy, everything else is copied
        once, into memory that was used before if there is some.
        """
        if self._folder is None or not buffers:
            return buffers
        frames: list[Any] = []
        fresh: list[memoryview] = []
        for buffer in buffers:
            known = self._mappings.find(buffer) if self._mappings and buffer.readonly else None
            if known is None:
                fresh.append(buffer)
                continue
            frames += self._write(fresh)
            fresh = []
            frames.append(encode_reference(known))
        return [*frames, *self._write(fresh)]

    def _write(self, buffers: list[memoryview]) -> Sequence[Any]:
        if not buffers:
            return ()
        if self._pool is None:
            from ipyasyncresult.wire.segmentowner import name_owner
            from ipyasyncresult.wire.sharedmemory import SegmentPool

            assert self._folder is not None
            name_owner(self._folder, self._owner)
            self._pool = SegmentPool(self._folder, self._owner, self._reclaim)
        reference = self._pool.write(buffers)
        return buffers if reference is None else [encode_reference(reference)]

    def unpack(self, frames: Iterable[Any]) -> Sequence[Any]:
        """What :class:`BufferList` takes: to be called once, when the message comes.

        Shared memory is mapped at once, so that it stays when the cluster is gone.
        """
        received = []
        for frame in frames:
            reference = reference_of(frame)
            received.append(frame if reference is None else self._map(reference))
        return received

    def _map(self, reference: Reference) -> Any:
        if self._folder is None:
            return LostBuffers(reference)
        if self._mappings is None:
            from ipyasyncresult.wire.sharedmemory import Mappings

            self._mappings = Mappings(self._folder, self._released)
        return self._mappings.map(reference)

    def heed(self, message: Segments) -> None:
        """What the hub says about segments of ours: nobody uses them any more, they never come
        back, or they are free for long."""
        if self._pool is not None:
            self._pool.recycle(message.free)
            self._pool.drop(message.drop, message.rest)

    def spell_out(self, frames: Sequence[Any]) -> list[Any]:
        """The same without references to memory of our own."""
        spelt: list[Any] = []
        for frame in frames:
            reference = reference_of(frame)
            ours = None if reference is None or self._pool is None else self._pool.read(reference)
            spelt += [frame] if ours is None else ours
        return spelt

    def is_in(self, folder: Path | None) -> bool:
        """Whether that is the shared memory that is used."""
        return folder == self._folder

    def move(self, folder: Path | None) -> None:
        """Another cluster took the place of the one that died, all its processes included.

        What is mapped stays as long as it is used.
        """
        if not self.is_in(folder):
            self.close()
            self._mappings = None
            self._folder = folder

    def close(self) -> None:
        """Write no more.  What was received stays as long as it is used."""
        self._folder = None
        if self._mappings is not None:
            self._mappings.silent = True
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()


class BufferList:
    """The buffers of a message whose frames went through :meth:`Buffers.unpack`."""

    __slots__ = ("_received",)

    def __init__(self, received: Sequence[Any]) -> None:
        self._received = received

    def __iter__(self) -> Iterator[Any]:
        for one in self._received:
            if hasattr(one, "buffer"):  # zmq.Frame
                yield one.buffer
            elif isinstance(one, memoryview):
                yield one
            else:
                yield from one
