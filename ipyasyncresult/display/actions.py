"""What the buttons of a live view do, and their honest answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from ipyasyncresult.display.shown import ShownResult

__all__ = ["ACTIONS", "act"]

_SAID = {
    "stop": {"aborted": "aborted", "running": "already running", "finished": "already finished"},
    "interrupt": {
        "interrupting": "interrupted",
        "queued": "still queued",
        "finished": "already finished",
    },
}
_NOTHING = {"stop": "nothing was queued", "interrupt": "nothing was running"}


def act(result: ShownResult, action: str) -> str:
    """Do it; what was done, per task: ``'3 aborted, 1 already running'``.  Any thread.

    What goes wrong is part of the answer: there is nobody to raise to.
    """
    try:
        return ACTIONS[action](result)
    except Exception as error:  # noqa: BLE001  shown to the person who pressed the button
        return f"that did not work: {type(error).__name__}: {error}"


def _stop(result: ShownResult) -> str:
    return _in_words("stop", result.abort())


def _interrupt(result: ShownResult) -> str:
    return _in_words("interrupt", result.interrupt())


def _retry(result: ShownResult) -> str:
    failed = result.counts().failed
    result.retry_failed(in_place=True)
    return f"{failed:,} {'runs' if failed == 1 else 'run'} again"


ACTIONS: dict[str, Callable[[ShownResult], str]] = {
    "stop": _stop,
    "interrupt": _interrupt,
    "retry": _retry,
}


def _in_words(action: str, outcomes: Mapping[str, str]) -> str:
    counted = Counter(outcomes.values())
    said = _SAID[action]
    known = [outcome for outcome in said if counted[outcome]]
    others = [outcome for outcome in counted if outcome not in said]
    words = [f"{counted[one]:,} {said.get(one, one)}" for one in (*known, *others)]
    return ", ".join(words) or _NOTHING[action]
