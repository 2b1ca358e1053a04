"""Whether the kernel killed something for want of memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipyasyncresult.engine.memory import OutOfMemory, find_counters

V1 = "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"
V2 = "low 0\nhigh 0\nmax 12\noom 3\noom_kill {}\noom_group_kill 0\n"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("cgroup", "place", "text"),
    [
        ("4:memory:/a/b\n1:cpu:/\n0::/\n", "memory/a/b/memory.oom_control", V1),
        ("0::/user.slice/mine\n", "user.slice/mine/memory.events", V2),
        ("0::/of/the/host\n", "memory.events", V2),  # in a container
    ],
)
def test_the_counter_of_the_own_group_is_found(
    tmp_path: Path, cgroup: str, place: str, text: str
) -> None:
    counter = write(tmp_path / place, text.format(1))
    assert find_counters(cgroup, tmp_path) == [counter]
    memory = OutOfMemory([counter])
    assert not memory.has_struck()
    counter.write_text(text.format(2))
    assert memory.has_struck()
    assert not memory.has_struck()


def test_without_any_counter_nothing_is_said(tmp_path: Path) -> None:
    assert find_counters("", tmp_path) == []
    assert find_counters("nonsense\n0::/x\n", tmp_path) == []
    assert not OutOfMemory([tmp_path / "gone"]).has_struck()


def test_this_machine_can_be_asked() -> None:
    assert OutOfMemory().has_struck() in (False, True)
