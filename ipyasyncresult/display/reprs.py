"""A result as a line of text and as a piece of HTML.  Pure; everything from tasks is escaped."""

from __future__ import annotations

from html import escape

from ipyasyncresult.core.task import Counts
from ipyasyncresult.core.timing import format_seconds
from ipyasyncresult.display.shown import ShownResult

__all__ = ["result_html", "result_text", "state_of"]

_MOST_FAILURES = 5
_LONGEST_LINE = 200  # characters of one failure

_COLOURS = {"failed": "#c62828", "done": "#2e7d32", "running": "#1565c0", "pending": "#757575"}


def state_of(counts: Counts) -> str:
    """``'pending'``, ``'running'``, ``'done'`` or ``'failed'``: of everything together."""
    if counts.finished < counts.total:
        return "running" if counts.finished or counts.running else "pending"
    return "failed" if counts.failed else "done"


def result_text(result: ShownResult, ending: str | None = None) -> str:
    """One line: name, state, counts, elapsed time.

    Parameters
    ----------
    result : ShownResult
    ending : str, optional
        How the wait for it ended, if that was not its own end: ``'interrupted'``.
    """
    counts = result.counts()
    said = [f"{counts.finished:,}/{counts.total:,} {ending or state_of(counts)}"]
    said += [f"{number:,} {what}" for number, what in _numbers(counts)]
    return f"{result.fname}: {', '.join(said)}, {format_seconds(result.elapsed)}"


def _numbers(counts: Counts) -> list[tuple[int, str]]:
    numbers = [(counts.running, "running"), (counts.queued, "queued"), (counts.failed, "failed")]
    return [(number, what) for number, what in numbers if number]


def result_html(result: ShownResult, ending: str | None = None) -> str:
    """The same with a bar and the first failures; static, so that it reads well when saved."""
    counts = result.counts()
    state = state_of(counts)
    colour = _COLOURS[state]
    percent = 100 * counts.finished / counts.total if counts.total else 100
    numbers = "".join(f", {number:,} {what}" for number, what in _numbers(counts))
    return (
        '<div class="ipyasyncresult" style="font-size: 90%; line-height: 1.5">'
        f"<div><b>{escape(result.fname)}</b>: {counts.finished:,}/{counts.total:,} "
        f'<span style="color: {colour}">{escape(ending or state)}</span>'
        f"{numbers}, {format_seconds(result.elapsed)}</div>"
        '<div style="background: rgba(128, 128, 128, 0.25); height: 4px; max-width: 30em">'
        f'<div style="background: {colour}; height: 4px; width: {percent:.1f}%"></div></div>'
        f"{_failures_html(result, counts)}</div>"
    )


def _failures_html(result: ShownResult, counts: Counts) -> str:
    if not counts.failed:
        return ""
    rows = [
        f"<li>task {index}: <code>{escape(_shortened(text))}</code></li>"
        for index, text in result.failures(_MOST_FAILURES + 1)
    ]
    if len(rows) > _MOST_FAILURES:
        rows[_MOST_FAILURES:] = ["<li>...</li>"]
    return f'<ul style="margin: 0.3em 0">{"".join(rows)}</ul>'


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_LINE else f"{text[:_LONGEST_LINE]} ..."
