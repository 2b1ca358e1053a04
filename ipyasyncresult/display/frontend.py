"""Where the user is: a notebook, IPython in a terminal, or plain Python.

The one file that knows IPython.  It is never imported here: where it was not imported before, there
is no shell to talk to.
"""

from __future__ import annotations

import contextlib
import contextvars
import enum
import sys
from collections.abc import Callable
from typing import Any, Literal, TextIO

__all__ = [
    "Frontend",
    "Outlet",
    "frontend",
    "outlet",
    "outlet_of_this_cell",
    "when_cells_end",
]


class Frontend(enum.Enum):
    """What shows the output."""

    KERNEL = enum.auto()
    """A Jupyter kernel, whoever looks at it: rich displays, widgets."""
    TERMINAL = enum.auto()
    """IPython in a terminal."""
    PLAIN = enum.auto()
    """Python without IPython."""


def frontend() -> Frontend:
    """What shows the output of this process."""
    shell = _shell()
    if shell is None:
        return Frontend.PLAIN
    return Frontend.TERMINAL if getattr(shell, "kernel", None) is None else Frontend.KERNEL


class Outlet:
    """Two text streams and, where somebody can see them, rich displays.

    Parameters
    ----------
    stdout, stderr : text streams
    publisher : IPython's DisplayPublisher, optional
        Without one, displays are shown as their ``text/plain``.
    """

    def __init__(self, stdout: TextIO, stderr: TextIO, publisher: Any = None) -> None:
        self._streams = {"stdout": stdout, "stderr": stderr}
        self._publisher = publisher
        self._last: TextIO | None = None  # written to, and perhaps not flushed

    @property
    def is_rich(self) -> bool:
        """Whether it shows more than text."""
        return self._publisher is not None

    @property
    def is_terminal(self) -> bool:
        """Whether a person watches stdout in a terminal, so that lines can be rewritten."""
        return not self.is_rich and self._streams["stdout"].isatty()

    def stream(self, name: Literal["stdout", "stderr"], text: str) -> None:
        """Write text; what goes to the other stream later also appears later."""
        target = self._streams[name]
        if target is not self._last:
            self.flush()
        target.write(text)
        self._last = target

    def display(
        self,
        data: dict[str, Any],
        metadata: dict[str, Any] | None = None,
        *,
        display_id: str | None = None,
        update: bool = False,
    ) -> None:
        """Show a MIME bundle, or put it in the place of what was shown with this `display_id`."""
        self.flush()
        options: dict[str, Any] = {"update": True} if update else {}
        if display_id is not None:
            options["transient"] = {"display_id": display_id}
        self._publisher.publish(data=data, metadata=metadata or {}, **options)

    def flush(self) -> None:
        """Send what was written."""
        if self._last is not None:
            self._last.flush()
            self._last = None


def when_cells_end(call: Callable[[object], None]) -> None:
    """Have it called at the end of each cell from now on, while what it shows is still taken."""
    shell = _shell()
    if shell is not None:
        shell.events.register("post_run_cell", call)  # once, however often it is said


def outlet() -> Outlet:
    """The way to what the caller looks at: ``sys.stdout``, ``sys.stderr`` and IPython's display.

    Redirections and ``%%capture`` are honoured.  For the caller's thread, and for now.
    """
    return Outlet(sys.stdout, sys.stderr, _publisher(_shell()))


def outlet_of_this_cell(*, updates_from_anywhere: bool = False) -> Outlet:
    """As :func:`outlet`, but good for any thread and for later, while other cells run.

    Parameters
    ----------
    updates_from_anywhere : bool
        Let updates of displays come from whatever cell runs then.  A page finds a display by its
        id; nbclient and its like listen to the cell that runs and to no other.

    A kernel's own streams and publisher say "from the cell that runs now", and their notion of
    "now" differs between versions of ipykernel (before 7 the publisher has one parent for all
    threads, in 7 a thread without one takes the latest cell's).  So this makes streams and a
    publisher whose parent is the calling cell for good, and nobody else's change.
    """
    shell = _shell()
    publisher = _publisher(shell)
    get_parent = getattr(getattr(shell, "kernel", None), "get_parent", None)
    if get_parent is None:
        return outlet()
    sys.stdout.flush()  # what the cell printed so far comes first
    sys.stderr.flush()
    try:
        parent = get_parent()
    except LookupError:  # ipykernel 7.0 in a thread of the user's: only streams have a fall-back
        parent = getattr(sys.stdout, "parent_header", {})
    return Outlet(
        _stream_with_parent(sys.stdout, parent),
        _stream_with_parent(sys.stderr, parent),
        _publisher_with_parent(publisher, parent, get_parent if updates_from_anywhere else None),
    )


def _stream_with_parent(stream: Any, parent: Any) -> Any:
    from ipyasyncresult.worker.streams import SharedStream

    if isinstance(stream, SharedStream):  # tasks run in this process: it looks like a kernel's own
        stream = stream.original
    if not all(hasattr(stream, name) for name in ("pub_thread", "session", "set_parent")):
        return stream  # redirected by the user, or a kernel without such streams
    own = type(stream)(stream.session, stream.pub_thread, stream.name, watchfd=False)
    own.set_parent(parent)
    return own


def _publisher_with_parent(publisher: Any, parent: Any, latest: Callable[[], Any] | None) -> Any:
    if not all(hasattr(publisher, name) for name in ("pub_socket", "session", "set_parent")):
        return publisher
    own = type(publisher)(session=publisher.session, pub_socket=publisher.pub_socket)
    return _CellPublisher(own, parent, latest)


class _CellPublisher:
    """A publisher of our own.  ipykernel 7.0 knows a parent only in the thread that set it."""

    def __init__(self, publisher: Any, parent: Any, latest: Callable[[], Any] | None) -> None:
        self._publisher = publisher
        self._parent = parent
        self._latest = latest  # of updates: the cell that runs now

    def publish(self, **options: Any) -> None:
        parent = self._parent
        if self._latest is not None and options.get("update"):
            # In a thread without a cell of its own a kernel answers with the latest.
            with contextlib.suppress(LookupError):
                parent = contextvars.Context().run(self._latest)
        self._publisher.set_parent(parent)
        self._publisher.publish(**options)


def _shell() -> Any:
    ipython = sys.modules.get("IPython")
    get_ipython = getattr(ipython, "get_ipython", None)
    return None if get_ipython is None else get_ipython()


def _publisher(shell: Any) -> Any:
    """The shell's publisher if it shows more than text: a kernel's, or one that captures."""
    if shell is None:
        return None
    publisher = shell.display_pub
    captures = hasattr(publisher, "outputs")
    return publisher if captures or getattr(shell, "kernel", None) is not None else None
