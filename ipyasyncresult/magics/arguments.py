"""The line after a magic's name: flags, and for ``%px`` the code that follows them."""

from __future__ import annotations

import argparse
import keyword
import re
from collections.abc import Callable
from typing import Any, TypeVar

from IPython.core import magic_arguments
from IPython.core.error import UsageError

from ipyasyncresult.core.presenter import GROUPINGS
from ipyasyncresult.core.slips import refuse_unknown
from ipyasyncresult.core.waiting import check_timeout
from ipyasyncresult.magics.settings import parse_signal

__all__ = ["CODE", "DEFAULTS", "GROUPS", "LIST", "OUT", "RUN", "parse", "takes"]

Function = TypeVar("Function", bound=Callable[..., Any])

# ------------------------------------------------------------------------------ types of values


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
        check_timeout(seconds)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be seconds, 0 for always or -1 for never, not {text.strip()!r}"
        ) from None
    return seconds


def _signal(text: str) -> int:
    try:
        return parse_signal(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _variable(text: str) -> str:
    if not text.isidentifier() or keyword.iskeyword(text):
        raise argparse.ArgumentTypeError(f"must be a name for a variable, not {text.strip()!r}")
    return text


# ------------------------------------------------------------------------------------- flags

_flag = magic_arguments.argument


def _switch(name: str, dest: str, value: Any, help: str) -> Any:
    return _flag(*name.split("/"), dest=dest, action="store_const", const=value, help=help)


GROUPS = (
    _switch("-e", "group_outputs", "engine", "--group-outputs engine"),
    _switch("-r", "group_outputs", "order", "--group-outputs order"),
    _flag(
        "--group-outputs",
        choices=GROUPINGS,
        metavar="TYPE",
        help=f"show the outputs at the end, grouped: one of {', '.join(GROUPINGS)}",
    ),
)

DEFAULTS = (
    _switch("-b/--block", "block", True, "wait for the end (the default)"),
    _switch("-a/--noblock", "block", False, "do not wait: the value is an AsyncResult"),
    _flag("-t", "--targets", help="the engines: 0, 0,2, 0:3, ::2, all, or a variable"),
    _switch("--stream", "stream", True, "show outputs as they come (the default)"),
    _switch("--no-stream", "stream", False, "show outputs at the end"),
    _flag(
        "--progress-after",
        type=_seconds,
        metavar="SECONDS",
        help="show progress after so many seconds (2); 0: always, -1: never",
    ),
    _flag(
        "--signal-on-interrupt",
        type=_signal,
        metavar="SIG",
        help="what engines get when the cell is interrupted (SIGINT); 0: nothing",
    ),
    _switch("--verbose", "verbose", True, "say which engines run the cell"),
    _switch("--no-verbose", "verbose", False, "do not say it (the default)"),
)

OUT = _flag("-o", "--out", type=_variable, metavar="NAME", help="put the AsyncResult into NAME")

RUN = (
    *DEFAULTS,
    OUT,
    _flag("--local", action="store_true", help="run the cell in this process, too"),
)

CODE = _flag("code", nargs=argparse.REMAINDER, help="for %%px: what to run")
LIST = _flag("--list", action="store_true", help="list the recent results of the cluster instead")


def takes(kind: Callable[..., Any], *flags: Any) -> Callable[[Function], Function]:
    """Decorator: a magic of a kind (``line_magic``, ...) that takes these flags and explains them.

    It gives the method the type that it has; those of IPython do not.
    """

    def decorate(magic: Function) -> Function:
        for flag in reversed(flags):
            flag(magic)
        decorated: Function = kind(magic_arguments.magic_arguments()(magic))
        return decorated

    return decorate


# ----------------------------------------------------------------------------------- parsing

# A list in brackets and a quoted text are one word.
_WORD = re.compile(r"""(?:\[[^]]*\]|"[^"]*"|'[^']*'|\S)+""")
_QUOTED = re.compile(r"""(--[\w-]+=|)(["'])(.*)\2""")


def parse(magic: Callable[..., Any], line: str) -> argparse.Namespace:
    """The flags of a line; ``code`` is the rest of it, untouched.

    Code that starts with a dash is written after ``--``.

    Raises
    ------
    UsageError
        Naming the flag, what was given and what is allowed.
    """
    words = list(_WORD.finditer(line))
    parser: argparse.ArgumentParser = magic.parser  # type: ignore[attr-defined]
    flags, unknown = parser.parse_known_args([_plain(word[0]) for word in words])
    if unknown:
        known = re.findall(r"(?<=\[)--?[\w-]+", parser.format_usage())
        if hasattr(flags, "code"):
            known.append("code that starts with a dash after --")
        refuse_unknown(f"%{parser.prog}", "flag", unknown[:1], known, UsageError)
    if hasattr(flags, "code"):
        start = words[-len(flags.code)].start() if flags.code else len(line)
        code = line[start:]
        flags.code = code[2:].lstrip() if re.match(r"--(\s|$)", code) else code
    return flags


def _plain(word: str) -> str:
    """The word as argparse should see it."""
    if re.match(r"-\d", word):
        return " " + word  # -2: is a value; argparse takes what starts with a dash for a flag
    quoted = _QUOTED.fullmatch(word)
    return quoted[1] + quoted[3] if quoted else word
