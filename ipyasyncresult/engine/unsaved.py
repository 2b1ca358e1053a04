"""What an engine sent and the hub has not said to be stored: a new hub gets it again."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from ipyasyncresult.wire import messages as m

__all__ = ["Unsaved"]


class Unsaved:
    """Messages by number, oldest first.  Only who holds the engine's turn."""

    def __init__(self) -> None:
        self._kept: deque[tuple[int, bytes, Sequence[Any], list[str]]] = deque()
        self._number = 0

    def next_number(self) -> int:
        """For the message that is about to be sent."""
        self._number += 1
        return self._number

    def add(
        self, number: int, header: bytes, frames: Sequence[Any], items: Sequence[object]
    ) -> None:
        """Keep a message that was sent."""
        ended = [item.msg_id for item in items if type(item) is m.Finished]
        self._kept.append((number, header, frames, ended))

    def stored(self, number: int) -> None:
        """Everything up to this number is safe."""
        while self._kept and self._kept[0][0] <= number:
            self._kept.popleft()

    def ended(self) -> list[str]:
        """Tasks whose ends are in the messages."""
        return [msg_id for _, _, _, ended in self._kept for msg_id in ended]

    def messages(self) -> Iterator[tuple[bytes, Sequence[Any]]]:
        """Header and frames of each."""
        return ((header, frames) for _, header, frames, _ in self._kept)
