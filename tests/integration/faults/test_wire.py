"""Peers that send what nobody should send, or are not who they say."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import zmq

import ipyasyncresult as ipar
from ipyasyncresult.errors import HubError, VersionMismatch
from ipyasyncresult.wire import messages as m
from ipyasyncresult.wire.runtime import cluster_folder
from tests.integration.conftest import hub_of, processes_of
from tests.integration.faults.conftest import SOON
from tests.integration.faults.peers import Peer, intruder

if TYPE_CHECKING:
    from tests.integration.conftest import NewGate, StartPython
    from tests.integration.faults.conftest import Mortal


def dropped(client: ipar.Client) -> int:
    count: int = client._connection.ask("status")["dropped_messages"]
    return count


def wait_for_drops(client: ipar.Client, count: int) -> None:
    deadline = time.monotonic() + SOON
    while dropped(client) < count:
        assert time.monotonic() < deadline, f"{dropped(client)} of {count} were dropped"


# ------------------------------------------------------------------------------------ malformed


@pytest.mark.parametrize("door", ["clients", "engines"])
def test_what_is_no_message_is_dropped_and_counted(mortal: Mortal, door: str) -> None:
    before = dropped(mortal.client)
    with intruder(mortal.client.cluster_id) as other:
        peer = other.open(door, b"Cnobody")
        for header in (b"", b"\xc1", b"\x91", b"\x92\x00", b"x" * 100):
            peer.send(header)
        peer.send(b"", [b""])
        wait_for_drops(mortal.client, before + 6)
    assert mortal.client[:].apply_sync(abs, -3) == [3, 3]


def test_a_peer_that_did_not_introduce_itself_is_not_heard(mortal: Mortal) -> None:
    before = dropped(mortal.client)
    with intruder(mortal.client.cluster_id) as other:
        socket = other.open("clients", b"C" + other.session.encode())
        task = m.Task(f"{other.session}-0", 0, b"")
        socket.send(m.encode(m.Submit([b"function"], [task])))
        socket.send(m.encode(m.Shutdown()))
        wait_for_drops(mortal.client, before + 2)
    assert mortal.client[:].apply_sync(abs, -3) == [3, 3]


def test_what_an_earlier_connection_of_a_session_brings_late_is_not_heard(mortal: Mortal) -> None:
    """It would hide what was sent before it to a hub that died, and is sent again."""
    before = dropped(mortal.client)
    with intruder(mortal.client.cluster_id) as other:
        session = other.session.encode()
        heard = other.open("clients", b"C" + session + b"1")
        heard.send(m.encode(other.hello()))
        assert isinstance(m.decode_from_hub(heard.answer()[0]), m.Welcome)
        submit = m.encode(m.Submit([b"function"], [m.Task(f"{other.session}-0", 0, b"")]))
        late, now = (other.open("clients", b"S" + session + number) for number in (b"0", b"1"))
        late.send(submit)
        wait_for_drops(mortal.client, before + 1)
        now.send(submit)
        assert isinstance(m.decode_from_hub(heard.answer()[0]), m.News)
    assert dropped(mortal.client) == before + 1


def test_a_flood_of_junk_leaves_the_hub_at_work(mortal: Mortal) -> None:
    """50,000 messages: nobody can send them but the user's own processes, and they do no harm."""
    count = 50_000
    before = dropped(mortal.client)
    with intruder(mortal.client.cluster_id) as other:
        socket = other.open("clients", b"Cnobody")
        results = mortal.client.load_balanced_view().map_async(abs, range(-500, 0), chunksize=1)
        for _ in range(count):
            socket.send(b"\xc1junk")
        assert results.get(SOON) == list(range(500, 0, -1))
        wait_for_drops(mortal.client, before + count)
    assert hub_of(mortal.client).memory_info().rss < 300e6


def test_a_task_that_ended_is_changed_by_no_further_message(mortal: Mortal) -> None:
    """A message that comes twice, or again: its tasks are known, and run once."""
    with intruder(mortal.client.cluster_id) as other:
        socket, _ = other.introduce()
        from ipyasyncresult.worker.functions import dump_arguments, dump_function

        task = m.Task(f"{other.session}-0", 0, dump_arguments((-3,), {})[0])
        message = m.encode(m.Submit([dump_function(abs)], [task]))
        socket.send(message)
        ends = [one for one in news_of(socket) if isinstance(one, m.Finished)]
        assert [end.msg_id for end in ends] == [task.msg_id]
        for _ in range(3):
            socket.send(message)
        socket.send(m.encode(m.Ask(7, "tasks", {"msg_ids": [task.msg_id]})))
        header, _ = socket.answer()
        answer = m.decode_from_hub(header)
        assert isinstance(answer, m.Answer)  # and no news
        assert [about["status"] for about in answer.content] == ["ok"]


def news_of(peer: Peer) -> list[Any]:
    while True:
        message = m.decode_from_hub(peer.answer()[0])
        if isinstance(message, m.News) and any(type(i) is m.Finished for i in message.items):
            return message.items


# ----------------------------------------------------------------------------------- identities


def test_nobody_takes_the_place_of_an_engine(mortal: Mortal, new_gate: NewGate) -> None:
    """Its name is random, is given by the hub, and belongs to who came first."""
    started, go = new_gate("started"), new_gate("go")

    def hold() -> str:
        started.open()
        go.wait()
        return "held"

    running = mortal.client[0].apply_async(hold)
    started.wait()
    pid = mortal.pid(0)
    with intruder(mortal.client.cluster_id) as other:
        uuid = mortal.client.engines[0]["uuid"]
        socket = other.open("engines", uuid.encode())
        lie = m.Finished(running.msg_ids[0], m.OK, b"N.", 0, 0.0, 0.0, 0.0)
        for message in (
            m.Register(0, uuid, os.getpid(), m.PROTOCOL, "1", "3"),
            m.Stream([lie]),
        ):
            socket.send(m.encode(message))
        stranger = other.open("engines", b"0123456789abcdef")
        before = dropped(mortal.client)
        stranger.send(m.encode(m.Register(0, uuid, os.getpid(), m.PROTOCOL, "1", "3")))
        wait_for_drops(mortal.client, before + 1)
        assert not running.ready()
        go.open()
        assert running.get(SOON) == "held"
        assert mortal.client[0].apply_sync(os.getpid) == pid == mortal.pid(0)
        assert not socket.heard()


def test_a_client_of_another_python_is_refused_with_both_versions(
    mortal: Mortal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ipyasyncresult.client.hubs.python_version", lambda: "2.7")
    with pytest.raises(VersionMismatch, match=r"2\.7"):
        ipar.Client(mortal.client.cluster_id)


def test_a_peer_of_another_protocol_is_refused(mortal: Mortal) -> None:
    with intruder(mortal.client.cluster_id) as other:
        _, answer = other.introduce(protocol=m.PROTOCOL + 1)
        assert isinstance(answer, m.Refused)
        assert "protocol" in answer.reason


def test_a_client_that_vanishes_costs_the_hub_nothing(
    mortal: Mortal, start_python: StartPython, new_gate: NewGate
) -> None:
    """Sending to a peer that is gone is an answer as good as any: its tasks go on."""
    script = start_python(
        """
        import os, sys
        import ipyasyncresult as ipar

        client = ipar.Client(sys.argv[1])
        print(client.session, flush=True)
        result = client.load_balanced_view().map_async(abs, range(-5000, 0), chunksize=1)
        result[0]
        os.kill(os.getpid(), 9)
        """,
        mortal.client.cluster_id,
    )
    printed, errors = script.communicate(timeout=SOON)
    session = printed.strip()
    assert session, errors
    theirs = [i for i in mortal.client.hub_history() if i.startswith(session)]
    again = mortal.client.get_result(theirs)
    again.wait(SOON)
    assert again.ready()
    assert set(again.status) == {"ok"}
    assert dropped(mortal.client) >= 0


# ------------------------------------------------------------------------------ who may connect


def test_a_folder_that_others_may_enter_is_refused_with_what_mends_it(mortal: Mortal) -> None:
    folder = cluster_folder(mortal.client.cluster_id)
    folder.chmod(0o750)
    try:
        with pytest.raises(OSError, match=f"chmod 700 {folder}"):
            ipar.Client(mortal.client.cluster_id)
    finally:
        folder.chmod(0o700)
    with ipar.Client(mortal.client.cluster_id) as other:
        assert other[0].apply_sync(abs, -1) == 1


def test_a_link_in_the_place_of_the_folder_is_refused_and_nothing_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    base = tmp_path / "run"
    base.mkdir()
    (base / "ipyasyncresult").symlink_to(elsewhere)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(base))
    with pytest.raises(OSError, match="not a link"):
        ipar.Cluster(n=1).start_cluster_sync()
    assert list(elsewhere.iterdir()) == []


def test_a_folder_too_deep_for_sockets_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    with pytest.raises(OSError, match="XDG_RUNTIME_DIR to a shorter"):
        ipar.Cluster(n=1).start_cluster_sync()


CONNECT = """
import os, socket, sys
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
else:
    print("refused", "refused")  # only root may become somebody else: the modes are looked at
    sys.exit()
for path in sys.argv[1:]:
    try:
        socket.socket(socket.AF_UNIX).connect(path)
        print("connected", end=" ")
    except PermissionError:
        print("refused", end=" ")
"""


def test_another_user_of_the_machine_cannot_connect(
    mortal: Mortal, start_python: StartPython
) -> None:
    folder = cluster_folder(mortal.client.cluster_id)
    assert folder.lstat().st_mode & 0o777 == 0o700
    assert folder.parent.lstat().st_mode & 0o777 == 0o700
    sockets = [path for path in folder.iterdir() if path.is_socket()]
    assert {path.name for path in sockets} >= {"clients", "engines"}
    for path in sockets:  # also by themselves, should they ever lie elsewhere
        assert path.lstat().st_mode & 0o077 == 0
    script = start_python(CONNECT, *sockets)
    printed, errors = script.communicate(timeout=SOON)
    assert set(printed.split()) == {"refused"}, errors


def test_a_hub_that_is_dead_is_named_when_somebody_connects(mortal: Mortal) -> None:
    with ipar.Cluster(n=1) as client:
        processes = processes_of(client)
        processes[0].kill()
        processes[0].wait(SOON)
        with pytest.raises(HubError, match=r"dead|no cluster"):
            ipar.Client(client.cluster_id)


def test_the_library_refuses_peers_that_reuse_a_name() -> None:
    """What the tests above stand on: the first connection keeps the name."""
    context: zmq.Context[Any] = zmq.Context()
    router = context.socket(zmq.ROUTER)
    port = "inproc://names"
    router.bind(port)
    sockets = []
    for said in (b"first", b"second"):
        sockets.append(context.socket(zmq.DEALER))
        sockets[-1].identity = b"name"
        sockets[-1].connect(port)
        sockets[-1].send(said)
    assert router.poll(2000)
    assert router.recv_multipart() == [b"name", b"first"]
    assert not router.poll(100)
    context.destroy(linger=0)
