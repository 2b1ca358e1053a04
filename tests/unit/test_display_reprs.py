from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

import pytest

from ipyasyncresult.core.task import Counts
from ipyasyncresult.display.progress import Progress
from ipyasyncresult.display.reprs import result_html, result_text


@dataclass
class Looks:
    """The part of a result that a repr looks at."""

    numbers: Counts
    fname: str = "measure"
    elapsed: float = 4.1
    errors: list[tuple[int, str]] = field(default_factory=list)

    def counts(self) -> Counts:
        return self.numbers

    def failures(self, limit: int) -> list[tuple[int, str]]:
        return self.errors[:limit]


class Tags(HTMLParser):
    """The tags of a page, and whether they nest."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.add(tag)
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        (Counts(40, 12, 2, 4), "measure: 12/40 in 4.1 s, 4 running, 24 queued, 2 failed"),
        (Counts(40, 0, 0, 0), "measure: 0/40 in 4.1 s, 40 queued"),
        (Counts(4000, 4000, 0, 0), "measure: 4,000/4,000 done in 4.1 s"),
        (Counts(3, 3, 1, 0), "measure: 3/3 done in 4.1 s, 1 failed"),
        (Counts(0, 0, 0, 0), "measure: 0/0 done in 4.1 s"),
    ],
)
def test_text_and_html_say_the_same(counts: Counts, text: str) -> None:
    assert result_text(Looks(counts)) == text  # type: ignore[arg-type]
    assert Tags(result_html(Looks(counts))).text == text  # type: ignore[arg-type]


def test_how_the_wait_ended_takes_the_place_of_the_state() -> None:
    looks = Looks(Counts(4, 1, 1, 2))
    said = "measure: 1/4, interrupted after 4.1 s, 1 failed"
    assert result_text(looks, "interrupted") == said  # type: ignore[arg-type]
    assert Tags(result_html(looks, "interrupted")).text == said  # type: ignore[arg-type]


def test_the_time_is_not_worth_saying_before_a_second_of_work_has_passed() -> None:
    looks = Looks(Counts(4, 0, 0, 2), elapsed=0.002)
    assert result_text(looks) == "measure: 0/4, 2 running, 2 queued"  # type: ignore[arg-type]


def test_who_watches_is_told_the_pace_and_failures_only_in_number() -> None:
    looks = Looks(Counts(4, 1, 1, 2), errors=[(0, "ValueError: x")])
    progress = Progress(4, 1, 2, 1, 1, 2, elapsed=4.1, rate=2.0, remaining=3.0)
    said = "measure: 1/4 in 4.1 s, 2 running, 1 failed, 2/s, 0:03 left"
    assert result_text(looks, progress=progress) == said  # type: ignore[arg-type]
    assert Tags(result_html(looks, progress=progress)).text == said  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("counts", "ended", "good"),
    [
        (Counts(8, 4, 1, 2), "50%", "75%"),
        (Counts(8, 0, 0, 2), "0%", "100%"),
        (Counts(8, 8, 8, 0), "100%", "0%"),
        (Counts(0, 0, 0, 0), "100%", "100%"),
    ],
)
def test_the_bar_is_as_long_as_what_has_ended_and_red_where_it_failed(
    counts: Counts, ended: str, good: str
) -> None:
    page = result_html(Looks(counts))  # type: ignore[arg-type]
    assert re.findall(r"; width: ([\d.]+%)", page) == ["100%", ended, good]


def test_the_first_failures_are_listed_and_shortened() -> None:
    errors = [(index, f"ValueError: {index} " + "x" * 1000) for index in range(9)]
    page = result_html(Looks(Counts(9, 9, 9, 0), errors=errors))  # type: ignore[arg-type]
    assert page.count("<li>") == 6
    assert "task 4: " in page
    assert "<li>4 more</li>" in page
    assert len(page) < 3000


HOSTILE = """</li></ul><script>alert(1)</script><img src=x onerror='alert(2)' title="&">"""


def test_nothing_that_comes_from_a_task_becomes_html() -> None:
    looks = Looks(Counts(2, 1, 1, 0), fname=HOSTILE, errors=[(0, HOSTILE)])
    tags = Tags(result_html(looks, HOSTILE))  # type: ignore[arg-type]
    assert tags.seen == {"div", "b", "span", "ul", "li", "code"}
    assert tags.text.count(HOSTILE) == 3
