"""Write ``docs/compatibility.md``: ipyparallel's client side, name by name, beside this package's.

Names, signatures and flags are read from the two packages.  What a program cannot know (why a name
is not here, what it does otherwise) stands in ``compatibility.toml`` beside this file.

    python docs/tools/compatibility.py           write the page, drop notes that are out of date
    python docs/tools/compatibility.py --check   only say what is wrong; exit code 1 if anything is
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import sys
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["NOTES", "PAGE", "Comparison", "compare", "main"]

PAGE = Path(__file__).parents[1] / "compatibility.md"
NOTES = Path(__file__).with_suffix(".toml")

Names = Mapping[str, Any]
Notes = Mapping[str, Mapping[str, Mapping[str, str]]]
"""``notes[group]["not"][name]``: why a name is not here; ``["differs"]``: what no program sees."""

_HEAD = """\
# Compatibility with ipyparallel

Every public name of the client side of ipyparallel {version}: is it here?

{summary}

*here*: same name, and what you pass to it is taken. *differs*: it is here, and the text says what
is not the same. *not*: it is not here, and the text says why, or what takes its place.
[Coming from ipyparallel](migrating/from-ipyparallel.md) is the short version.

This page is written by `docs/tools/compatibility.py` (`make compatibility`), which reads both
packages; a test fails when it is out of date or when a missing name has no reason.
"""


@dataclass(frozen=True)
class Group:
    """Names that belong together: theirs, and what is here for them."""

    key: str  # of its table in the notes
    title: str
    theirs: Names
    ours: Names


@dataclass(frozen=True)
class Row:
    """One name of theirs."""

    name: str
    state: str  # "here", "differs" or "not"
    text: str


@dataclass
class Comparison:
    """The page, and what has to be written into the notes or taken out of them."""

    text: str = ""
    unexplained: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)


# ------------------------------------------------------------------------------ what is compared


def groups() -> Iterator[Group]:
    """All that is compared, in the order of the page."""
    import ipyparallel as theirs
    from ipyparallel.client.view import LazyMapIterator, View

    import ipyasyncresult as ours
    from ipyasyncresult import errors
    from ipyasyncresult.client.lazymap import LazyMap
    from ipyasyncresult.client.remote import ParallelFunction, RemoteFunction

    direct, balanced = of_class(ours.DirectView), of_class(ours.LoadBalancedView)
    in_both = {name: here for name, here in direct.items() if name in balanced}
    yield Group("package", "The package", of_module(theirs), of_module(ours))
    for kind in ("AsyncResult", "AsyncMapResult", "AsyncHubResult", "Client"):
        yield pair(kind, getattr(theirs, kind), getattr(ours, kind))
    yield Group("View", "All views", of_class(View), in_both)
    yield pair("DirectView", theirs.DirectView, ours.DirectView)
    yield pair("LoadBalancedView", theirs.LoadBalancedView, ours.LoadBalancedView)
    yield Group(
        "BroadcastView",
        "`BroadcastView`, here `DirectView`",
        of_class(theirs.BroadcastView, inherited=False),
        direct,
    )
    yield Group("imap", "What `imap` gives", of_class(LazyMapIterator), of_class(LazyMap))
    yield pair("RemoteFunction", theirs.RemoteFunction, RemoteFunction)
    yield pair("ParallelFunction", theirs.ParallelFunction, ParallelFunction)
    yield Group(
        "ViewExecutor",
        "`ViewExecutor`, here `EngineExecutor`",
        of_class(theirs.ViewExecutor),
        of_class(ours.EngineExecutor),
    )
    yield pair("Cluster", theirs.Cluster, ours.Cluster)
    yield Group(
        "errors",
        "`ipyparallel.error`, here `ipyasyncresult.errors`",
        of_module(theirs.error, defined_in=theirs.error.__name__),
        of_module(errors),
    )
    yield pair("RemoteError", theirs.error.RemoteError, errors.RemoteError)
    yield pair("CompositeError", theirs.error.CompositeError, errors.CompositeError)
    yield Group("magics", "Magics and their flags", their_magics(), our_magics())


def pair(key: str, theirs: type, ours: type) -> Group:
    """A class of theirs beside the class of the same name."""
    base = theirs.__mro__[1]
    inherited = base.__module__.partition(".")[0] != "ipyparallel" or key == "Cluster"
    return Group(key, f"`{key}`", of_class(theirs, inherited=inherited), of_class(ours))


def of_module(module: ModuleType, defined_in: str = "") -> dict[str, Any]:
    """The public names of a module that are no modules; those it defines itself, if asked for."""
    found = {name: getattr(module, name) for name in dir(module) if not name.startswith("_")}
    return {
        name: value
        for name, value in found.items()
        if not inspect.ismodule(value)
        and (not defined_in or getattr(value, "__module__", "") == defined_in)
    }


# Where the interface of a class ends: what these bring is not part of it.
_FOREIGN = frozenset({"traitlets", "builtins", "typing", "abc"})


def of_class(kind: type, *, inherited: bool = True) -> dict[str, Any]:
    """The public methods, properties and attributes of a class, its constructor first."""
    found: dict[str, Any] = {}
    if "__init__" in vars(kind) or inherited:
        found["(constructor)"] = kind.__init__  # type: ignore[misc]
    bases = kind.__mro__ if inherited else (kind,)
    for base in bases:
        root = base.__module__.partition(".")[0]
        if root in _FOREIGN and base not in (Future, Executor):
            continue
        for name in [*vars(base), *attributes(base)]:
            if not name.startswith("_") and name not in dir(Exception):
                found.setdefault(name, inspect.getattr_static(kind, name, None))
    return found | blocking(found)


def blocking(found: Names) -> dict[str, Any]:
    """ipyparallel's cluster has ``name_sync`` for each coroutine; its code names none of them."""
    return {
        f"{name}_sync": value
        for name, value in found.items()
        if inspect.iscoroutinefunction(value) and f"{name}_sync" not in found
    }


@cache
def attributes(kind: type) -> list[str]:
    """What the constructor of a class sets on its objects."""
    if "__init__" not in vars(kind):
        return []
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind.__init__)))  # type: ignore[misc]
    return [
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    ]


def their_magics() -> dict[str, Any]:
    """Magics and flags of ipyparallel by the names that people type."""
    from ipyparallel.client.magics import ParallelMagics as Theirs

    plain = {"%px": None, "%autopx": None, "%result": None}
    return {
        **plain,
        **flags_of("%%px", Theirs.cell_px),
        **flags_of("%pxresult", Theirs.result),
        **flags_of("%pxconfig", Theirs.pxconfig),
    }


def our_magics() -> dict[str, Any]:
    """The same of this package."""
    from ipyasyncresult.magics.enginemagics import EngineMagics as Ours

    return {
        "%px": None,
        "%autopx": None,
        **flags_of("%%px", Ours.px),
        **flags_of("%pxresult", Ours.pxresult),
        **flags_of("%pxconfig", Ours.pxconfig),
    }


def flags_of(name: str, magic: Any) -> dict[str, Any]:
    """A magic and each of its flags."""
    actions = magic.parser._option_string_actions
    return {name: None, **{f"{name} {flag}": None for flag in actions}}


# ------------------------------------------------------------------------------------ comparing


def compare(notes: Notes) -> Comparison:
    """Compare the two packages."""
    made = Comparison()
    tables = []
    counts = {"here": 0, "differs": 0, "not": 0}
    for group in groups():
        explained = notes.get(group.key, {})
        reasons, remarks = explained.get("not", {}), explained.get("differs", {})
        here, missing = group.theirs.keys() & group.ours.keys(), group.theirs.keys() - group.ours
        made.stale += [f"{group.key}.not.{name}" for name in reasons.keys() - missing]
        made.stale += [f"{group.key}.differs.{name}" for name in remarks.keys() - here]
        made.unexplained += [f"{group.key}.not.{name}" for name in sorted(missing - reasons.keys())]
        rows = []
        for name, there in group.theirs.items():
            if name in missing:
                row = Row(name, "not", reasons.get(name, ""))
            else:
                row = compare_name(name, there, group.ours[name], remarks.get(name, ""))
            counts[row.state] += 1
            rows.append(row)
        tables.append(table(group.title, rows))
    summary = (
        f"Of {sum(counts.values())} names (methods, attributes, magics, flags, errors) "
        f"{counts['here']} are here, {counts['differs']} are here and differ in something, "
        f"{counts['not']} are not."
    )
    head = _HEAD.format(version=_their_version(), summary=textwrap.fill(summary, 100))
    made.text = "\n".join([head, *tables])
    return made


def compare_name(name: str, there: Any, here: Any, remark: str) -> Row:
    """The row of a name that is here."""
    # Constructors differ in most of what they take: the remark says what matters.
    read = [] if remark and name == "(constructor)" else differences(there, here)
    texts = [*read, *filter(None, [remark])]
    return Row(name, "differs" if texts else "here", "; ".join(texts))


def differences(there: Any, here: Any) -> Iterator[str]:
    """What cannot be passed here as it can there."""
    theirs, ours = parameters(there), parameters(here)
    if theirs is None or ours is None:
        if callable(unwrapped(there)) and isinstance(here, property):
            yield "a property: no parentheses"
        return
    takes_any = any(p.kind is p.VAR_KEYWORD for p in ours.values())
    for name, parameter in theirs.items():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        if name not in ours:
            if not takes_any and parameter.kind is not parameter.POSITIONAL_ONLY:
                yield f"no `{name}`"
        elif ours[name].kind is parameter.KEYWORD_ONLY is not parameter.kind:
            yield f"`{name}` by keyword only"


def unwrapped(thing: Any) -> Any:
    """The function in a classmethod or staticmethod."""
    return getattr(thing, "__func__", thing)


def parameters(thing: Any) -> dict[str, inspect.Parameter] | None:
    """What a function takes; None for what is no function."""
    function = unwrapped(thing)
    if inspect.isclass(function) or not callable(function):
        return None
    try:
        found = dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return None
    for own in ("self", "cls"):
        found.pop(own, None)
    # Theirs with two underscores in front are not meant to be passed by name.
    return {name: p for name, p in found.items() if not name.startswith("_")}


# -------------------------------------------------------------------------------------- writing


def table(title: str, rows: list[Row]) -> str:
    """A section of the page."""
    lines = [f"## {title}", "", "| name | | |", "|---|---|---|"]
    for row in rows:
        name = row.name if row.name == "(constructor)" else f"`{row.name}`"
        text = row.text.replace("|", r"\|")
        lines.append(f"| {name} | {row.state} | {text} |")
    return "\n".join([*lines, ""])


def _their_version() -> str:
    version: str = importlib.import_module("ipyparallel").__version__
    return ".".join(version.split(".")[:2])


def drop(stale: list[str]) -> None:
    """Take notes out of the file: each is one line below the head of its table."""
    section = ""
    kept = []
    for line in NOTES.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        key = line.partition(" = ")[0].strip('"')
        if f"{section}.{key}" not in stale:
            kept.append(line)
    NOTES.write_text("\n".join(kept) + "\n", encoding="utf-8")


def read_notes() -> Notes:
    """What stands in the notes."""
    return tomllib.loads(NOTES.read_text(encoding="utf-8"))


def problems() -> Iterator[str]:
    """What is wrong with page and notes, one line each."""
    made = compare(read_notes())
    yield from (f"a reason is missing for {name}" for name in made.unexplained)
    yield from (f"the note is out of date for {name}" for name in made.stale)
    if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != made.text:
        yield f"docs/{PAGE.name} is out of date: make compatibility"


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    if not parser.parse_args(arguments).check:
        drop(compare(read_notes()).stale)
        PAGE.write_text(compare(read_notes()).text, encoding="utf-8")
    wrong = list(problems())
    print("\n".join(wrong) or "in order")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
