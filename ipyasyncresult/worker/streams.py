"""What stands in for ``sys.stdout``, ``sys.stderr`` and ``sys.stdin`` while tasks run."""

from __future__ import annotations

import codecs
import io
import os
from collections.abc import Callable
from typing import Any, NoReturn, Protocol, TextIO

from ipyasyncresult.core.outputs import OutputKind
from ipyasyncresult.worker.recorder import Recorder

__all__ = ["NoStdin", "SharedStream", "StdinNotAvailable", "TaskStream", "Writer"]


class Writer(Protocol):
    """Takes the text of a stream."""

    def __call__(self, kind: OutputKind, text: str, /) -> None: ...


class TaskStream(io.TextIOBase):
    """A text stream whose text goes to the running task.  Any thread.

    Parameters
    ----------
    kind : {'stdout', 'stderr'}
    sink : callable
        Takes the kind and the text.
    fd : int
        What :meth:`fileno` gives, for child processes and C code.
    """

    errors = "backslashreplace"
    line_buffering = True

    def __init__(self, kind: OutputKind, sink: Writer, fd: int) -> None:
        self._kind: OutputKind = kind
        self.sink: Writer = sink
        self._fd = fd
        self.name = f"<{kind}>"
        self.mode = "w"
        self.buffer: _ByteStream = _ByteStream(self)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    def write(self, text: str, /) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self.sink(self._kind, text)
        return len(text)

    def leave_to_parent(self) -> None:
        """In a forked child: recorders are the parent's, but it reads the file descriptors."""
        self.sink = self._write_to_fd

    def _write_to_fd(self, _kind: OutputKind, text: str) -> None:
        data = memoryview(text.encode("utf-8", self.errors))
        while data:
            data = data[os.write(self._fd, data) :]

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        """Nothing: a task that closes it must not silence the next one."""

    def reconfigure(self, **_options: Any) -> None:
        """Nothing: for code that asks for UTF-8 or line buffering, which is what there is."""


class SharedStream(TaskStream):
    """For a process that is somebody else's: only what tasks write is captured.

    Parameters
    ----------
    original : text stream
        Gets everything else, and is asked for everything else: a notebook kernel, for one, looks
        for methods of its own on ``sys.stdout``.
    recorder : callable
        Gives the recorder of the calling task, or None.
    """

    def __init__(
        self, kind: OutputKind, original: TextIO, recorder: Callable[[], Recorder | None]
    ) -> None:
        super().__init__(kind, self._to_task, -1)
        self.original = original
        self.recorder = recorder

    def _to_task(self, kind: OutputKind, text: str) -> None:
        recorder = self.recorder()
        if recorder is None:
            self.original.write(text)
        else:
            recorder.write(kind, text)

    def leave_to_parent(self) -> None:
        self.recorder = lambda: None

    def flush(self) -> None:
        self.original.flush()

    def fileno(self) -> int:
        return self.original.fileno()

    def isatty(self) -> bool:
        return self.recorder() is None and self.original.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)


class _ByteStream(io.BufferedIOBase):
    """The ``buffer`` of a stream: bytes are decoded as they come."""

    def __init__(self, text: TaskStream) -> None:
        self._text = text
        self._decode: Callable[[bytes], str] = codecs.getincrementaldecoder("utf-8")(
            "replace"
        ).decode

    def write(self, data: Any, /) -> int:
        view = memoryview(data)
        if text := self._decode(view.tobytes()):
            self._text.write(text)
        return view.nbytes

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._text.fileno()

    def close(self) -> None:
        """Nothing, as for the stream it belongs to."""


class StdinNotAvailable(NotImplementedError, EOFError):
    """A task asked for input: there is nobody to answer."""


class NoStdin(io.TextIOBase):
    """A standard input that refuses at once, where a real one would wait for ever."""

    name = "<stdin>"
    mode = "r"

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    def readable(self) -> bool:
        return True

    def _refuse(self, *_args: Any) -> NoReturn:
        __tracebackhide__ = True  # tracebacks end where the user's code was
        raise StdinNotAvailable(
            "input() and sys.stdin are not available in a task: nobody is there to answer. "
            "Pass the value as an argument."
        )

    read = readline = readlines = __next__ = _refuse

    def close(self) -> None:
        """Nothing: the next task finds it as this one did."""
