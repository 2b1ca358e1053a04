"""The nursery as a process: how it comes into being, and how one waits for its end."""

from __future__ import annotations

import gc
import os
import runpy
import subprocess
import sys
import traceback
from socket import socket
from typing import IO, NoReturn, Self

from ipyasyncresult.wire.runtime import ends_within

__all__ = ["NURSERY", "NurseryProcess"]

NURSERY = "ipyasyncresult.engine"
"""The module that is run."""


class NurseryProcess:
    """A child of this process, or its parent.

    Parameters
    ----------
    pid : int
    is_child : bool
        It is ours to reap.
    """

    def __init__(self, pid: int, *, is_child: bool) -> None:
        self.pid = pid
        self._is_child = is_child
        self._reaped = False

    @classmethod
    def fork(cls, line: socket, ours: socket, printed: IO[bytes]) -> Self:
        """A copy of this process becomes the nursery, and needs not import what is imported here.

        Only for a process that has one thread, no store and no socket to peers.

        Parameters
        ----------
        line : socket.socket
            The nursery's end of the line; closed here.
        ours : socket.socket
            The other end.
        printed : file
            Gets what the nursery prints.
        """
        pid = os.fork()
        if pid == 0:
            ours.close()  # else the line would not end with the hub
            _become_nursery(line, printed)
        line.close()
        return cls(pid, is_child=True)

    @classmethod
    def spawn(cls, line: socket, _ours: socket, printed: IO[bytes]) -> Self:
        """A new process becomes the nursery: this one has threads by now."""
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", NURSERY, str(line.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=printed,
            pass_fds=[line.fileno()],
        )
        process.returncode = 0  # reaped here: Popen has nothing more to do
        line.close()
        return cls(process.pid, is_child=True)

    @classmethod
    def parent(cls) -> Self:
        """The nursery started this process."""
        return cls(os.getppid(), is_child=False)

    def wait(self, patience: float | None = None) -> bool:
        """Whether it ended within that many seconds (None: it will have)."""
        if self._reaped or (not self._is_child and os.getppid() != self.pid):
            return True
        ended = ends_within(self.pid, patience)
        if ended and self._is_child:
            os.waitpid(self.pid, 0)
            self._reaped = True
        return ended


def _become_nursery(line: socket, printed: IO[bytes]) -> NoReturn:
    """As ``python -m NURSERY FD`` would, in the middle of a process that was something else."""
    code = 1
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        for number, file in enumerate((nothing, nothing, printed.fileno())):
            os.dup2(file, number)
        os.close(nothing)
        printed.close()
        gc.enable()  # which the hub does without
        sys.argv[1:] = [str(line.fileno())]
        runpy.run_module(NURSERY, run_name="__main__", alter_sys=True)
        code = 0
    except BaseException:  # noqa: BLE001  nothing may return into the hub's start
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
