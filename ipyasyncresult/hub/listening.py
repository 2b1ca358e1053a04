"""Clients that want to hear of tasks which they, or this connection of theirs, did not submit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ipyasyncresult.hub.state import HubState

__all__ = ["subscribe"]


def subscribe(
    state: HubState, session: str, msg_ids: list[str], *, anew: bool = False
) -> tuple[list[Any], Callable[[], None]]:
    """What is known about tasks, and what to call to send everything else.

    With `anew` the session heard of them from another hub.
    """
    found = [state.tasks.get(msg_id) for msg_id in msg_ids]
    described = [None if held is None else held.describe() for held in found]

    def replay() -> None:
        entries = state.news.setdefault(session, [])
        for held in found:
            listens = held is not None and held.final is None and session in held.audience()
            if held is None or (listens and not anew):
                continue  # unknown, or it has heard of this task from the start
            entries.extend(state.archive.replay(held))
            if held.final is None and not listens:
                held.listeners = (*(held.listeners or ()), session)

    return described, replay
