"""A result as a line of text and as a piece of HTML.  Pure; everything from tasks is escaped."""

from __future__ import annotations

from html import escape

from ipyasyncresult.core.task import Counts
from ipyasyncresult.core.timing import format_seconds
from ipyasyncresult.display.progress import Progress
from ipyasyncresult.display.shown import ShownResult

__all__ = ["result_html", "result_text"]

_MOST_FAILURES = 5
_LONGEST_LINE = 200  # characters of one failure
_WORTH_SAYING = 1.0  # seconds that unfinished work must have taken

# Each can be seen on a light and on a dark page.
_RUNNING, _DONE, _FAILED = "#1976d2", "#388e3c", "#e53935"
_TRACK = "rgba(128, 128, 128, 0.25)"

# The padding is that of JupyterLab's text outputs: neighbours stand in one line.
_BLOCK = "font-size: 13px; line-height: 1.5; padding: 2px 8px"


def result_text(
    result: ShownResult, ending: str | None = None, *, progress: Progress | None = None
) -> str:
    """One line: name, how far it is, elapsed time, and what there is to say besides.

    Parameters
    ----------
    result : ShownResult
    ending : str, optional
        How the wait for it ended, if that was not its own end: ``'interrupted'``.
    progress : Progress, optional
        While it is watched: adds how fast it goes.
    """
    return f"{result.fname}: {', '.join(_said(result, ending, progress))}"


def result_html(
    result: ShownResult, ending: str | None = None, *, progress: Progress | None = None
) -> str:
    """The same with a bar and, when nobody watches any more, the first failures.

    Static, so that it reads well when saved.
    """
    counts = result.counts()
    said = ", ".join(_coloured(piece) for piece in _said(result, ending, progress))
    return (
        f'<div class="ipyasyncresult" style="{_BLOCK}">'
        f"<div><b>{escape(result.fname)}</b>: {said}</div>"
        f"{_bar_html(counts)}"
        f"{_failures_html(result, counts) if progress is None else ''}</div>"
    )


def _bar_html(counts: Counts) -> str:
    """A bar as long as what has ended; of that the end is red, as much as failed."""
    bar = ""
    good = _DONE if counts.finished == counts.total else _RUNNING
    for colour, number, total in (
        (good, counts.finished - counts.failed, counts.finished),
        (_FAILED, counts.finished, counts.total),
        (_TRACK, 1, 1),
    ):
        percent = 100 * number / total if total else 100
        bar = f'<div style="background: {colour}; height: 4px; width: {percent:.4g}%">{bar}</div>'
    return f'<div style="max-width: 30em">{bar}</div>'


def _said(result: ShownResult, ending: str | None, progress: Progress | None) -> list[str]:
    counts = result.counts()
    count, time = f"{counts.finished:,}/{counts.total:,}", format_seconds(result.elapsed)
    failed = [f"{counts.failed:,} failed"] if counts.failed else []
    if ending is not None:
        return [count, f"{ending} after {time}", *failed]
    if counts.finished == counts.total:
        return [f"{count} done in {time}", *failed]
    so_far = f"{count} in {time}" if result.elapsed >= _WORTH_SAYING else count
    if progress is not None:
        return [so_far, *progress.details()]
    numbers = [(counts.running, "running"), (counts.queued, "queued")]
    return [so_far, *(f"{number:,} {what}" for number, what in numbers if number), *failed]


def _coloured(piece: str) -> str:
    text = escape(piece)
    return f'<span style="color: {_FAILED}">{text}</span>' if "failed" in piece else text


def _failures_html(result: ShownResult, counts: Counts) -> str:
    if not counts.failed:
        return ""
    rows = [
        f"<li>task {index}: <code>{escape(_shortened(text))}</code></li>"
        for index, text in result.failures(_MOST_FAILURES)
    ]
    if len(rows) == _MOST_FAILURES < counts.failed:
        rows.append(f"<li>{counts.failed - len(rows):,} more</li>")
    return f'<ul style="margin: 0.3em 0">{"".join(rows)}</ul>'


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_LINE else f"{text[:_LONGEST_LINE]} ..."
