"""Engines over TCP: everything works, and nobody without the right key gets in."""

from __future__ import annotations

import os
import pickle
import random
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import zmq

import ipyasyncresult as ipar
from ipyasyncresult.wire import messages as m
from ipyasyncresult.wire.runtime import RuntimeFolderError, cluster_folder
from ipyasyncresult.wire.sockets import make_poll
from ipyasyncresult.wire.tcpsockets import TcpDoor
from ipyasyncresult.wire.transport import connect_to_hub, read_doors, read_keys
from ipyasyncresult.wire.versions import python_version
from tests.integration.conftest import hub_of, processes_of

SOON = 30.0


@pytest.fixture(scope="module")
def shared() -> Iterator[ipar.Client]:
    with ipar.Cluster(n=2, transport="tcp") as client:
        client[:].apply_sync(list)
        yield client


@pytest.fixture
def client(shared: ipar.Client) -> Iterator[ipar.Client]:
    yield shared
    shared.wait_for_engines(2, timeout=SOON)
    assert shared[:].apply_async(abs, -2).get(SOON) == [2, 2]  # it lives


def folder_of(client: ipar.Client) -> Path:
    return cluster_folder(client.cluster_id)


def port_of(client: ipar.Client, name: str) -> int:
    doors = read_doors(folder_of(client))
    assert doors is not None
    return int(getattr(doors, name).rsplit(":", 1)[1])


def status_of(client: ipar.Client) -> dict[str, Any]:
    told: dict[str, Any] = client._connection.ask("status")
    return told


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --------------------------------------------------------------------------- what works


def test_calls_maps_cells_and_arrays_work(client: ipar.Client) -> None:
    view = client.load_balanced_view()
    assert view.map_sync(lambda n: n * n, range(100)) == [n * n for n in range(100)]
    cell = client[0].execute("print('over tcp'); 6 * 7")
    assert cell.get(SOON).text == "42"
    assert cell.stdout == "over tcp\n"
    array = np.arange(300_000.0)
    assert np.array_equal(client[0].apply_sync(lambda a: a + 1, array), array + 1)
    with pytest.raises(ZeroDivisionError):
        client[1].apply_sync(lambda: 1 / 0)


def test_large_arrays_travel_through_the_port_where_there_is_no_shared_memory() -> None:
    with ipar.Cluster(n=1, transport="tcp", interface="lo", arrays_limit=0) as client:
        array = np.arange(2_000_000.0)
        assert np.array_equal(client[0].apply_sync(lambda a: a * 2, array), array * 2)


def test_an_engine_that_died_is_replaced(client: ipar.Client) -> None:
    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(ipar.EngineError, match="SIGKILL"):
        client[1].apply_async(die).get(SOON)
    client.wait_for_engines(2, timeout=SOON)
    assert client[1].apply_async(abs, -1).get(SOON) == 1


def test_another_client_joins_and_results_come_back(client: ipar.Client) -> None:
    mine = client[0].apply_async(abs, -7)
    mine.wait(SOON)
    with ipar.Client(client.cluster_id) as other:
        assert other.get_result(mine.msg_ids[0]).get(SOON) == 7
        assert other[1].apply_async(abs, -8).get(SOON) == 8


# ---------------------------------------------------------------------- who does not get in


def test_only_the_hub_listens_and_on_the_loopback_only(client: ipar.Client) -> None:
    listening = {
        process.pid: [
            one.laddr for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN
        ]
        for process in processes_of(client)
    }
    hub = listening.pop(hub_of(client).pid)
    assert {address.port for address in hub} == {
        port_of(client, "clients"),
        port_of(client, "engines"),
    }
    assert {address.ip for address in hub} == {"127.0.0.1"}
    assert not any(listening.values())


NewSocket = Callable[..., Any]


@pytest.fixture
def new_socket() -> Iterator[NewSocket]:
    """Makes sockets of one context, which are closed after the test."""
    context: zmq.Context[Any] = zmq.Context()
    made: list[Any] = []

    def make(kind: int, identity: bytes | None = None) -> Any:
        made.append(context.socket(kind))
        if identity is not None:
            made[-1].identity = identity
        return made[-1]

    yield make
    for one in made:
        one.close(linger=0)
    context.term()


def hello() -> bytes:
    return m.encode(m.Hello("intruder", m.PROTOCOL, ipar.__version__, python_version(), 1))


def knock(
    new_socket: NewSocket, client: ipar.Client, name: str, keys: tuple[bytes, bytes] | None
) -> Any:
    """A socket that says hello with these keys."""
    doors = read_doors(folder_of(client))
    assert doors is not None
    dealer = new_socket(zmq.DEALER, b"Cintruder")
    if keys is not None:
        dealer.curve_serverkey = doors.hub_key.encode()
        dealer.curve_publickey, dealer.curve_secretkey = keys
    dealer.connect(getattr(doors, name))
    dealer.send(hello())
    return dealer


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("clients", "none"),
        ("engines", "none"),
        ("clients", "unknown"),
        ("engines", "unknown"),
        ("clients", "engine"),
        ("engines", "client"),
        ("clients", "hub"),
    ],
)
def test_a_peer_without_the_key_for_this_door_is_turned_away(
    client: ipar.Client, new_socket: NewSocket, name: str, key: str
) -> None:
    wait_until(lambda: status_of(client)["clients"] == 1)  # those of other tests have left
    before = status_of(client)
    if key == "none":
        keys = None
    elif key == "unknown":
        keys = zmq.curve_keypair()
    else:
        pair = read_keys(folder_of(client), key)
        keys = (pair.public, pair.secret)
    dealer = knock(new_socket, client, name, keys)
    wait_until(lambda: status_of(client)["refused_connections"] > before["refused_connections"])
    assert not dealer.poll(100)  # no answer
    after = status_of(client)
    assert (after["clients"], after["dropped_messages"]) == (
        before["clients"],
        before["dropped_messages"],
    )


def test_the_right_key_is_let_in(client: ipar.Client) -> None:
    """The test above would find anybody turned away."""
    line = connect_to_hub(folder_of(client), "clients", b"Cwelcome")
    line.send(hello())
    assert make_poll([line.handle])(int(SOON * 1000))
    assert isinstance(m.decode_from_hub(line.take()[0][0]), m.Welcome)
    line.send(m.encode(m.Goodbye()))
    line.close(linger=1000)


def test_noise_at_the_ports_hurts_nobody(client: ipar.Client) -> None:
    """Web requests, random bytes, a greeting cut short, and one who says nothing: also 300 of them,
    and a frame that claims to be larger than the world."""
    generator = random.Random(1)
    greeting = b"\xff" + b"\0" * 8 + b"\x7f\x03\x01" + b"CURVE".ljust(20, b"\0") + b"\0" * 32
    noises = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20,
        b"\xff" * 100,
        greeting[:30],
        greeting + b"\x06" + (1 << 62).to_bytes(8, "big") + b"x" * 1000,
        b"",
        *(generator.randbytes(generator.randrange(1, 3000)) for _ in range(100)),
    ]
    before = status_of(client)["refused_connections"]
    opened = []
    working = client.load_balanced_view().map_async(lambda n: n + 1, range(2000), chunksize=10)
    for name in ("clients", "engines"):
        for noise in noises:
            made = socket.create_connection(("127.0.0.1", port_of(client, name)), timeout=SOON)
            opened.append(made)
            try:
                made.sendall(noise)
            except OSError:
                continue  # the hub hung up already
    assert working.get(SOON) == list(range(1, 2001))
    wait_until(lambda: status_of(client)["refused_connections"] >= before + len(opened))
    for made in opened:
        made.close()
    log = (folder_of(client) / "hub.log").read_text()
    assert log.count("turned away") <= 10


def test_an_oversized_message_costs_its_sender_the_connection() -> None:
    """Also of one that has the key, and nobody else; checked on a socket with a small limit."""
    from ipyasyncresult.hub.gate import Gate

    folder = cluster_folder("oversized", create=True)
    try:
        context: zmq.Context[Any] = zmq.Context()
        gate = Gate(context, folder, "127.0.0.1", max_frame=1000)
        clients, engines = TcpDoor(context), TcpDoor(context)
        gate.open(clients, engines)
        line, other = (connect_to_hub(folder, "clients", name) for name in (b"me", b"other"))
        poll = make_poll([clients.handle])

        def arrived() -> bool:
            gate.take_in()
            return bool(poll(10))

        line.send(b"x" * 900)
        wait_until(arrived)
        assert clients.take() == [(b"me", b"x" * 900, [])]
        wait_until(lambda: arrived() or gate.admitted == 2)
        line.send(b"x" * 1100)
        wait_until(lambda: arrived() or gate.accepted > 2)  # cut off: it knocks again
        assert not poll(0)
        other.send(b"small")
        wait_until(arrived)
        assert clients.take() == [(b"other", b"small", [])]
        line.close()
        other.close()
        clients.close()
        engines.close()
        gate.close()
    finally:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


# ---------------------------------------------------------------------------- where keys are


def test_no_secret_is_where_others_could_see_it(client: ipar.Client) -> None:
    """Not in arguments, environments, logs, reprs or pickles; in files that are private."""
    folder = folder_of(client)
    secrets = [read_keys(folder, role).secret for role in ("hub", "client", "engine")]
    result = client[0].apply_async(abs, -1)
    result.wait(SOON)
    seen = [
        pickle.dumps(result),
        repr((client, client.engines, result, client._connection.__dict__)).encode(),
        str(status_of(client)).encode(),
    ]
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix != ".key":
            seen.append(path.read_bytes())
        if path.is_file():
            assert path.stat().st_mode & 0o077 == 0, path
    for process in processes_of(client):
        seen.append("\0".join(process.cmdline()).encode())
        seen.append(str(process.environ()).encode())
    told = client[0].apply_sync(lambda: repr(dict(__import__("os").environ)))
    for text in [*seen, told.encode()]:
        for secret in secrets:
            assert secret not in text


def test_a_key_that_others_may_read_is_refused(client: ipar.Client) -> None:
    key = folder_of(client) / "client.key"
    key.chmod(0o644)
    try:
        with pytest.raises(RuntimeFolderError, match=r"chmod 600 .*client\.key"):
            ipar.Client(client.cluster_id)
    finally:
        key.chmod(0o600)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"transport": "udp"}, "transport must be 'ipc' or 'tcp'"),
        ({"transport": "tcp", "interface": "*"}, "interface must be"),
        ({"transport": "tcp", "interface": "0.0.0.0"}, "interface must be"),
    ],
)
def test_a_port_for_everybody_is_refused(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        ipar.Cluster(1, **options)


def test_an_interface_that_is_not_there_is_said() -> None:
    with pytest.raises(ipar.errors.StartError, match=r"the hub did not start(.|\n)*No such device"):
        ipar.Cluster(1, transport="tcp", interface="nosuch0").start_and_connect_sync()
