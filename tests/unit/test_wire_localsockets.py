"""Lines and doors over Unix sockets, within one process."""

from __future__ import annotations

import os
import random
import resource
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipyasyncresult.wire import localsockets
from ipyasyncresult.wire.localsockets import LocalDoor, LocalLine
from ipyasyncresult.wire.localstream import AT_ONCE, MAX_BYTES
from ipyasyncresult.wire.sockets import MAX_FRAMES, make_poll

LONG = 10_000
"""Milliseconds; never reached, but a broken test ends."""

Message = tuple[bytes, list[bytes]]


@pytest.fixture
def door(tmp_path: Path) -> Iterator[LocalDoor]:
    made = LocalDoor(tmp_path / "door")
    yield made
    made.close()


@pytest.fixture
def new_line(tmp_path: Path, door: LocalDoor) -> Iterator[Callable[[bytes], LocalLine]]:
    """Makes lines to the door, of which it knows when they are made."""
    made: list[LocalLine] = []

    def make(identity: bytes) -> LocalLine:
        made.append(LocalLine(tmp_path / "door", identity))
        assert made[-1].connect()
        while not door.send(identity, b"welcome"):
            assert make_poll([door.handle])(LONG)
            assert door.take() == []
        hear(made[-1], 1)
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def raw(tmp_path: Path, door: LocalDoor) -> Iterator[socket.socket]:
    """A plain socket to the door: what is sent there is anything."""
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(LONG / 1000)
        channel.connect(str(tmp_path / "door"))
        yield channel


def plain(header: bytes, frames: Sequence[Any]) -> Message:
    return header, [bytes(frame) for frame in frames]


def take(door: LocalDoor, count: int) -> list[Message]:
    """So many messages that the door took in."""
    taken: list[Message] = []
    while len(taken) < count:
        assert make_poll([door.handle])(LONG), "no message comes"
        taken += [plain(header, frames) for _, header, frames in door.take()]
    return taken


def hear(line: LocalLine, count: int) -> list[Message]:
    """So many messages that came on the line."""
    heard: list[Message] = []
    while len(heard) < count:
        assert make_poll([line.handle])(LONG), "no message comes"
        heard += [plain(*message) for message in line.take()]
    return heard


def encoded(header: bytes, frames: Sequence[bytes] = ()) -> bytes:
    sizes = [len(frame) for frame in frames]
    numbers = struct.pack(f"={2 + len(sizes)}Q", len(header), len(sizes), *sizes)
    return b"".join([numbers, header, *frames])


def is_closed(channel: socket.socket) -> bool:
    """Whether the other side closed it, also with something unread."""
    try:
        return channel.recv(1) == b""
    except ConnectionResetError:
        return True


def turned_away(door: LocalDoor, channel: socket.socket, count: int = 1) -> bool:
    while door.malformed < count:
        assert make_poll([door.handle])(LONG)
        assert door.take() == []
    return is_closed(channel)


# ------------------------------------------------------------------------------------- messages


def test_messages_arrive_whole_and_in_order(
    door: LocalDoor, new_line: Callable[[bytes], LocalLine]
) -> None:
    line = new_line(b"me")
    sent: list[Message] = [
        (b"header", []),
        (b"", []),
        (b"frames", [b"one", b"", b"three"]),
        (b"x" * 100_000, []),
        (b"last", [b""]),
    ]
    for header, frames in sent:
        line.send(header, frames)
    assert take(door, len(sent)) == sent
    for header, frames in sent:
        assert door.send(b"me", header, frames)
    assert hear(line, len(sent)) == sent


def test_it_is_known_who_sent_what(door: LocalDoor, new_line: Callable[[bytes], LocalLine]) -> None:
    for name, line in [(name, new_line(name)) for name in (b"a", b"b")]:
        line.send(b"from " + name)
    taken: dict[bytes, bytes] = {}
    while len(taken) < 2:
        assert make_poll([door.handle])(LONG)
        taken.update({identity: header for identity, header, _ in door.take()})
    assert taken == {b"a": b"from a", b"b": b"from b"}


MESSAGES: list[Message] = [
    (b"first", []),
    (b"second", [b"ab", b"", b"c"]),
    (b"", []),
    (b"third", [b"d" * 9]),
]


def test_a_message_may_be_cut_anywhere(door: LocalDoor, raw: socket.socket) -> None:
    """Also between any two bytes of its numbers."""
    data = encoded(b"me") + b"".join(encoded(*message) for message in MESSAGES)
    taken: list[Message] = []
    for position in range(len(data)):
        raw.sendall(data[position : position + 1])
        taken += [plain(header, frames) for _, header, frames in door.take()]
    taken += take(door, len(MESSAGES) - len(taken))
    assert taken == MESSAGES


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    sizes=st.lists(
        st.tuples(
            st.integers(0, 70_000), st.lists(st.integers(0, 300_000), max_size=3), st.booleans()
        ),
        min_size=1,
        max_size=6,
    ),
    cuts=st.lists(st.integers(500, 100_000), min_size=1, max_size=8),
)
def test_messages_of_any_size_cut_in_any_way(
    sizes: list[tuple[int, list[int], bool]], cuts: list[int], tmp_path_factory: Any
) -> None:
    path = tmp_path_factory.mktemp("d") / "door"
    draw = random.Random(0)
    sent = [
        (draw.randbytes(size), [draw.randbytes(length) for length in lengths] if with_them else [])
        for size, lengths, with_them in sizes
    ]
    data = memoryview(encoded(b"me") + b"".join(encoded(*message) for message in sent))
    door = LocalDoor(path)
    taken: list[Message] = []
    with socket.socket(socket.AF_UNIX) as channel:
        channel.connect(str(path))
        channel.setblocking(False)
        turn = 0
        while data:
            try:
                data = data[channel.send(data[: cuts[turn % len(cuts)]]) :]
            except BlockingIOError:
                assert make_poll([door.handle])(LONG)
            turn += 1
            taken += [plain(header, frames) for _, header, frames in door.take()]
        taken += take(door, len(sent) - len(taken))
    door.close()
    assert taken == sent


def test_large_frames_keep_their_own_memory_and_cannot_be_written(
    door: LocalDoor, new_line: Callable[[bytes], LocalLine]
) -> None:
    line = new_line(b"me")
    frames = [os.urandom(3_000_000), os.urandom(100_000), b"small"]
    line.send(b"header", frames)
    taken: list[Any] = []
    while not taken:
        line.flush()
        assert make_poll([door.handle])(LONG)
        taken += door.take()
    [(_, _, received)] = taken
    assert [bytes(frame) for frame in received] == frames
    assert all(frame.readonly for frame in received)


# ---------------------------------------------------------------------------- no room, nobody there


def test_a_peer_that_takes_nothing_stalls_nobody(
    door: LocalDoor, new_line: Callable[[bytes], LocalLine]
) -> None:
    deaf, other = new_line(b"deaf"), new_line(b"other")
    large = os.urandom(100_000)
    for number in range(50):
        assert door.send(b"deaf", str(number).encode(), [large])
        assert door.send(b"other", str(number).encode())
        assert hear(other, 1) == [(str(number).encode(), [])]
    heard: list[Message] = []
    while len(heard) < 50:  # it listens again: everything is there
        assert make_poll([deaf.handle])(LONG)
        heard += [plain(*message) for message in deaf.take()]
        door.take()
    assert heard == [(str(number).encode(), [large]) for number in range(50)]


def fill(line: LocalLine) -> int:
    """Send until it does not fit any more; how many messages that were."""
    count = 0
    while not line.unsent:
        line.send(str(count).encode())
        count += 1
    return count


def test_what_does_not_fit_waits_and_leaves_in_order(
    door: LocalDoor, new_line: Callable[[bytes], LocalLine]
) -> None:
    line = new_line(b"me")
    count = fill(line)
    line.send(str(count).encode(), [b"frame"])
    line.wait_for_room(0)
    assert not line.flush()
    taken: list[Message] = []
    while len(taken) < count + 1:
        assert make_poll([door.handle])(LONG)
        taken += [plain(header, frames) for _, header, frames in door.take()]
        line.flush()
    assert taken == [(str(n).encode(), []) for n in range(count)] + [
        (str(count).encode(), [b"frame"])
    ]
    assert not line.unsent


def test_of_a_small_message_the_kernel_takes_all_or_nothing(
    door: LocalDoor, new_line: Callable[[bytes], LocalLine]
) -> None:
    """What clients stand on that do not hold interrupts back while they send one task."""
    draw = random.Random(0)
    for line in [new_line(str(number).encode()) for number in range(30)]:
        size = 0
        while not line.unsent:
            size = draw.choice([10, 500, 5_000, AT_ONCE - 16])
            line.send(draw.randbytes(size))
        assert [len(one) for one in line.unsent] == [size + 16]


def test_who_is_gone_is_not_reached(
    door: LocalDoor, new_line: Callable[[bytes], LocalLine]
) -> None:
    assert not door.send(b"nobody", b"header")
    line = new_line(b"me")
    line.send(b"last")
    line.close()
    assert take(door, 1) == [(b"last", [])]  # what it said is heard
    while door.send(b"me", b"header", [b"frame"]):
        door.take()


def test_what_a_peer_said_is_heard_although_it_takes_nothing_any_more(
    door: LocalDoor, new_line: Callable[[bytes], LocalLine]
) -> None:
    """A result that an engine sent before it died."""
    line = new_line(b"me")
    door.send(b"me", b"much", [bytes(5_000_000)])  # most of it is still here
    line.send(b"result", [b"x" * 100_000])
    line.close()
    assert not door.send(b"me", b"more")
    assert not door.send(b"me", b"more")
    assert take(door, 1) == [(b"result", [b"x" * 100_000])]
    assert door.take() == []


def test_a_line_notices_that_the_hub_is_gone_and_finds_the_next_one(
    tmp_path: Path, door: LocalDoor, new_line: Callable[[bytes], LocalLine]
) -> None:
    line = new_line(b"me")
    door.send(b"me", b"last")
    door.close()
    assert hear(line, 1) == [(b"last", [])]
    assert line.take() == ()
    assert line.lost
    line.send(b"nobody hears it")
    line.send(b"nor this", [b"x" * 1_000_000])
    assert not line.unsent
    assert not line.connect()
    # As a hub leaves it that was killed.
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "door"))
    assert not line.connect()
    other = LocalDoor(tmp_path / "door")
    assert line.connect()
    line.send(b"hello")
    assert take(other, 1) == [(b"hello", [])]
    other.close()


def test_half_a_message_of_one_who_died_is_nothing(door: LocalDoor, raw: socket.socket) -> None:
    raw.sendall(encoded(b"me") + encoded(b"whole") + encoded(b"half", [b"x" * 100_000])[:50_000])
    assert take(door, 1) == [(b"whole", [])]
    raw.close()
    while door.send(b"me", b"anybody"):
        assert door.take() == []
    assert door.malformed == 0


# ------------------------------------------------------------------------------------- strangers


@pytest.mark.parametrize(
    "numbers",
    [
        (0, MAX_FRAMES + 1),
        (MAX_BYTES, 0),
        ((1 << 64) - 1, 0),
        (0, (1 << 64) - 1),
        (5, 1, MAX_BYTES),
        (5, 2, (1 << 64) - 1, (1 << 64) - 1),
    ],
)
def test_a_malformed_message_costs_its_sender_the_connection(
    door: LocalDoor,
    raw: socket.socket,
    new_line: Callable[[bytes], LocalLine],
    numbers: tuple[int, ...],
) -> None:
    other = new_line(b"other")
    raw.sendall(encoded(b"me") + struct.pack(f"={len(numbers)}Q", *numbers))
    assert turned_away(door, raw)
    other.send(b"header")
    assert take(door, 1) == [(b"header", [])]


def test_whose_connection_ended_is_told_when_all_that_was_sent_is_taken(
    door: LocalDoor, raw: socket.socket, new_line: Callable[[bytes], LocalLine]
) -> None:
    ended: list[bytes] = []
    door.on_end = ended.append
    raw.sendall(encoded(b"me") + encoded(b"last words"))
    assert take(door, 1) == [(b"last words", [])]
    assert ended == []
    raw.sendall(b"\xff" * 16)
    assert turned_away(door, raw)
    assert ended == [b"me"]
    other = new_line(b"other")
    other.send(b"header")
    assert take(door, 1) == [(b"header", [])]
    door.end(b"other")
    door.end(b"nobody")
    assert not other.take()
    assert other.lost
    assert ended == [b"me", b"other"]


@pytest.mark.parametrize(
    "first",
    [
        encoded(b""),
        encoded(b"x" * 256),
        encoded(b"me", [b"frame"]),
        struct.pack("=QQ", 1 << 30, 0),
        b"\xff" * 100,
    ],
)
def test_who_does_not_say_who_it_is_is_turned_away(
    door: LocalDoor, raw: socket.socket, first: bytes
) -> None:
    raw.sendall(first)
    assert turned_away(door, raw)


def test_a_name_belongs_to_who_came_first(
    door: LocalDoor, raw: socket.socket, new_line: Callable[[bytes], LocalLine]
) -> None:
    line = new_line(b"me")
    raw.sendall(encoded(b"me") + encoded(b"a lie"))
    assert turned_away(door, raw)
    assert door.send(b"me", b"for me")
    assert hear(line, 1) == [(b"for me", [])]


def test_who_announces_much_takes_no_memory_by_it(door: LocalDoor, raw: socket.socket) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    raw.sendall(encoded(b"me") + struct.pack("=QQQ", 1, 1, 1 << 33) + b"h")
    while not door.send(b"me", b"header"):
        door.take()
    assert door.take() == []
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KB


def test_who_sends_more_than_there_is_memory_for_is_turned_away(
    door: LocalDoor, raw: socket.socket, new_line: Callable[[bytes], LocalLine]
) -> None:
    other = new_line(b"other")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 37, hard))
    try:
        raw.sendall(encoded(b"me") + struct.pack("=QQQ", 1, 1, 1 << 38) + b"h")
        assert turned_away(door, raw)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    other.send(b"header")
    assert take(door, 1) == [(b"header", [])]


def test_another_user_is_turned_away(
    door: LocalDoor, raw: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: -1)
    monkeypatch.setattr(localsockets, "_ROOT", -1)
    assert make_poll([door.handle])(LONG)
    assert door.take() == []
    assert is_closed(raw)


def test_a_door_without_descriptors_listens_again_when_somebody_leaves(
    tmp_path: Path, door: LocalDoor, new_line: Callable[[bytes], LocalLine]
) -> None:
    line = new_line(b"leaves")
    waits = LocalLine(tmp_path / "door", b"waits")
    assert waits.connect()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (door.handle + 1, hard))
    try:
        assert door.take() == []
        assert not make_poll([door.handle])(0)  # and does not turn round and round
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    line.close()
    waits.send(b"header")
    assert take(door, 1) == [(b"header", [])]
    waits.close()
