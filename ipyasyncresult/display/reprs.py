"""A result as text and as a piece of HTML that stays.  Pure; everything from tasks is escaped.

The HTML has its style in its elements and folds with ``<details>``: that survives saving, an
untrusted notebook's sanitizer and nbconvert.
"""

from __future__ import annotations

from html import escape

from ipyasyncresult.core.timing import format_seconds
from ipyasyncresult.display.failing import FailureGroup
from ipyasyncresult.display.model import LaneLook, LiveModel, Look
from ipyasyncresult.display.shown import ShownResult

__all__ = ["look_html", "look_text", "result_html", "result_text"]

_WORTH_SAYING = 1.0  # seconds that unfinished work must have taken
_MOST_LANES = 64

# Each can be seen on a light and on a dark page.
_RUNNING, _DONE, _FAILED, _ABORTED = "#1976d2", "#388e3c", "#e53935", "#8d8d8d"
_TRACK = "rgba(128, 128, 128, 0.25)"
_FAINT = "opacity: 0.75"

# The padding is that of JupyterLab's text outputs: neighbours stand in one line.
_BLOCK = "font-size: 13px; line-height: 1.5; padding: 2px 8px"
_BAR = "max-width: 480px; height: 6px; margin: 3px 0 4px 0; line-height: 0"
_CODE = "margin: 2px 0 6px 16px; font-size: 12px; line-height: 1.35; white-space: pre-wrap"

_BLOCKS = dict(zip("012345678abcdefghi", " ▁▂▃▄▅▆▇█" * 2, strict=True))


def result_text(result: ShownResult, ending: str | None = None) -> str:
    """The state as a line, and a line per kind of failure.

    Parameters
    ----------
    result : ShownResult
    ending : str, optional
        How the wait for it ended, if that was not its own end: ``'interrupted'``.
    """
    return look_text(_look_at(result), ending)


def result_html(result: ShownResult, ending: str | None = None, *, look: Look | None = None) -> str:
    """The same with a bar, and with failures and engines to unfold."""
    return look_html(look or _look_at(result), ending)


def _look_at(result: ShownResult) -> Look:
    model = LiveModel(result)
    try:
        return model.look()
    finally:
        model.close()


def look_text(look: Look, ending: str | None = None) -> str:
    """As :func:`result_text`, of a look at hand."""
    lines = [f"{look.name}: {', '.join(_said(look, ending))}"]
    lines += [f"  {_failure_line(group)}, first: {_place(group)}" for group in look.failures]
    if others := _others(look):
        lines.append(f"  {others:,} more failed")
    return "\n".join(lines)


def look_html(look: Look, ending: str | None = None) -> str:
    """As :func:`result_html`, of a look at hand."""
    said = ", ".join(_coloured(piece) for piece in _said(look, ending))
    return (
        f'<div class="ipyasyncresult" style="{_BLOCK}">'
        f"<div><b>{escape(look.name)}</b>: {said}</div>"
        f"{_bar_html(look)}{_failures_html(look)}{_lanes_html(look)}</div>"
    )


# -------------------------------------------------------------------------------------- the pieces


def _said(look: Look, ending: str | None) -> list[str]:
    progress = look.progress
    done, total = progress.done, progress.total
    count = f"{done:,}/{total:,}"
    time = format_seconds(progress.elapsed)
    bad = [f"{look.failed:,} failed"] if look.failed else []
    bad += [f"{look.aborted:,} aborted"] if look.aborted else []
    if ending is not None:
        return [count, f"{ending} after {time}", *bad]
    if done == total:
        return [f"{count} done in {time}", *bad]
    so_far = f"{count} in {time}" if progress.elapsed >= _WORTH_SAYING else count
    numbers = [(progress.running, "running"), (progress.queued, "queued")]
    return [so_far, *(f"{number:,} {what}" for number, what in numbers if number), *bad]


def _coloured(piece: str) -> str:
    text = escape(piece)
    return f'<span style="color: {_FAILED}">{text}</span>' if "failed" in piece else text


def _bar_html(look: Look) -> str:
    """Done, failed, aborted, and what is left as the track."""
    progress = look.progress
    total = progress.total or 1
    good = progress.done - progress.failed
    colour = _DONE if progress.done == progress.total else _RUNNING
    # Borders: each has a shape beside its colour, and is printed where grounds are not.
    parts = [
        (f"solid {colour}", good),
        (f"double {_FAILED}", look.failed),
        (f"dotted {_ABORTED}", look.aborted),
    ]
    pieces = "".join(
        f'<div style="display: inline-block; height: 0; border-top: 6px {line}; '
        f'width: {100 * number / total:.4g}%"></div>'
        for line, number in parts
        if number
    )
    return f'<div style="{_BAR}; background: {_TRACK}">{pieces}</div>'


def _failures_html(look: Look) -> str:
    rows = [
        f'<details><summary><span style="color: {_FAILED}">{escape(_failure_line(group))}</span> '
        f'<span style="{_FAINT}">first: {escape(_place(group))}</span></summary>'
        f'<pre style="{_CODE}">{escape(_explained(group))}</pre></details>'
        for group in look.failures
    ]
    if others := _others(look):
        rows.append(f'<div style="{_FAINT}">{others:,} more failed</div>')
    return "".join(rows)


def _failure_line(group: FailureGroup) -> str:
    return f"{group.count:,} x {group.title}" if group.count > 1 else group.title


def _place(group: FailureGroup) -> str:
    where = "" if group.engine_id is None else f" on engine {group.engine_id}"
    return f"{group.place}{where}"


def _explained(group: FailureGroup) -> str:
    called = [f"called as {group.inputs}"] if group.inputs else []
    return "\n".join([*called, group.traceback]) or "nothing more is known"


def _others(look: Look) -> int:
    """Failures that are in none of the groups shown."""
    return max(0, look.failed - sum(group.count for group in look.failures))


def _lanes_html(look: Look) -> str:
    if not look.lanes:
        return ""
    rows = [_lane_html(lane) for lane in look.lanes[:_MOST_LANES]]
    if len(look.lanes) > _MOST_LANES:
        rows.append(f"{len(look.lanes) - _MOST_LANES} more")
    count = f"{len(look.lanes)} engine{'s' if len(look.lanes) != 1 else ''}"
    return (
        f'<details><summary style="{_FAINT}">{count}</summary>'
        f'<pre style="{_CODE}">{chr(10).join(rows)}</pre></details>'
    )


def _lane_html(lane: LaneLook) -> str:
    strip = "".join(_BLOCKS[code] for code in lane.strip)
    notes = [f"{lane.done:,} done"]
    notes += [f"{lane.failed:,} failed"] if lane.failed else []
    notes += [f"replaced {lane.replaced} x"] if lane.replaced else []
    notes += [lane.state] if lane.state not in ("idle", "busy") else []
    return escape(f"{lane.engine_id:>4} {strip}  {', '.join(notes)}")
