"""Keys, doors, and what may be asked for."""

from __future__ import annotations

import pickle
import stat
from pathlib import Path
from typing import Any

import pytest

from ipyasyncresult.wire.runtime import RuntimeFolderError
from ipyasyncresult.wire.transport import (
    Doors,
    check_transport,
    make_keys,
    read_doors,
    read_keys,
    write_doors,
)

DOORS = Doors(hub_key="x" * 40, clients="tcp://127.0.0.1:1", engines="tcp://127.0.0.1:2")


def test_keys_are_made_once_and_private(tmp_path: Path) -> None:
    made = make_keys(tmp_path, "client")
    again = make_keys(tmp_path, "client")
    other = make_keys(tmp_path, "engine")
    assert (made.public, made.secret) == (again.public, again.secret)
    assert made.secret != other.secret
    assert len(made.public) == len(made.secret) == 40
    assert stat.S_IMODE((tmp_path / "client.key").stat().st_mode) == 0o600


def test_a_key_shows_and_gives_away_no_secret(tmp_path: Path) -> None:
    keys = make_keys(tmp_path, "client")
    assert keys.secret.decode() not in repr(keys)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(keys)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_may_read_is_refused_with_what_mends_it(
    tmp_path: Path, mode: int
) -> None:
    make_keys(tmp_path, "client")
    write_doors(tmp_path, DOORS)
    for name in ("client.key", "tcp.json"):
        (tmp_path / name).chmod(mode)
    with pytest.raises(RuntimeFolderError, match=r"chmod 600 .*client\.key"):
        read_keys(tmp_path, "client")
    with pytest.raises(RuntimeFolderError, match=r"chmod 600 .*tcp\.json"):
        read_doors(tmp_path)


def test_a_link_is_no_key(tmp_path: Path) -> None:
    make_keys(tmp_path, "engine")
    (tmp_path / "client.key").symlink_to(tmp_path / "engine.key")
    with pytest.raises(RuntimeFolderError, match="not a link"):
        read_keys(tmp_path, "client")


@pytest.mark.parametrize("content", [b"", b"one\n", b"one two three\n"])
def test_a_broken_or_missing_key_is_said(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(RuntimeFolderError, match="no key for a client"):
        read_keys(tmp_path, "client")
    path = tmp_path / "client.key"
    path.touch(0o600)
    path.write_bytes(content)
    with pytest.raises(RuntimeFolderError, match="holds no key"):
        read_keys(tmp_path, "client")


def test_doors_come_back_as_written(tmp_path: Path) -> None:
    assert read_doors(tmp_path) is None
    write_doors(tmp_path, DOORS)
    assert read_doors(tmp_path) == DOORS
    assert stat.S_IMODE((tmp_path / "tcp.json").stat().st_mode) == 0o600
    (tmp_path / "tcp.json").write_bytes(b"{")
    assert read_doors(tmp_path) is None


@pytest.mark.parametrize("interface", ["", "*", "0.0.0.0", "::", None, 7])
def test_all_interfaces_at_once_are_refused(interface: Any) -> None:
    with pytest.raises(ValueError, match="interface must be"):
        check_transport("tcp", interface)


@pytest.mark.parametrize("transport", ["udp", "", None, "TCP"])
def test_other_transports_are_refused_by_name(transport: Any) -> None:
    with pytest.raises(ValueError, match="transport must be 'ipc' or 'tcp'"):
        check_transport(transport, "127.0.0.1")


def test_good_ones_are_taken() -> None:
    assert check_transport("ipc", "127.0.0.1") == "127.0.0.1"
    assert check_transport("tcp", "localhost") == "127.0.0.1"
    assert check_transport("tcp", "eth0") == "eth0"
