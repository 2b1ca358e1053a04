"""What runs on workers.  A module of its own, so that every library can send it by name."""

from __future__ import annotations

import os
import time
from typing import Any


def nothing(*_: Any) -> None:
    """What is timed is the library."""


def increment(x: int) -> int:
    return x + 1


def identity(x: Any) -> Any:
    return x


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def pid_after(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def weigh(array: Any) -> tuple[int, float]:
    """Proves that the array arrived."""
    return array.nbytes, float(array[-1])


def print_line(index: int) -> int:
    print(f"line {index}")
    return index


def print_lines(count: int) -> None:
    for index in range(count):
        print("line", index)


def ones(megabytes: float) -> Any:
    import numpy as np

    return np.ones(int(megabytes * 125_000))


def wait_for(path: str) -> int:
    """Names this process, once, and sleeps until the file is there."""
    with open(f"{path}.pid", "w") as file:
        file.write(str(os.getpid()))
    while not os.path.exists(path):
        time.sleep(0.001)
    return os.getpid()
