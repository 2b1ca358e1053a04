"""Contents of tasks, read again from the store."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from ipyasyncresult.wire import messages as m

if TYPE_CHECKING:
    from ipyasyncresult.hub.records import HubTask
    from ipyasyncresult.hub.store import Store

__all__ = ["Pager"]

_KEPT_ROWS = 16  # neighbours in a result are neighbours in a row


class StreamRow:
    """A message of an engine, by task."""

    __slots__ = ("ends", "pieces")

    def __init__(self, body: bytes) -> None:
        self.ends: dict[str, tuple[m.Finished, int]] = {}  # with the position of its first frame
        self.pieces: dict[str, list[m.OutputPiece]] = {}
        message = m.decode_from_engine(body)
        position = 0
        for item in message.items if isinstance(message, m.Stream) else ():
            if type(item) is m.Finished:
                self.ends.setdefault(item.msg_id, (item, position))
                position += item.frames
            elif type(item) is m.OutputPiece:
                self.pieces.setdefault(item.msg_id, []).append(item)


class Pager:
    """Reads what left the hub's memory.  The hub's thread only.

    Parameters
    ----------
    store : Store
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rows: dict[int, StreamRow] = {}

    def has(self, row: int) -> bool:
        """Whether a row is on disk."""
        return 0 < row <= self._store.stored

    def _row(self, seq: int) -> StreamRow:
        row = self._rows.get(seq)
        if row is None:
            row = StreamRow(self._store.read(seq))
            if len(self._rows) >= _KEPT_ROWS:
                del self._rows[next(iter(self._rows))]
            self._rows[seq] = row
        return row

    def replay(self, held: HubTask, *, outputs: bool = True) -> Iterator[tuple[Any, Sequence[Any]]]:
        """Everything that was said about a task that ended, or without its `outputs`."""
        try:
            if outputs:
                yield from self._outputs(held)
            yield self._end(held)
        except (sqlite3.Error, KeyError, *m.MALFORMED) as error:
            reason = f"its result cannot be read from the store: {error!r}"
            yield m.LostTask(held.task.msg_id, "store", {"reason": reason}), ()

    def _outputs(self, held: HubTask) -> Iterator[tuple[Any, Sequence[Any]]]:
        for seq in dict.fromkeys(held.output_rows or ()):
            for piece in self._row(seq).pieces[held.task.msg_id]:
                yield piece, ()

    def _end(self, held: HubTask) -> tuple[Any, Sequence[Any]]:
        final = held.final
        if not isinstance(final, m.Finished):
            return final, ()
        item, position = self._row(held.final_row).ends[held.task.msg_id]
        frames: Sequence[Any] = ()
        if item.frames:
            frames = self._store.read_frames(held.final_row, position, item.frames)
        # What was one reference may be several buffers now.
        item = msgspec.structs.replace(item, engine_id=final.engine_id, frames=len(frames))
        return item, frames

    def load_work(self, held: HubTask, *, shared: bool = False) -> bool:
        """Put function and arguments back into the record, if they are still kept.

        With `shared`, large ones as references if the shared memory still has them.
        """
        try:
            message = m.decode_from_client(self._store.read(held.submit_row))
            assert isinstance(message, m.Submit)
            msg_id = held.task.msg_id
            task = next(task for task in message.tasks if task.msg_id == msg_id)
            if task.frames:
                held.frames = self._store.read_frames(
                    held.submit_row, held.first_frame, task.frames, shared=shared
                )
                held.task.frames = len(held.frames)
        except (sqlite3.Error, KeyError, StopIteration, *m.MALFORMED):
            return False
        held.task.arguments = task.arguments
        held.function = message.functions[task.function]
        return True

    def drop_frames(self, held: HubTask) -> None:
        """The arguments of a task that ended well are not needed again."""
        self._store.delete_frames(held.submit_row, held.first_frame, held.frame_count)
