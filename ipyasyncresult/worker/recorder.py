"""The outputs of one task: ordered, bounded, taken piece by piece while it runs.

Of a task's text the first half of the limit goes out live; from then on a ring keeps the last half,
which follows at the end behind a line that says what was dropped.  Displays have a limit in number
and in bytes, handled alike.  So memory stays flat however much a task prints.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from time import time
from typing import Any, Self

import msgspec

from ipyasyncresult.core.outputs import Output, OutputKind, encode_outputs
from ipyasyncresult.worker.text import encodable

__all__ = ["DISPLAY_BYTES", "DISPLAY_COUNT", "TEXT_CHARACTERS", "LogRecorder", "Recorder"]

TEXT_CHARACTERS = 1_000_000
"""Characters of stream text kept per task."""
DISPLAY_COUNT = 10_000
DISPLAY_BYTES = 64 * 1024 * 1024
"""Displays kept per task, and their size together."""

_PIECE = 8192  # characters that are joined into one string, and dropped together
_LATE_MARK = "\n... more output after the end of the task dropped ...\n"


class _Tail:
    """The last outputs within a limit, and a count of those that had to go."""

    def __init__(self, limit: int, max_items: int) -> None:
        self.limit = limit
        self.max_items = max_items
        self.items: deque[tuple[int, Output]] = deque()
        self.size = 0
        self.dropped = 0  # items
        self.dropped_size = 0
        self.dropped_lines = 0
        self.uncounted = False  # whether there were more lines than that

    def push(self, output: Output, size: int) -> None:
        self.items.append((size, output))
        self.size += size
        while self.size > self.limit or len(self.items) > self.max_items:
            lost_size, lost = self.items.popleft()
            self.size -= lost_size
            self.dropped += 1
            self.dropped_size += lost_size
            self.dropped_lines += lost.text.count("\n")

    def replace_update(self, display_id: str | None) -> None:
        """Forget earlier updates of a display: the next one shows all there is to see."""
        for item in [i for i in self.items if i[1].kind == "update_display_data"]:
            if item[1].display_id == display_id:
                self.items.remove(item)
                self.size -= item[0]


class Recorder:
    """What one task writes, in the order in which it writes.  All methods: any thread."""

    # One lock for all of a process: making one per task costs more than sharing it.  It is
    # reentrant, because a finaliser that prints may run while it is held.
    _lock = threading.RLock()

    # A task that prints nothing should cost nothing: these are set on first use, and there is no
    # `__init__`.
    _kind: OutputKind | None = None  # of the last text
    _size = 0  # characters in `_raw`, about
    _time = 0.0  # of the first text of `_kind` in a row
    _displays_left = DISPLAY_COUNT
    _display_bytes_left = DISPLAY_BYTES
    _text_tail: _Tail | None = None
    _display_tail: _Tail | None = None
    _on_late: Callable[[Recorder], object] | None = None
    _announced = False  # `_on_late` was told of what is there to take
    _finished = False
    _late_is_full = False
    _raw: deque[tuple[OutputKind, float, str]] | None = None
    """Appended to without the lock, by any thread; emptied with it."""
    _outputs: list[Output] | tuple[()] = ()
    _limit = TEXT_CHARACTERS
    _room = TEXT_CHARACTERS // 2  # characters that may still go out live

    @classmethod
    def limited(cls, limit: int) -> Self:
        """One that keeps so many characters of text at most."""
        recorder = cls()
        recorder._limit, recorder._room = limit, limit // 2
        return recorder

    @classmethod
    def renew_lock(cls) -> None:
        """After a fork, in the child."""
        cls._lock = threading.RLock()

    def write(self, kind: OutputKind, text: str) -> None:
        """Add text to a stream."""
        raw = self._raw
        if raw is None:  # several threads may be the first
            raw = vars(self).setdefault("_raw", deque())
        if not raw or kind != self._kind:
            self._kind = kind
            self._time = time()
        raw.append((kind, self._time, text))
        self._size += len(text)
        if self._size > _PIECE:
            with self._lock:
                self._cut()
        if self._on_late is not None:
            self._announce()

    def display(
        self,
        kind: OutputKind,
        data: dict[str, Any],
        metadata: dict[str, Any] | None = None,
        *,
        display_id: str | None = None,
        execution_count: int | None = None,
    ) -> Output:
        """Add a rich display: ``display_data``, ``execute_result`` or ``update_display_data``.

        Gives the record that was added.  In it, bytes are base64 text as in the Jupyter protocol,
        and objects that JSON does not know are their repr.
        """
        output = Output(
            kind,
            time(),
            data=_to_json(data),
            metadata=_to_json(metadata or {}),
            display_id=display_id,
            execution_count=execution_count,
        )
        self._add_display(output, len(encode_outputs([output])))
        return output

    def clear(self, wait: bool = False) -> None:
        """Clear what a viewer sees; with `wait`, only when the next output comes."""
        self._add_display(Output("clear_output", time(), wait=wait), 1)

    def skip(self, kind: OutputKind, size: int) -> None:
        """Count text that nobody read: a child process wrote faster than we could read."""
        with self._lock:
            self._cut()
            tail = self._tail_of_text()
            tail.dropped += 1
            tail.dropped_size += size
            tail.uncounted = True
            self._room = 0

    def take(self) -> list[Output]:
        """The outputs that were added since the last call, and that may go out already."""
        if not self._raw and not self._outputs:
            return []
        with self._lock:
            self._cut()
            outputs, self._outputs = self._outputs, ()
            self._announced = False
        return list(outputs if len(outputs) == 1 else _merged(outputs))

    def finish(self, on_late: Callable[[Recorder], object] | None = None) -> None:
        """The task ended: what was held back comes out with the next :meth:`take`.

        Parameters
        ----------
        on_late : callable
            Called with this recorder, on the writing thread, when a thread of the task writes
            after its end and there was nothing to take before.
        """
        if self._text_tail or self._display_tail or self._size > self._room:
            self._release()
        self._room = max(self._room, self._limit // 4)  # for what comes late
        self._finished = True
        if on_late is not None:
            self._on_late = on_late

    def end(self) -> list[Output]:
        """:meth:`finish` and :meth:`take`, for who takes nothing later."""
        if self._raw is None and not self._outputs:
            return []
        self.finish()
        return self.take()

    def _keep(self, output: Output) -> None:
        if self._outputs:
            self._outputs.append(output)
        else:
            self._outputs = [output]

    def _release(self) -> None:
        """Let go what was held back."""
        with self._lock:
            self._cut()
            self._outputs = [*self._outputs, *self._held_back()]
            self._text_tail = self._display_tail = None

    def _announce(self) -> None:
        with self._lock:
            announced, self._announced = self._announced, True
        if not announced and self._on_late is not None:
            self._on_late(self)

    def _cut(self) -> None:
        """Join the text collected so far, stream by stream."""
        raw = self._raw
        self._size = 0
        texts: list[str] = []
        while raw:
            kind, when, text = raw.popleft()
            texts.append(text)
            if not raw or raw[0][0] != kind:
                if joined := "".join(texts):
                    self._add_text(Output(kind, when, encodable(joined)))
                texts.clear()

    def _add_text(self, output: Output) -> None:
        text, room = output.text, self._room
        if len(text) <= room:
            self._room = room - len(text)
            self._keep(output)
            return
        if room:
            self._keep(msgspec.structs.replace(output, text=text[:room]))
            self._room = 0
        if self._finished:  # nobody would let a tail go
            if not self._late_is_full:
                self._late_is_full = True
                self._keep(Output(output.kind, output.time, _LATE_MARK))
            return
        tail, step = self._tail_of_text(), min(_PIECE, max(self._limit // 16, 1))
        for start in range(room, len(text), step):
            piece = text[start : start + step]
            tail.push(msgspec.structs.replace(output, text=piece), len(piece))

    def _tail_of_text(self) -> _Tail:
        if self._text_tail is None:
            self._text_tail = _Tail(self._limit // 2, max_items=10_000)
        return self._text_tail

    def _add_display(self, output: Output, size: int) -> None:
        with self._lock:
            self._cut()
            is_update = output.kind == "update_display_data"
            if is_update and self._outputs and _same_display(self._outputs[-1], output):
                self._outputs[-1] = output  # nobody saw the one before
            elif self._displays_left > 0 and self._display_bytes_left >= size:
                self._displays_left -= not is_update
                self._display_bytes_left -= size
                self._keep(output)
            else:
                self._displays_left = 0
                if self._display_tail is None:
                    self._display_tail = _Tail(DISPLAY_BYTES // 8, max_items=100)
                if is_update:
                    self._display_tail.replace_update(output.display_id)
                self._display_tail.push(output, size)
        if self._on_late is not None:
            self._announce()

    def _held_back(self) -> Iterator[Output]:
        held: list[Output] = []
        for tail, mark in ((self._text_tail, _text_mark), (self._display_tail, _display_mark)):
            if tail is None:
                continue
            items = [output for _, output in tail.items]
            if tail.dropped:
                on_stderr = bool(items) and items[0].kind == "stderr"
                when = items[0].time if items else time()
                held.append(Output("stderr" if on_stderr else "stdout", when, mark(tail)))
            held.extend(items)
        yield from sorted(held, key=lambda output: output.time)


class LogRecorder(Recorder):
    """What is written between tasks.  It has no end, so the limit is for each :meth:`take`."""

    def take(self) -> list[Output]:
        if not self._raw and not self._outputs:
            return []
        with self._lock:
            self._release()
            outputs = super().take()
            self._room = self._limit // 2
            self._displays_left, self._display_bytes_left = DISPLAY_COUNT, DISPLAY_BYTES
        return outputs


def _to_json(value: dict[str, Any]) -> Any:
    cleaned = msgspec.to_builtins(value, str_keys=True, enc_hook=_safe_repr)
    return {key: encodable(v) if isinstance(v, str) else v for key, v in cleaned.items()}


def _same_display(one: Output, other: Output) -> bool:
    return one.kind == other.kind and one.display_id == other.display_id


def _safe_repr(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001  user code
        return f"<{type(value).__name__}>"


def _merged(outputs: Iterable[Output]) -> Iterator[Output]:
    for kind, group in groupby(outputs, key=lambda output: output.kind):
        if kind not in ("stdout", "stderr"):
            yield from group
            continue
        pieces = list(group)
        text = "".join([piece.text for piece in pieces])
        yield pieces[0] if len(pieces) == 1 else msgspec.structs.replace(pieces[0], text=text)


def _text_mark(tail: _Tail) -> str:
    more = "more than " if tail.uncounted else ""
    lines, size = tail.dropped_lines, tail.dropped_size
    return f"\n... {more}{lines:,} lines ({size:,} characters) dropped ...\n"


def _display_mark(tail: _Tail) -> str:
    return f"\n... {tail.dropped:,} displays ({tail.dropped_size:,} bytes) dropped ...\n"
