from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from ipyasyncresult.core.asyncresult import AsyncResult
from ipyasyncresult.display.failing import FailureGroup
from ipyasyncresult.display.model import LaneLook, Look
from ipyasyncresult.display.progress import Progress
from ipyasyncresult.display.reprs import look_html, look_text, result_html, result_text
from ipyasyncresult.testing import FakeClient


def look(
    total: int, done: int, failed: int, running: int, *, elapsed: float = 4.1, name: str = "measure"
) -> Look:
    progress = Progress(total, done, running, total - done - running, failed, 2, elapsed)
    return Look(name, progress, 0, [], 0.1, [], {})


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
    ("numbers", "text"),
    [
        ((40, 12, 2, 4), "measure: 12/40 in 4.1 s, 4 running, 24 queued, 2 failed"),
        ((40, 0, 0, 0), "measure: 0/40 in 4.1 s, 40 queued"),
        ((4000, 4000, 0, 0), "measure: 4,000/4,000 done in 4.1 s"),
        ((0, 0, 0, 0), "measure: 0/0 done in 4.1 s"),
    ],
)
def test_text_and_html_say_the_same(numbers: tuple[int, int, int, int], text: str) -> None:
    assert look_text(look(*numbers)).splitlines()[0] == text
    assert Tags(look_html(look(*numbers))).text.startswith(text)


def test_how_the_wait_ended_takes_the_place_of_the_state() -> None:
    said = "measure: 1/4, interrupted after 4.1 s"
    assert look_text(look(4, 1, 0, 2), "interrupted") == said
    assert Tags(look_html(look(4, 1, 0, 2), "interrupted")).text == said


def test_the_time_is_not_worth_saying_before_a_second_of_work_has_passed() -> None:
    assert look_text(look(4, 0, 0, 2, elapsed=0.002)) == "measure: 0/4, 2 running, 2 queued"


@pytest.mark.parametrize(
    ("numbers", "widths"),
    [
        ((8, 4, 1, 2), ["37.5%", "12.5%"]),
        ((8, 0, 0, 2), []),
        ((8, 8, 8, 0), ["100%"]),
        ((0, 0, 0, 0), []),
    ],
)
def test_the_bar_has_a_part_for_what_went_well_and_one_for_what_failed(
    numbers: tuple[int, int, int, int], widths: list[str]
) -> None:
    assert re.findall(r"; width: ([\d.]+%)", look_html(look(*numbers))) == widths


def test_parts_of_the_bar_differ_in_shape_not_by_colour_alone() -> None:
    shapes = re.findall(r"border-top: 6px (\w+) #", look_html(look(8, 8, 4, 0)))
    assert shapes == ["solid", "double"]


def test_failures_are_grouped_with_the_first_of_each() -> None:
    client = FakeClient()
    result = client.submit_map([1] * 40, fname="divide")
    for number, msg_id in enumerate(result.msg_ids):
        if number >= 37:
            client.fail(msg_id, ValueError("no <header>"), engine=1, inputs=f"divide({number})")
        else:
            client.fail(msg_id, ZeroDivisionError("division by zero"))
    text = result_text(result).splitlines()
    assert text[1:] == [
        "  37 x ZeroDivisionError: division by zero, first: item 0 on engine 0",
        "  3 x ValueError: no <header>, first: item 37 on engine 1",
    ]
    page = Tags(result_html(result))
    assert "37 x ZeroDivisionError: division by zero" in page.text
    assert "called as divide(37)" in page.text
    assert {"details", "summary", "pre"} <= page.seen


def test_more_failures_than_are_looked_at_are_counted() -> None:
    client = FakeClient()
    result = client.submit("f", 1000)
    for number, msg_id in enumerate(result.msg_ids):
        client.fail(msg_id, ValueError(str(number)))
    assert "  995 more failed" in result_text(result).splitlines()
    assert len(result_html(result)) < 10_000


def test_what_was_taken_back_is_no_failure() -> None:
    client = FakeClient()
    result = client.submit("f", 4)
    client.finish(result.msg_ids[0])
    result.abort()
    assert result_text(result) == "f: 4/4 done in 0 ms, 3 aborted"


HOSTILE = """</pre></details><script>alert(1)</script><img src=x onerror='alert(2)' title="&">"""


def test_nothing_that_comes_from_a_task_becomes_html() -> None:
    group = FailureGroup(2, HOSTILE, HOSTILE, HOSTILE, 0, HOSTILE, HOSTILE)
    lane = LaneLook(0, "busy", HOSTILE, 1.0, 1, 1, 1, "08ai", [("stdout", HOSTILE)])
    hostile = replace(look(2, 2, 2, 0, name=HOSTILE), failures=[group], lanes=[lane])
    tags = Tags(look_html(hostile, HOSTILE))
    assert tags.seen == {"div", "b", "span", "details", "summary", "pre"}
    assert tags.text.count(HOSTILE) == 7


def test_a_result_that_is_shown_is_not_followed_any_more() -> None:
    result: AsyncResult = FakeClient().submit("f", 2)
    result_html(result)
    assert not result._tally.followers
