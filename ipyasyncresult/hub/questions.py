"""Questions of clients to the hub, answered with plain data: one method each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ipyasyncresult.hub.records import EngineState, HubTask
from ipyasyncresult.wire.messages import Answer, Ask, BindKernel, EngineReply, encode

if TYPE_CHECKING:
    from ipyasyncresult.hub.server import HubServer

__all__ = ["Questions"]


class Questions:
    """What may be asked.  The hub's thread only."""

    def __init__(self, server: HubServer) -> None:
        self._server = server
        self._state = server.state
        self._known: dict[str, Callable[..., Any]] = {
            "subscribe": self.subscribe,
            "resubmit": self.resubmit,
            "find": self.find,
            "history": self.history,
            "tasks": self.tasks,
            "purge": self.purge,
            "queue_status": self.queue_status,
            "add_engines": self.add_engines,
            "restart": self.restart,
            "bind_kernel": self.bind_kernel,
            "status": self.status,
            "watch": server.watching.watch,
            "calls": server.watching.calls,
            "call_tasks": server.watching.call_tasks,
            "read": server.watching.read,
            "segments": self.segments,
        }

    def answer(self, session: str, ask: Ask) -> None:
        """Answer one question; a bad one is answered with what is wrong about it."""
        question = self._known.get(ask.question)
        try:
            content = (question or _unknown)(session, ask.request, **ask.about)
        except (TypeError, ValueError, KeyError) as error:
            named = isinstance(error, ValueError)  # ours: its text says all
            content = {"error": str(error) if named else f"{type(error).__name__}: {error}"}
        if content is not None:
            self._state.answers.append((session, Answer(ask.request, content)))

    def subscribe(
        self, session: str, request: int, msg_ids: list[str], *, anew: bool = False
    ) -> None:
        """Describe tasks, then send everything about them, as it is and as it comes."""
        described, replay = self._state.subscribe(session, msg_ids, anew=anew)
        # The description must leave before the news, in which the records are filled.
        self._server.send_now(session, Answer(request, described))
        replay()
        self._server.clients.send_news(replayed=True)

    def resubmit(self, session: str, request: int, again: dict[str, str]) -> list[str]:
        """Run ended tasks again under new ids; returns the old ids whose work is not kept."""
        del request
        if not all(type(new) is str and new not in self._state.tasks for new in again.values()):
            raise ValueError("the new ids must be strings that are no task's yet")
        return self._state.resubmit(session, again, time.time())

    def find(self, session: str, request: int, which: str | int | list[str]) -> dict[str, Any]:
        """The ids, and the shape, of a group, of a label, or of the last call (-1, -2, ...)."""
        del session, request
        found = self._state.archive.find(which)
        if found is None:
            raise ValueError(f"the hub knows no task or call {which!r}")
        return found

    def history(self, session: str, request: int) -> list[str]:
        """All ids, oldest first."""
        del session, request
        return list(self._state.tasks)

    def tasks(
        self, session: str, request: int, msg_ids: list[str] | None = None
    ) -> list[dict[str, Any]]:
        """Descriptions without contents."""
        del session, request
        tasks = self._state.tasks
        chosen = tasks.values() if msg_ids is None else [tasks[i] for i in msg_ids if i in tasks]
        stored = self._state.archive.is_stored
        return [held.describe() | held.times() | {"stored": stored(held)} for held in chosen]

    def purge(self, session: str, request: int, msg_ids: list[str] | None) -> int:
        """Forget finished tasks; how many."""
        del session, request
        return self._state.archive.forget(msg_ids)

    def queue_status(self, session: str, request: int) -> dict[str, Any]:
        """How many tasks wait and run, by engine."""
        del session, request
        state = self._state
        engines = {
            str(engine_id): {
                "queue": _waiting(state.direct.get(engine_id, ())),
                "tasks": len(engine.assigned),
                "completed": engine.finished,
            }
            for engine_id, engine in state.engines.items()
        }
        return {"engines": engines, "unassigned": _waiting(state.shared)}

    def add_engines(self, session: str, request: int, count: int) -> list[int]:
        """Start more engines."""
        del session, request
        if count < 1:
            raise ValueError(f"the number of engines must be >= 1, not {count!r}")
        return self._server.keeper.add(count)

    def restart(
        self, session: str, request: int, engines: list[int] | None = None
    ) -> dict[str, str]:
        """End engines and start others in their places; what happens to each."""
        del session, request
        return self._server.keeper.restart(engines)

    def segments(self, session: str, request: int) -> list[str]:
        """Names of what is in use of the shared memory.  What is free was said before."""
        del session, request
        return sorted(self._server.arrays.segments.in_use())

    def bind_kernel(self, session: str, request: int, engine: int) -> None:
        """Turn an engine into a Jupyter kernel; the engine answers with the connection file."""
        found = self._state.engines.get(engine)
        if found is None:
            raise ValueError(f"engine {engine} is not up")
        found.asked.add((session, request))
        folder = self._server.folder
        wish = BindKernel(
            session, request, str(folder / f"kernel-{engine}.json"), str(folder / f"k{engine}")
        )
        self._server.send_to_engine(found, encode(wish))

    def relay(self, engine: EngineState, reply: EngineReply) -> None:
        """Pass on what an engine answers."""
        if (reply.session, reply.request) in engine.asked:
            engine.asked.discard((reply.session, reply.request))
            self._state.answers.append((reply.session, Answer(reply.request, reply.content)))

    def status(self, session: str, request: int) -> dict[str, Any]:
        """About the hub itself."""
        del session, request
        server = self._server
        about = server.cluster_file()
        return {
            "cluster_id": about.cluster_id,
            "pid": about.pid,
            "package": about.package,
            "python": about.python,
            "clients": len(server.clients.sessions),
            "unfinished": self._state.unfinished,
            "dropped_messages": server.dropped,
            "memory_bytes": self._state.archive.bytes,
            "store": server.durability.describe(),
            "transport": server.settings.transport,
            "refused_connections": server.gate.refused,
        }


def _waiting(queue: Iterable[HubTask]) -> int:
    """Aborted tasks stay in their queue until an engine would get them."""
    return sum(held.final is None for held in queue)


def _unknown(*_: Any, **about: Any) -> Any:
    raise ValueError(f"this hub does not know that question (about {sorted(about)})")
