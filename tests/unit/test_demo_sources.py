from __future__ import annotations

from pathlib import Path

import pytest

from ipyasyncresult.demo.sources import (
    Measured,
    broken_file,
    by_package,
    histogram,
    library_files,
    measure,
    table,
)

SOURCE = '''\
"""A module
# this is no comment
"""

import os  # nor does this line count as one

# but this one does
class Thing:
    async def wait(self):
        return [x for x in os.environ if x] or None


def main():
    if True:
        def inner():
            pass
'''


def measured(path: str, lines: int = 10) -> Measured:
    return Measured(path, lines, lines, 0, 0, 1, 0, 0, 2, 5, 0.0)


def test_lines_and_definitions_of_a_file_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(SOURCE)
    found = measure(file)
    assert (found.path, found.lines) == ("module.py", 16)
    assert (found.code, found.comments, found.blank) == (11, 1, 4)
    assert (found.functions, found.classes, found.imports) == (3, 1, 1)
    assert found.branches == 3  # a comprehension, an `or`, an `if`
    assert found.longest == 4


def test_a_broken_file_says_where(tmp_path: Path) -> None:
    with pytest.raises(SyntaxError) as caught:
        measure(broken_file(tmp_path))
    assert caught.value.lineno == 3
    assert (caught.value.filename or "").endswith("broken_on_purpose.py")


def test_the_library_is_found_and_each_file_knows_its_package() -> None:
    files = library_files()
    assert len(files) > 500
    found = measure(next(file for file in files if file.match("json/decoder.py")))
    assert (found.path, found.package) == ("json/decoder.py", "json")
    assert measured("ast.py").package == "(modules)"


def test_packages_are_summed_largest_first_and_the_rest_in_one_line() -> None:
    totals = by_package([measured("a/x.py"), measured("b/x.py", 50), measured("a/y.py", 20)])
    assert [(total.package, total.files, total.lines) for total in totals] == [
        ("b", 1, 50),
        ("a", 2, 30),
    ]
    assert [line.split()[:3] for line in table(totals, rows=1).splitlines()] == [
        ["package", "files", "lines"],
        ["b", "1", "50"],
        ["(1", "more)", "2"],
    ]


def test_a_histogram_has_a_bar_per_doubling() -> None:
    assert histogram([1, 4, 5, 7], "lines", width=3).splitlines() == [
        "     1+ lines     1 █",
        "     2+ lines     0 ",
        "     4+ lines     3 ███",
    ]
    assert histogram([], "lines") == "no lines"
