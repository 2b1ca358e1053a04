"""What the system allows a process, and how to say so when it was not enough."""

from __future__ import annotations

import contextlib
import errno
import resource

__all__ = ["explain_limit", "raise_file_limit"]

_HINTS = {
    errno.EMFILE: ("open files", "ulimit -n", resource.RLIMIT_NOFILE),
    errno.EAGAIN: ("processes and threads of this user", "ulimit -u", resource.RLIMIT_NPROC),
}


def raise_file_limit() -> tuple[int, int]:
    """Take as many file descriptors as may be had; the limits as they were.

    Processes of ours that serve many others need more than the usual 1,024.
    """
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # as many as there are will do
        resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    return before


def explain_limit(error: OSError) -> str:
    """The error, with the limit that was reached and how it is set."""
    hint = _HINTS.get(error.errno or 0)
    if hint is None:
        return str(error)
    what, command, number = hint
    soft, hard = resource.getrlimit(number)
    shown = "unlimited" if soft == resource.RLIM_INFINITY else f"{soft:,}"
    most = "unlimited" if hard == resource.RLIM_INFINITY else f"{hard:,}"
    return f"{error}: the limit of {what} ({command}) is {shown}, and can be set up to {most}"
