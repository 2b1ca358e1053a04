"""Measure Python source files: what the demo and the quickstart notebook do in parallel."""

from __future__ import annotations

import ast
import sysconfig
import time
import tokenize
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "Measured",
    "PackageTotal",
    "broken_file",
    "by_package",
    "histogram",
    "library_files",
    "measure",
    "table",
]

LIBRARY = Path(sysconfig.get_path("stdlib"))

# Python's tests keep files there that are broken on purpose.
TEST_DATA = {"data", "tokenizedata"}

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
IMPORTS = (ast.Import, ast.ImportFrom)
BRANCHES = (
    ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While,
    ast.ExceptHandler, ast.BoolOp, ast.comprehension, ast.match_case,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known of one source file.

    Attributes
    ----------
    path : str
        Within the library, or the file's name where it is not of the library.
    lines, code, comments, blank : int
        Lines of the file, and what they hold; text within quotes is code.
    functions, classes, imports, branches : int
        How many there are, nested ones included.
    longest : int
        Lines of the longest function.
    seconds : float
        What reading and parsing took.
    """

    path: str
    lines: int
    code: int
    comments: int
    blank: int
    functions: int
    classes: int
    imports: int
    branches: int
    longest: int
    seconds: float

    @property
    def package(self) -> str:
        """The top-level package that the file belongs to, ``(modules)`` for single files."""
        first, _, rest = self.path.partition("/")
        return first if rest else "(modules)"


class PackageTotal(NamedTuple):
    """The sums over the files of one package."""

    package: str
    files: int
    lines: int
    comments: int
    functions: int
    classes: int
    branches: int


def library_files() -> list[Path]:
    """All source files of this Python's standard library, sorted: about 1,600 of uneven sizes."""
    return [
        path
        for path in sorted(LIBRARY.rglob("*.py"))
        if not {"site-packages", "dist-packages"} & set(path.parts)
        and path.parent.name not in TEST_DATA
    ]


def measure(path: str | Path) -> Measured:
    """Read, parse and count one source file.

    Raises
    ------
    SyntaxError
        When it is no Python, or not in the encoding that it claims.
    """
    start = time.perf_counter()
    path = Path(path)
    with tokenize.open(path) as file:
        source = file.read()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old files have odd escapes in their strings
        tree = ast.parse(source, filename=str(path))
    seconds = time.perf_counter() - start

    lines = source.splitlines()
    nodes = list(ast.walk(tree))
    kinds = Counter(map(type, nodes))
    quoted = set(quoted_lines(nodes))
    outside = [line.strip() for number, line in enumerate(lines, 1) if number not in quoted]
    comments = sum(line.startswith("#") for line in outside)
    blank = outside.count("")
    return Measured(
        path=path.relative_to(LIBRARY).as_posix() if path.is_relative_to(LIBRARY) else path.name,
        lines=len(lines),
        code=len(lines) - comments - blank,
        comments=comments,
        blank=blank,
        functions=sum(kinds[kind] for kind in FUNCTIONS),
        classes=kinds[ast.ClassDef],
        imports=sum(kinds[kind] for kind in IMPORTS),
        branches=sum(kinds[kind] for kind in BRANCHES),
        longest=max((lines_of(node) for node in nodes if isinstance(node, FUNCTIONS)), default=0),
        seconds=seconds,
    )


def quoted_lines(nodes: Iterable[ast.AST]) -> Iterator[int]:
    """The lines, from the second on, of texts that go over several lines."""
    for node in nodes:
        if isinstance(node, ast.Constant | ast.JoinedStr):
            yield from range(node.lineno + 1, (node.end_lineno or node.lineno) + 1)


def lines_of(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def broken_file(folder: str | Path) -> Path:
    """A new file in `folder` that cannot be measured: something always fails in real work."""
    path = Path(folder) / "broken_on_purpose.py"
    path.write_text("import os\n\ndef half_done(:\n    return os\n")
    return path


def by_package(measured: Iterable[Measured]) -> list[PackageTotal]:
    """The sums per package, the largest first."""
    packages: dict[str, list[Measured]] = defaultdict(list)
    for one in measured:
        packages[one.package].append(one)
    totals = [
        PackageTotal(
            package=package,
            files=len(files),
            lines=sum(one.lines for one in files),
            comments=sum(one.comments for one in files),
            functions=sum(one.functions for one in files),
            classes=sum(one.classes for one in files),
            branches=sum(one.branches for one in files),
        )
        for package, files in packages.items()
    ]
    return sorted(totals, key=lambda total: (-total.lines, total.package))


def table(totals: Sequence[PackageTotal], rows: int = 8) -> str:
    """The first `rows` packages as a text table, the rest in one line."""
    shown, rest = list(totals[:rows]), totals[rows:]
    if rest:
        sums = [sum(column) for column in list(zip(*rest, strict=True))[1:]]
        shown.append(PackageTotal(f"({len(rest)} more)", *sums))
    header = "".join(
        f"{name:<16}" if name == "package" else f"{name:>11}" for name in PackageTotal._fields
    )
    body = [f"{package:<16}" + "".join(f"{n:>11,}" for n in sums) for package, *sums in shown]
    return "\n".join([header, *body])


def histogram(values: Iterable[int], unit: str, width: int = 40) -> str:
    """How often values of each size occur: one bar of text per doubling."""
    counts: dict[int, int] = defaultdict(int)
    for value in values:
        counts[value.bit_length()] += 1
    if not counts:
        return f"no {unit}"
    scale = width / max(counts.values())
    return "\n".join(
        f"{1 << size >> 1:>6,}+ {unit} {counts[size]:>5,} {'█' * round(scale * counts[size])}"
        for size in range(min(counts), max(counts) + 1)
    )
