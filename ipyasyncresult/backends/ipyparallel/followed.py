"""AsyncResults of ipyparallel that somebody else submitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ipyasyncresult.backends.followed import FollowedFutures
from ipyasyncresult.backends.ipyparallel.heartbeat import ControllerWatch, endpoint
from ipyasyncresult.backends.ipyparallel.translation import translate
from ipyasyncresult.core.outputs import Output
from ipyasyncresult.errors import EngineError, HubError

__all__ = ["Followed"]

_LATE_OUTPUTS = 1.0
"""Seconds after a result in which its outputs must come."""


class Followed(FollowedFutures):
    """How they end.  Those that ipyparallel would leave open for ever end here, too."""

    may_never_end = True

    def __init__(self) -> None:
        self._controllers: dict[int, ControllerWatch] = {}  # by the id of their client
        self._unreadable: set[str] = set()  # written in ipyparallel's thread

    def call_at_end(self, future: Any, take: Callable[[], None]) -> None:
        # Callbacks come in the thread that receives outputs: there nobody may wait for them.
        if future.wait_for_output(0):
            take()
            return
        loop = future._client._io_loop
        loop.add_callback(loop.call_later, _LATE_OUTPUTS, take)
        future._output_future.add_done_callback(lambda _: take())

    def lost(self, future: Any, error: BaseException, msg_id: str) -> BaseException | None:
        return super().lost(future, error, msg_id) or translate(error, msg_id)

    def engine(self, future: Any) -> int | None:
        number = future.engine_id
        return number if isinstance(number, int) else None  # of several engines: none of them

    def outputs(self, future: Any, clock: Callable[[], float]) -> list[Output]:
        found = future.metadata
        outputs: list[Output] = []
        for about in found if isinstance(found, list) else [found]:
            outputs += [
                Output(name, clock(), about[name]) for name in ("stdout", "stderr") if about[name]
            ]
            outputs += [
                Output("display_data", clock(), data=shown["data"]) for shown in about["outputs"]
            ]
        return outputs

    def look_for_lost(self, futures: Mapping[str, Any]) -> dict[str, BaseException]:
        lost: dict[str, BaseException] = {}
        clients = {id(future._client): future._client for future in futures.values()}
        for key, client in clients.items():
            mine = {i: future for i, future in futures.items() if future._client is client}
            reason = self._end_of(key, client)
            if reason:
                lost |= {msg_id: HubError(f"{reason}; task {msg_id}") for msg_id in mine}
                continue
            for msg_id in self._unreadable & mine.keys():
                lost[msg_id] = EngineError(
                    f"ipyparallel could not read what came of task {msg_id}: most likely its "
                    "result cannot be unpickled here; its log has the error"
                )
            client._io_loop.add_callback(self._find_unreadable, client, mine)
        return lost

    def rest(self) -> None:
        for watch in self._controllers.values():
            watch.forget()

    def _end_of(self, key: int, client: Any) -> str:
        if client._closed:
            return "the ipyparallel client was closed"
        watch = self._controllers.setdefault(key, ControllerWatch(endpoint(client)))
        return "the ipyparallel controller does not answer: it is dead" if watch.is_dead() else ""

    def _find_unreadable(self, client: Any, futures: Mapping[str, Any]) -> None:
        """In ipyparallel's thread, so between two messages: one whose reply has come is done now,
        or its reply could not be read."""
        for msg_id, future in futures.items():
            for child in future._children:
                unanswered = child.msg_id in client.outstanding
                known = client._futures.get(child.msg_id) is child
                if known and not unanswered and not child.done():
                    self._unreadable.add(msg_id)
