"""A wish to take tasks back, open until it is known what became of each."""

from __future__ import annotations

__all__ = ["AbortRequest"]


class AbortRequest:
    """Per task: ``aborted``, ``running``, ``finished`` or ``unknown``."""

    __slots__ = ("open", "outcome", "request", "session")

    def __init__(self, session: str, request: int) -> None:
        self.session = session
        self.request = request
        self.outcome: dict[str, str] = {}
        self.open = 0  # tasks whose engine was asked and has not answered
