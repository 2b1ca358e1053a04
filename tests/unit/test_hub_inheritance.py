"""Shared memory that only a dead hub knew: who is waited for, and what is removed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ipyasyncresult.hub.inheritance import GRACE, Inheritance
from ipyasyncresult.wire.segmentowner import is_owner_dead, name_owner

NAMES = ("a.1.0", "a.2.3", "b.1.0")


def here(*owners: str) -> Callable[[str], bool]:
    return lambda owner: owner in owners


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (*NAMES, "limit", "cluster", "a.process"):
        (tmp_path / name).write_text("x")
    return tmp_path


@pytest.fixture
def inheritance(folder: Path) -> Inheritance:
    return Inheritance(folder, set(NAMES))


def left(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.glob("*.*.*"))


def test_what_nobody_speaks_of_goes_when_its_owner_has_been_here_for_long(
    inheritance: Inheritance, folder: Path
) -> None:
    assert not inheritance.look(0.0, {"a.1.0"}, here("a"))
    assert left(folder) == list(NAMES)
    assert not inheritance.look(GRACE, {"a.1.0"}, here("a"))
    assert left(folder) == ["a.1.0", "a.2.3~", "b.1.0"]
    # The owner may know it by the name before: the last hub died between the two.
    assert inheritance.look(2 * GRACE, {"a.1.0"}, here("a")) == {"a": ["a.2.3", "a.2.2"]}
    assert left(folder) == ["a.1.0", "b.1.0"]
    assert not inheritance.look(9 * GRACE, {"a.1.0"}, here("a"))
    assert (folder / "limit").exists()


def test_what_a_late_message_speaks_of_is_there_again(
    inheritance: Inheritance, folder: Path
) -> None:
    inheritance.look(0.0, (), here("a"))
    inheritance.look(GRACE, (), here("a"))
    assert left(folder) == ["a.1.0~", "a.2.3~", "b.1.0"]
    inheritance.revive("a.1.0")
    inheritance.revive("a.9.9")
    assert inheritance.look(2 * GRACE, {"a.1.0"}, here("a")) == {"a": ["a.2.3", "a.2.2"]}
    assert left(folder) == ["a.1.0", "b.1.0"]


def test_what_its_owner_made_anew_meanwhile_is_not_written_over(
    inheritance: Inheritance, folder: Path
) -> None:
    inheritance.look(0.0, (), here("a"))
    inheritance.look(GRACE, (), here("a"))
    (folder / "a.1.0").write_text("anew")
    inheritance.revive("a.1.0")
    assert (folder / "a.1.0").read_text() == "anew"
    assert not (folder / "a.1.0~").exists()


def test_what_was_made_since_is_no_inheritance(inheritance: Inheritance, folder: Path) -> None:
    (folder / "a.3.0").write_text("x")
    for turn in range(4):
        inheritance.look(turn * GRACE, NAMES, here("a"))
    assert "a.3.0" in left(folder)


def test_of_owners_that_are_not_here_only_the_dead_are_not_waited_for(
    inheritance: Inheritance, folder: Path
) -> None:
    name_owner(folder, "a")
    (folder / "b.process").write_text("999999999 1")
    (folder / "c.1.0").write_text("x")
    assert not is_owner_dead(folder, "a")
    assert is_owner_dead(folder, "b")
    assert not is_owner_dead(folder, "c")  # nobody knows
    inheritance.look(0.0, (), here())
    assert inheritance.look(GRACE, (), here()) == {"b": ["b.1.0", "b.1.-1"]}
    assert left(folder) == ["a.1.0", "a.2.3", "c.1.0"]
    assert (folder / "a.process").read_text().startswith(f"{os.getpid()} ")


def test_an_owner_that_left_is_cleaned_up_after_some_time(inheritance: Inheritance) -> None:
    inheritance.departed("a", 5.0)
    assert inheritance.take_departed(5.0) == []
    assert inheritance.take_departed(5.0 + GRACE) == ["a"]
    assert inheritance.take_departed(5.0 + 2 * GRACE) == []
