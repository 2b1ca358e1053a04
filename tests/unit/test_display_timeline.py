from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from ipyasyncresult.core.task import Status, TaskRecord
from ipyasyncresult.display.timeline import Span, Timeline, spans_of, timeline_svg

SVG = "{http://www.w3.org/2000/svg}"


def record(
    engine: int, started: float | None, duration: float | None = None, **fields: object
) -> TaskRecord:
    made = TaskRecord(f"id-{started}", 0.0)
    made.engine_id = engine
    made.started = started
    made.duration = duration
    made.status = Status.DONE if duration is not None else Status.RUNNING
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def bars(svg: str) -> list[ET.Element]:
    return ET.fromstring(svg).findall(f"{SVG}rect")


def title(bar: ET.Element) -> str:
    return bar.findtext(f"{SVG}title") or ""


def test_spans_end_by_the_engines_clock_and_running_ones_now() -> None:
    records = [
        record(0, 10.0, 2.0, received=99.0),
        record(1, 11.0),
        record(0, None),
        record(1, 12.0, status=Status.LOST, received=14.0),
        record(1, 30.0),  # began after "now": clocks of two machines
    ]
    spans = spans_of(records, now=20.0)
    assert [(s.engine_id, s.start, s.end) for s in spans] == [
        (0, 10.0, 12.0),
        (1, 11.0, 20.0),
        (1, 12.0, 14.0),
        (1, 30.0, 30.0),
    ]
    assert [s.label for s in spans] == ["task 0", "task 1", "task 3", "task 4"]


def test_every_task_is_a_bar_in_the_row_of_its_engine() -> None:
    svg = timeline_svg(
        [
            Span(3, 0.0, 1.0, Status.DONE, "task 0"),
            Span(1, 0.0, 2.0, Status.FAILED, "task 1"),
            Span(3, 1.0, 2.0, Status.RUNNING, "task 2"),
        ]
    )
    first, second, third = bars(svg)
    assert first.get("y") == third.get("y") != second.get("y")
    assert float(second.get("y", 0)) < float(first.get("y", 0))  # engine 1 above engine 3
    assert float(second.get("width", 0)) == pytest.approx(2 * float(first.get("width", 0)), 0.01)
    assert float(third.get("x", 0)) == pytest.approx(
        float(first.get("x", 0)) + float(first.get("width", 0)), 0.01
    )
    assert title(second) == "task 1: error, 2 s"
    assert len({bar.get("fill") for bar in (first, second, third)}) == 3
    names = [text.text for text in ET.fromstring(svg).findall(f"{SVG}text")]
    assert names[:2] == ["engine 1", "engine 3"]


def test_labels_are_escaped_and_the_document_stays_well_formed() -> None:
    hostile = '</title><script>alert("x")</script>\x00\ud800&'
    records = [record(0, 0.0, 1.0, label=hostile)]
    svg = timeline_svg(spans_of(records, 0.0))
    assert "<script" not in svg
    assert '<script>alert("x")</script>' in title(bars(svg)[0])


def test_many_tasks_are_binned_and_none_is_forgotten() -> None:
    spans = [
        Span(i % 4, i * 0.01, i * 0.01 + 0.04, Status.FAILED if i == 7777 else Status.DONE, "")
        for i in range(50_000)
    ]
    shown = bars(timeline_svg(spans))
    assert len(shown) <= 4 * 600
    assert sum("error" in title(bar) for bar in shown) in (1, 2)  # it may touch two bins
    assert all(float(bar.get("fill-opacity", 1)) <= 1 for bar in shown)


def test_binned_rows_show_how_busy_the_engine_was() -> None:
    busy = [Span(0, i, i + 1.0, Status.DONE, "") for i in range(2500)]
    idle = [Span(1, i, i + 0.3, Status.DONE, "") for i in range(0, 2500, 2)]
    opacity: dict[str | None, list[float]] = {}
    for bar in bars(timeline_svg([*busy, *idle])):
        opacity.setdefault(bar.get("y"), []).append(float(bar.get("fill-opacity", 1)))
    full, sparse = opacity.values()
    assert min(full) > 0.95
    assert max(sparse) < 0.5


@pytest.mark.parametrize("spans", [[], [Span(None, 5.0, 5.0, Status.DONE, "task 0")]])
def test_nothing_and_no_time_at_all_are_pictures_too(spans: list[Span]) -> None:
    assert len(bars(timeline_svg(spans))) == len(spans)


def test_the_picture_shows_itself() -> None:
    picture = Timeline([Span(0, 0.0, 2.0, Status.DONE, "task 0")])
    assert ET.fromstring(picture._repr_svg_()).tag == f"{SVG}svg"
    assert picture._repr_svg_() in picture._repr_html_()
    assert repr(picture) == "<Timeline: 1 tasks on 1 engines, 2 s>"
    assert repr(Timeline([])) == "<Timeline: nothing has run>"


# -------------------------------------------------------------------------- waiting and transfer


def texts(svg: str) -> list[str]:
    return [text.text or "" for text in ET.fromstring(svg).findall(f"{SVG}text")]


def test_waiting_and_transfer_can_be_seen() -> None:
    spans = [
        Span(0, 1.0, 2.0, Status.DONE, "task 0", 0.0, 2.5),
        Span(0, 2.0, 3.0, Status.FAILED, "task 1", 0.0, 3.0),
    ]
    svg = timeline_svg(spans)
    first, second = bars(svg)
    assert title(first) == "task 0: ok, 1 s, waited 1 s, transfer 0.5 s"
    assert title(second) == "task 1: error, 1 s, waited 2 s"
    # The picture begins with the submission and ends with the last result.
    width = float(first.get("width", 0))
    assert float(first.get("x", 0)) == pytest.approx(70 + width, abs=0.1)
    assert "waiting" in texts(svg)
    assert texts(svg)[-3:] == ["done", "failed", "transfer of the result"]
    assert "up to 2 tasks waited" in svg
    # A failed bar and its key have a gap: not by colour alone.
    assert svg.count('h8v2.7h-8z" fill="#fff"') == 1
    assert svg.count('fill="#fff"') == 2


def test_nothing_waits_where_nobody_knows() -> None:
    svg = timeline_svg([Span(0, 1.0, 2.0, Status.DONE, "task 0")])
    assert "waiting" not in texts(svg)


def test_a_hundred_thousand_tasks_are_a_small_picture() -> None:
    spans = [
        Span(i % 8, i * 0.001, i * 0.001 + 0.008, Status.DONE, "", 0.0, i * 0.001 + 0.01)
        for i in range(100_000)
    ]
    svg = timeline_svg(spans)
    assert len(svg) < 1_500_000
    assert "up to 99," in svg
    assert "transfer of the result" in svg


def test_tasks_are_named_by_their_result_unless_there_are_too_many() -> None:
    records = [record(0, 10.0, 2.0), record(1, 11.0, 1.0)]
    assert [span.label for span in spans_of(records, 20.0, lambda r: f"engine {r.engine_id}")] == [
        "engine 0",
        "engine 1",
    ]
    many = [record(0, 10.0, 2.0)] * 3000
    assert spans_of(many, 20.0, lambda r: 1 / 0)[5].label == "task 5"  # type: ignore[arg-type, return-value]
