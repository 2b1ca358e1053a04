"""What leaves a client, and what an interrupt does to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from ipyasyncresult.client import outbox as module
from ipyasyncresult.client.outbox import Outbox
from ipyasyncresult.wire import messages as m


class Wire:
    """Takes the place of ``send``; `interrupt` says whether Ctrl-C comes, and when."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.interrupt = ""

    def send(
        self, _: Any, header: bytes, frames: Sequence[Any] = (), *, track: bool = False
    ) -> None:
        del frames, track
        interrupt, self.interrupt = self.interrupt, ""
        if interrupt == "before":
            raise KeyboardInterrupt
        self.sent.append(m.decode_from_client(header))
        if interrupt == "behind":
            raise KeyboardInterrupt


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    made = Wire()
    monkeypatch.setattr(module, "send", made.send)
    return made


def ids(message: m.Submit) -> list[tuple[str, bytes]]:
    return [(task.msg_id, message.functions[task.function]) for task in message.tasks]


@pytest.mark.parametrize("interrupt", ["before", "behind"])
def test_an_interrupt_at_a_send_loses_no_task(wire: Wire, interrupt: str) -> None:
    outbox = Outbox(object(), lambda: None)
    wire.interrupt = interrupt
    with pytest.raises(KeyboardInterrupt):
        outbox.add(b"f", m.Task("a", 0, b""))
    outbox.add(b"g", m.Task("b", 0, b""))
    outbox.flush()
    # What is sent once more the hub takes once (tests/unit/test_hub_state.py).
    assert ids(wire.sent[-1]) == [("a", b"f"), ("b", b"g")]
    outbox.flush()
    assert len(wire.sent) == (2 if interrupt == "behind" else 1)


def test_the_first_task_leaves_at_once_and_those_right_behind_it_together(wire: Wire) -> None:
    outbox = Outbox(object(), lambda: None)
    outbox.add(b"f", m.Task("a", 0, b""))
    assert [ids(message) for message in wire.sent] == [[("a", b"f")]]
    outbox._last = float("inf")  # as if it had been this moment
    for name in "bcd":
        outbox.add(b"f", m.Task(name, 0, b""))
    assert len(wire.sent) == 1
    outbox.flush()
    assert ids(wire.sent[1]) == [("b", b"f"), ("c", b"f"), ("d", b"f")]
