"""What the hub decides: messages in, decisions out."""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from ipyasyncresult.hub.archive import Archive
from ipyasyncresult.hub.records import EngineState, HubTask
from ipyasyncresult.hub.scheduler import LOOK_AHEAD
from ipyasyncresult.hub.state import HubState
from ipyasyncresult.wire.messages import (
    ERROR,
    FIRST,
    OK,
    Finished,
    Group,
    LostTask,
    OutputPiece,
    Requeued,
    Returned,
    Started,
    Task,
)

NOW = 1000.0
KILLED = {"signal": "SIGKILL"}


@pytest.fixture
def state() -> HubState:
    return HubState(Archive())


def tasks(*names: str, **fields: Any) -> list[Task]:
    return [Task(name, 0, b"args", **fields) for name in names]


def submit(state: HubState, *names: str, session: str = "me", **fields: Any) -> None:
    state.submit(session, [b"function"], tasks(*names, **fields), (), None, NOW)


def engine(state: HubState, engine_id: int = 0) -> EngineState:
    made = EngineState(engine_id, f"uuid{engine_id}", NOW)
    state.engine_ready(made)
    return made


def assigned(state: HubState) -> list[tuple[int, list[str]]]:
    """What every engine is given now."""
    state.assign()
    runs = [(to.engine_id, [held.task.msg_id for held in batch]) for to, batch in state.runs]
    state.runs.clear()
    return runs


def ended(name: str, status: int = OK, *, duration: float = 1.0, frames: int = 0) -> Finished:
    return Finished(name, status, b"body", frames, NOW, NOW, duration)


def news(state: HubState, session: str = "me") -> list[Any]:
    return [item for item, _ in state.news.pop(session, [])]


def learn(state: HubState, on: EngineState, seconds: float) -> None:
    """Let the hub see how long a task takes."""
    submit(state, "teacher")
    assigned(state)
    state.finished(on, ended("teacher", duration=seconds), ())
    state.news.clear()


# ------------------------------------------------------------------------------------ assignment


def test_a_task_of_unknown_length_is_given_alone(state: HubState) -> None:
    submit(state, "a", "b", "c")
    engine(state, 0)
    engine(state, 1)
    assert assigned(state) == [(0, ["a"]), (1, ["b"])]
    assert assigned(state) == []


def test_short_tasks_are_given_in_batches_of_about_the_look_ahead(state: HubState) -> None:
    only = engine(state)
    learn(state, only, LOOK_AHEAD / 10)
    submit(state, *(str(number) for number in range(50)))
    [(_, batch)] = assigned(state)
    assert len(batch) in (9, 10)
    assert batch == [str(number) for number in range(len(batch))]
    for name in batch[:4]:
        state.finished(only, ended(name, duration=LOOK_AHEAD / 10), ())
    assert assigned(state) == []  # more than half is left
    for name in batch[4:6]:
        state.finished(only, ended(name, duration=LOOK_AHEAD / 10), ())
    [(_, refill)] = assigned(state)
    assert refill[0] == str(len(batch))


def test_few_short_tasks_are_shared_among_idle_engines(state: HubState) -> None:
    learn(state, engine(state, 0), 1e-5)
    engine(state, 1)
    submit(state, *"abcdefg")
    assert sorted(len(batch) for _, batch in assigned(state)) == [3, 4]


def test_long_tasks_come_one_by_one(state: HubState) -> None:
    only = engine(state)
    learn(state, only, 5.0)
    submit(state, "a", "b")
    assert assigned(state) == [(0, ["a"])]
    state.finished(only, ended("a", duration=5.0), ())
    assert assigned(state) == [(0, ["b"])]


def test_a_direct_task_waits_for_its_engine_and_goes_before_shared_ones(state: HubState) -> None:
    submit(state, "shared")
    submit(state, "for 1", target=1)
    submit(state, "for 7", target=7)
    engine(state, 1)
    assert assigned(state) == [(1, ["for 1"])]
    engine(state, 0)
    assert assigned(state) == [(0, ["shared"])]
    engine(state, 7)
    assert assigned(state) == [(7, ["for 7"])]


def test_a_message_that_comes_twice_brings_its_tasks_once(state: HubState) -> None:
    submit(state, "a")
    submit(state, "a")
    assert state.unfinished == 1
    engine(state)
    assert assigned(state) == [(0, ["a"])]


def test_frames_go_to_their_tasks_in_order(state: HubState) -> None:
    some = [Task("a", 0, b"", frames=2), Task("b", 0, b""), Task("c", 0, b"", frames=1)]
    state.submit("me", [b"f"], some, [b"1", b"2", b"3"], None, NOW)
    assert [list(held.frames) for held in state.tasks.values()] == [[b"1", b"2"], [], [b"3"]]


# ------------------------------------------------------------------------------ long tasks, recalls


def test_nothing_waits_behind_a_task_that_turns_out_to_be_long(state: HubState) -> None:
    only = engine(state)
    learn(state, only, 1e-5)
    submit(state, "long", "b", "c", "d")
    assigned(state)
    state.started(only, Started("long", -1, NOW + 1))
    state.started(only, Started("long", -1, NOW + 2))  # said once only
    assert news(state) == [Started("long", 0, NOW + 1)]
    assert state.recalls == [(only, None)]
    other = engine(state, 1)
    assert assigned(state) == []
    state.returned(only, Returned(["b", "c", "d"], []))
    assert [held.task.msg_id for held in state.shared] == ["b", "c", "d"]
    assert assigned(state)[0] == (1, ["b"])  # the function is long now
    assert list(only.assigned) == ["long"]
    assert list(other.assigned) == ["b"]


def test_results_that_crossed_a_recall_are_kept(state: HubState) -> None:
    only = engine(state)
    learn(state, only, 1e-5)
    submit(state, "a", "b", "c")
    assigned(state)
    state.started(only, Started("a", -1, NOW))
    state.finished(only, ended("a"), ())
    state.finished(only, ended("b"), ())
    state.returned(only, Returned(["c"], []))
    assert [held.task.msg_id for held in state.shared] == ["c"]
    assert state.unfinished == 1


# ------------------------------------------------------------------------------------------- ends


def test_the_end_is_told_with_its_frames_behind_its_outputs(state: HubState) -> None:
    only = engine(state)
    submit(state, "a")
    assigned(state)
    state.output(only, OutputPiece("a", b"printed"))
    state.finished(only, ended("a", frames=1), [b"frame"])
    assert state.news.pop("me") == [
        (OutputPiece("a", b"printed"), ()),
        (Finished("a", OK, b"body", 1, NOW, NOW, 1.0, engine_id=0), [b"frame"]),
    ]
    state.finished(only, ended("a"), ())
    assert news(state) == []
    assert state.tasks["a"].status == "ok"


def test_what_a_thread_of_an_ended_task_prints_belongs_to_the_task(state: HubState) -> None:
    only = engine(state)
    submit(state, "a")
    assigned(state)
    state.finished(only, ended("a"), ())
    state.output(only, OutputPiece("a", b"late"))
    state.output(only, OutputPiece("unknown", b"late"))
    assert state.tasks["a"].outputs == [b"late"]
    assert news(state)[-1] == OutputPiece("a", b"late")


@pytest.mark.parametrize(
    ("status", "kept"), [(OK, b""), (ERROR, b"function")], ids=["good", "failed"]
)
def test_the_work_is_kept_only_of_what_may_be_run_again(
    state: HubState, status: int, kept: bytes
) -> None:
    only = engine(state)
    submit(state, "a")
    assigned(state)
    state.finished(only, ended("a", status), ())
    assert state.tasks["a"].function == kept
    missing = state.resubmit("you", {"a": "again", "unknown": "never"}, NOW)
    if status == OK:
        assert missing == ["a", "unknown"]
        return
    assert missing == ["unknown"]
    assert assigned(state) == [(0, ["again"])]
    state.finished(only, ended("again"), ())
    assert news(state, "you")[-1].msg_id == "again"


# ---------------------------------------------------------------------------------------- deaths


def test_only_what_a_dead_engine_had_begun_is_lost(state: HubState) -> None:
    dying = engine(state)
    learn(state, dying, 1e-5)
    submit(state, "a", "b", "c", "d")
    assigned(state)
    state.finished(dying, ended("a"), ())
    state.news.clear()
    state.engine_lost(dying, begun=3, details=KILLED)  # the teacher, a, b
    assert news(state) == [LostTask("b", "engine", KILLED, 0)]
    assert [held.task.msg_id for held in state.shared] == ["c", "d"]
    assert state.engines == {}
    assert state.tasks["b"].status == "lost"
    state.finished(dying, ended("b"), ())  # its last words, too late
    assert state.tasks["b"].status == "lost"


def test_a_lost_task_is_run_again_as_often_as_it_may(state: HubState) -> None:
    submit(state, "a", retries=2)
    for attempt in range(3):
        dying = engine(state)
        assert assigned(state) == [(0, ["a"])]
        state.started(dying, Started("a", -1, NOW))
        state.engine_lost(dying, 1, KILLED)
        last = LostTask("a", "engine", KILLED, 0) if attempt == 2 else Requeued("a")
        assert news(state) == [Started("a", 0, NOW), last]
    assert state.unfinished == 0


@pytest.mark.parametrize("how", [{"overdue": True}, {"on_request": "restarted on request"}])
def test_what_was_ended_on_purpose_is_not_run_again(state: HubState, how: dict[str, Any]) -> None:
    """A finished task whose result died with the engine is not to blame for that."""
    dying = engine(state)
    learn(state, dying, 1e-5)
    submit(state, "a", "b", "c", retries=2, timeout=1.5)
    assigned(state)
    state.engine_lost(dying, begun=3, details={**KILLED, **how})  # the teacher, a, b
    late = {"timeout": 1.5} if "overdue" in how else {}
    reason = "timeout" if "overdue" in how else "engine"
    assert news(state) == [Requeued("a"), LostTask("b", reason, {**KILLED, **how, **late}, 0)]
    assert [held.task.msg_id for held in state.shared] == ["a", "c"]


def test_a_task_that_takes_all_memory_is_run_again_once(state: HubState) -> None:
    out_of_memory = {**KILLED, "oom": True}
    submit(state, "a", retries=5)
    for fate in (Requeued("a"), LostTask("a", "engine", out_of_memory, 0)):
        dying = engine(state)
        assert assigned(state) == [(0, ["a"])]
        state.engine_lost(dying, 1, out_of_memory)
        assert news(state) == [fate]


def test_a_direct_task_that_was_not_begun_waits_for_the_replacement(state: HubState) -> None:
    submit(state, "a", "b", target=0)
    dying = engine(state)
    assigned(state)
    state.engine_lost(dying, 1, KILLED)
    engine(state)
    assert assigned(state) == [(0, ["b"])]


@pytest.mark.parametrize("given", [True, False])
def test_every_new_engine_runs_what_comes_first_once(state: HubState, given: bool) -> None:
    """Also when its predecessor died before it came to that."""
    first = engine(state)
    submit(state, "initialise", target=0, options=FIRST)
    assert assigned(state) == [(0, ["initialise"])]
    state.finished(first, ended("initialise"), ())
    state.engine_lost(first, 1, KILLED)
    submit(state, "work", target=0)
    second = engine(state)
    if given:
        assert assigned(state) == [(0, ["initialise@uuid0"])]
    state.engine_lost(second, 0, KILLED)
    third = engine(state)
    assert assigned(state) == [(0, ["initialise@uuid0"])]
    state.finished(third, ended("initialise@uuid0", duration=1e-5), ())
    assert assigned(state) == [(0, ["work"])]
    assert state.unfinished == 1
    state.session_gone("me")
    engine(state, 1)
    assert assigned(state) == []


def test_the_death_of_a_replaced_engine_leaves_its_successor_alone(state: HubState) -> None:
    old = engine(state)
    new = engine(state)
    state.engine_lost(old, 0, KILLED)
    assert state.engines == {0: new}


def test_when_no_engine_will_come_what_waits_fails(state: HubState) -> None:
    submit(state, "shared")
    submit(state, "for 1", target=1)
    submit(state, "for 2", target=2)
    state.fail_queued([1, 5], KILLED)
    assert news(state) == [LostTask("for 1", "engine", KILLED)]
    assert set(state.direct) == {2}
    state.fail_queued(None, KILLED)
    assert {item.msg_id for item in news(state)} == {"shared", "for 2"}
    assert (state.unfinished, state.direct) == (0, {})


# --------------------------------------------------------------------------------------- aborting


def answers(state: HubState) -> list[tuple[str, int, Any]]:
    found = [(session, answer.request, answer.content) for session, answer in state.answers]
    state.answers.clear()
    return found


def test_an_abort_is_answered_per_task(state: HubState) -> None:
    only = engine(state)
    submit(state, "running", "done")
    assigned(state)
    state.started(only, Started("running", -1, NOW))
    submit(state, "queued")
    other = engine(state, 1)
    assigned(state)
    state.finished(other, ended("done"), ())
    state.abort("me", 1, ["running", "done", "queued", "unknown", "queued"])
    assert answers(state) == [
        (
            "me",
            1,
            {"running": "running", "done": "finished", "queued": "aborted", "unknown": "unknown"},
        )
    ]
    assert LostTask("queued", "aborted", {}) in news(state)
    assert assigned(state) == []


def test_an_abort_waits_for_the_engine_that_may_have_begun(state: HubState) -> None:
    only = engine(state)
    learn(state, only, 1e-5)
    submit(state, "a", "b", "c", "d")
    assigned(state)
    state.abort("me", 1, ["a", "b", "c"])
    state.abort("you", 2, ["b"])
    assert state.recalls == [(only, ["a", "b", "c"]), (only, ["b"])]
    assert answers(state) == []
    state.finished(only, ended("a"), ())
    state.returned(only, Returned(["c"], ["a", "b"]))
    assert answers(state) == [
        ("me", 1, {"a": "finished", "b": "running", "c": "aborted"}),
        ("you", 2, {"b": "running"}),
    ]
    assert list(only.assigned) == ["b", "d"]


def test_two_aborts_of_one_task_are_both_answered(state: HubState) -> None:
    only = engine(state)
    submit(state, "a")
    assigned(state)
    for request in (1, 2):
        state.abort("me", request, ["a"])
    state.returned(only, Returned(["a"], []))
    assert answers(state) == [("me", 1, {"a": "aborted"}), ("me", 2, {"a": "aborted"})]


@pytest.mark.parametrize(("begun", "outcome"), [(0, "aborted"), (1, "finished")])
def test_an_abort_is_answered_when_the_engine_dies_instead(
    state: HubState, begun: int, outcome: str
) -> None:
    dying = engine(state)
    submit(state, "a", retries=5)
    assigned(state)
    state.abort("me", 1, ["a"])
    state.engine_lost(dying, begun, KILLED)
    assert answers(state) == [("me", 1, {"a": outcome})]
    assert state.unfinished == 0  # nobody wants it: it is not tried again


def test_an_abort_of_everything_is_that_of_a_session(state: HubState) -> None:
    submit(state, "a", "b")
    submit(state, "theirs", session="you")
    state.abort("me", 1, None)
    assert answers(state) == [("me", 1, {"a": "aborted", "b": "aborted"})]
    assert state.unfinished == 1
    state.abort("me", 2, None)
    assert answers(state) == [("me", 2, {})]


# ---------------------------------------------------------------------------------- other clients


def subscribed(state: HubState, session: str, *names: str) -> list[Any]:
    described, replay = state.subscribe(session, list(names))
    replay()
    return described


def test_who_comes_later_gets_everything_from_the_start_once(state: HubState) -> None:
    only = engine(state)
    submit(state, "a", label="night", items=3)
    assigned(state)
    state.started(only, Started("a", -1, NOW + 1))
    state.output(only, OutputPiece("a", b"early"))
    [about, nothing] = subscribed(state, "you", "a", "unknown")
    assert nothing is None
    assert about == {
        "msg_id": "a",
        "label": "night",
        "target": -1,
        "items": 3,
        "submitted": NOW,
        "status": "running",
        "group": None,
        "session": "me",
    }
    subscribed(state, "you", "a")  # from another thread, say
    state.output(only, OutputPiece("a", b"late"))
    state.finished(only, ended("a", frames=1), [b"frame"])
    assert news(state, "you") == [
        Started("a", 0, NOW + 1),
        OutputPiece("a", b"early"),
        OutputPiece("a", b"late"),
        state.tasks["a"].final,
    ]
    subscribed(state, "third", "a")
    assert state.news["third"][-1] == (state.tasks["a"].final, [b"frame"])


def test_who_submitted_hears_nothing_twice_by_asking(state: HubState) -> None:
    submit(state, "a")
    subscribed(state, "me", "a")
    state.fail_queued(None, KILLED)
    assert news(state) == [LostTask("a", "engine", KILLED)]


def test_the_tasks_of_a_session_that_is_gone_go_on(state: HubState) -> None:
    only = engine(state)
    submit(state, "a")
    assigned(state)
    state.output(only, OutputPiece("a", b"x"))
    state.session_gone("me")
    assert [type(item) for item in news(state)] == [OutputPiece]  # for those who look on
    state.finished(only, ended("a"), ())
    subscribed(state, "you", "a")
    assert [type(item) for item in news(state, "you")] == [OutputPiece, Finished]


# ----------------------------------------------------------------------- everything, in any order


class Engine:
    """An engine as the hub sees it: what it is sent and what it says is under way for a while."""

    def __init__(self, record: EngineState) -> None:
        self.record = record
        self.inbox: deque[list[str] | tuple[list[str] | None]] = deque()  # runs, (recalls,)
        self.queue: deque[str] = deque()
        self.current: str | None = None
        self.begun = 0
        self.ends_delivered = 0
        self.unsent: list[Any] = []
        self.sent: deque[Any] = deque()

    def take_in(self) -> None:
        message = self.inbox.popleft()
        if isinstance(message, list):
            self.queue.extend(message)
            return
        [wanted] = message
        given = [name for name in self.queue if wanted is None or name in wanted]
        self.queue = deque(name for name in self.queue if name not in given)
        kept = [name for name in wanted or () if name not in given]
        self.unsent.append(Returned(given, kept))
        self.flush()

    def begin(self) -> None:
        self.current = self.queue.popleft()
        self.begun += 1

    def end(self, status: int, duration: float) -> None:
        assert self.current is not None
        self.unsent.append(ended(self.current, status, duration=duration))
        self.current = None

    def is_working(self) -> bool:
        return bool(self.inbox or self.queue or self.current or self.unsent or self.sent)

    def flush(self) -> None:
        self.sent.extend(self.unsent)
        self.unsent.clear()


Moves = list[tuple[int, int]]


class AnyOrder(RuleBasedStateMachine):
    """Clients, engines and deaths in any order; checked after every step.

    Between two events the engines do what they may do anyway: `moves` says which, and how far.
    """

    sessions = st.sampled_from(["me", "you"])
    moves = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 11)), max_size=20)
    SAID = (Started, OutputPiece, Finished, LostTask, Requeued)

    def __init__(self) -> None:
        super().__init__()
        self.state = HubState(Archive())
        self.engines: dict[int, Engine] = {}
        self.numbers = itertools.count()
        self.requests = itertools.count()
        self.retries: dict[str, int] = {}
        self.owed: Counter[tuple[str, str]] = Counter()  # ends, per session and task
        self.told: Counter[tuple[str, str]] = Counter()
        self.requeued: Counter[str] = Counter()
        self.asked: dict[int, set[str]] = {}
        self.answered: Counter[int] = Counter()

    @initialize(engines=st.integers(1, 3), seconds=st.sampled_from([1e-4, 3e-3]))
    def begin(self, engines: int, seconds: float) -> None:
        for engine_id in range(engines):
            self.register(engine_id)
        for function in (b"f", b"g"):  # known to be short: engines get several at once
            self.state.scheduler.took(function, seconds)
        for target in (-1, *range(engines)):
            self.enter("me", 3, target, 1, b"f")

    # -- clients ---------------------------------------------------------------------------------

    @rule(
        moves=moves,
        session=sessions,
        count=st.integers(1, 6),
        asked_for=st.sampled_from([-1, -1, -1, 0, 1, 2]),
        retries=st.integers(0, 2),
        function=st.sampled_from([b"f", b"g"]),
    )
    def submit(
        self,
        moves: Moves,
        session: str,
        count: int,
        asked_for: int,
        retries: int,
        function: bytes,
    ) -> None:
        self.go_on(moves)
        self.enter(session, count, asked_for, retries, function)

    def enter(self, session: str, count: int, target: int, retries: int, function: bytes) -> None:
        names = [str(next(self.numbers)) for _ in range(count)]
        group = Group(f"group {names[0]}", "f", "map") if count > 1 else None
        made = tasks(*names, target=target, retries=retries)
        self.state.submit(session, [function], made, (), group, NOW)
        for name in names:
            self.retries[name] = retries
            self.owed[session, name] += 1

    def some(self, data: st.DataObject, most: int) -> list[str]:
        """A few tasks, rather unfinished ones."""
        going_on = unfinished(self.state.tasks.values())
        rather: bool = data.draw(st.booleans())
        names = going_on[-8:] if going_on and rather else list(self.state.tasks)
        chosen: list[str] = data.draw(st.lists(st.sampled_from(names), max_size=most, min_size=1))
        return chosen

    @rule(moves=moves, data=st.data(), session=sessions, everything=st.booleans())
    def abort(self, moves: Moves, data: st.DataObject, session: str, everything: bool) -> None:
        self.go_on(moves)
        request = next(self.requests)
        chosen = None if everything else self.some(data, 4)
        if chosen is None:
            mine = (held for held in self.state.tasks.values() if held.session == session)
            self.asked[request] = set(unfinished(mine))
        else:
            self.asked[request] = set(chosen)
        self.state.abort(session, request, chosen)

    @rule(moves=moves, data=st.data(), session=sessions)
    def subscribe(self, moves: Moves, data: st.DataObject, session: str) -> None:
        self.go_on(moves)
        chosen = list(dict.fromkeys(self.some(data, 3)))
        for name in chosen:
            held = self.state.tasks[name]
            if held.final is not None or session not in held.audience():
                self.owed[session, name] += 1
        described, replay = self.state.subscribe(session, chosen)
        assert [about["msg_id"] for about in described] == chosen
        replay()

    @rule(moves=moves, data=st.data(), session=sessions)
    def resubmit(self, moves: Moves, data: st.DataObject, session: str) -> None:
        self.go_on(moves)
        [old] = self.some(data, 1)
        new = str(next(self.numbers))
        if not self.state.resubmit(session, {old: new}, NOW):
            self.retries[new] = self.retries[old]
            self.owed[session, new] += 1

    # -- the hub's turn --------------------------------------------------------------------------

    def carry_out(self) -> None:
        self.state.assign()
        for record, batch in self.state.runs:
            self.engines[record.engine_id].inbox.append([held.task.msg_id for held in batch])
        self.state.runs.clear()
        for record, names in self.state.recalls:
            engine = self.engines.get(record.engine_id)
            if engine is not None and engine.record is record:
                engine.inbox.append((names,))
        self.state.recalls.clear()
        for engine in self.engines.values():  # nobody is idle while there is work for it
            if not engine.record.assigned:
                assert not unfinished(self.state.shared)
                assert not unfinished(self.state.direct.get(engine.record.engine_id, ()))

    # -- engines ---------------------------------------------------------------------------------

    @precondition(lambda self: len(self.engines) < 3)
    @rule(moves=moves, engine_id=st.integers(0, 2))
    def come(self, moves: Moves, engine_id: int) -> None:
        self.go_on(moves)
        if engine_id not in self.engines:
            self.register(engine_id)

    def register(self, engine_id: int) -> None:
        self.engines[engine_id] = Engine(engine(self.state, engine_id))

    def go_on(self, moves: Moves) -> None:
        for number, (engine_id, choice) in enumerate(moves):
            if number % 4 == 0:
                self.carry_out()
            engine = self.engines.get(engine_id)
            possible = self.possible_steps(engine) if engine is not None else ()
            if engine is not None and possible:
                self.step(engine, possible[choice % len(possible)])
            self.everything_is_in_order()

    @staticmethod
    def possible_steps(engine: Engine) -> list[str]:
        possible = ["flush"] if engine.unsent else []
        if engine.inbox:
            possible.append("take_in")
        if engine.sent:
            possible += ["deliver", "deliver"]
        if engine.current is not None:
            possible += ["announce", "print", "end", "fail"]
        elif engine.queue:
            possible.append("begin")
        return possible

    def step(self, engine: Engine, step: str) -> None:
        match step:
            case "deliver":
                self.deliver(engine)
            case "announce":
                engine.unsent.append(Started(engine.current or "", -1, NOW))
            case "print":
                engine.unsent.append(OutputPiece(engine.current or "", b"x"))
            case "end":
                engine.end(OK, 1e-4)
            case "fail":
                engine.end(ERROR, 0.005)
            case _:
                getattr(engine, step)()

    def deliver(self, engine: Engine) -> None:
        item = engine.sent.popleft()
        handle: dict[Any, Any] = {
            Started: self.state.started,
            OutputPiece: self.state.output,
            Returned: self.state.returned,
        }
        if isinstance(item, Finished):
            engine.ends_delivered += 1
            self.state.finished(engine.record, item, ())
        else:
            handle[type(item)](engine.record, item)

    @precondition(lambda self: self.engines)
    @rule(
        moves=moves,
        data=st.data(),
        told=st.sampled_from([None, None, None, 0, 3, 1 << 62]),
        how=st.sampled_from(
            [{}, {}, {"overdue": True}, {"on_request": "restarted"}, {"oom": True}]
        ),
    )
    def die(self, moves: Moves, data: st.DataObject, told: int | None, how: dict[str, Any]) -> None:
        """What it sent arrives first; `told` is a wrong number of begun tasks."""
        self.go_on(moves)
        engine = self.engines.pop(data.draw(st.sampled_from(sorted(self.engines))))
        while engine.sent:
            self.deliver(engine)
        held = list(engine.record.assigned.values())
        begun = engine.begun if told is None else told
        ran = held[: max(0, begun - engine.ends_delivered)]
        if told is None:  # then those ran of which no end was heard
            lost = [item.msg_id for item in engine.unsent if isinstance(item, Finished)]
            lost += [engine.current] if engine.current is not None else []
            assert [one.task.msg_id for one in ran] == lost
        count = begun - engine.ends_delivered
        guilty = held[count - 1] if 0 < count <= len(held) else None
        fates = [
            (one, self.fate(one, how if one is guilty else {}, begun=one in ran)) for one in held
        ]
        self.state.engine_lost(engine.record, begun, KILLED | how)
        for one, fate in fates:
            assert one.status == fate
        untouched = [one for one in held if one not in ran]
        for queue in (self.state.shared, self.state.direct.get(engine.record.engine_id, ())):
            back = [one for one in queue if one in untouched]
            assert back == [one for one in untouched if one in back]

    @staticmethod
    def fate(held: HubTask, how: dict[str, Any], *, begun: bool) -> str:
        """What becomes of a task, by how its engine died under it (if it was this task's doing)."""
        if not begun:
            return "aborted" if held.aborts else "pending"
        wanted = "overdue" in how or "on_request" in how or held.killed_by_oom + ("oom" in how) > 1
        return "pending" if held.retries_left and not held.aborts and not wanted else "lost"

    @rule(moves=moves, session=sessions)
    def leave(self, moves: Moves, session: str) -> None:
        """A client goes away, also while an answer is on its way; its tasks are worked off."""
        self.go_on(moves)
        self.everything_is_in_order()
        self.state.session_gone(session)

    @precondition(lambda self: len(self.engines) < 2)
    @rule(moves=moves, data=st.data())
    def fail_queued(self, moves: Moves, data: st.DataObject) -> None:
        self.go_on(moves)
        gone = sorted({0, 1, 2} - self.engines.keys())
        self.state.fail_queued(data.draw(st.lists(st.sampled_from(gone), max_size=2)), KILLED)
        if not self.engines:
            self.state.fail_queued(None, KILLED)

    # -- what is always true ---------------------------------------------------------------------

    @invariant()
    def everything_is_in_order(self) -> None:
        self.take_news_and_answers()
        self.every_unfinished_task_is_in_exactly_one_place()
        self.everybody_hears_of_an_end_once()
        self.nothing_is_retried_more_often_than_allowed()
        self.an_abort_is_answered_once_and_open_only_for_tasks_on_engines()
        self.an_engines_load_is_that_of_its_tasks()

    def take_news_and_answers(self) -> None:
        for session, entries in self.state.news.items():
            for item, _ in entries:
                assert isinstance(item, self.SAID)
                self.told[session, item.msg_id] += isinstance(item, Finished | LostTask)
                own = session == self.state.tasks[item.msg_id].session
                self.requeued[item.msg_id] += own and isinstance(item, Requeued)
        self.state.news = {}
        for _, answer in self.state.answers:
            self.answered[answer.request] += 1
            assert set(answer.content) == self.asked[answer.request]
            assert set(answer.content.values()) <= {"aborted", "running", "finished", "unknown"}
        self.state.answers.clear()

    def every_unfinished_task_is_in_exactly_one_place(self) -> None:
        places: Counter[str] = Counter()
        for queue in (self.state.shared, *self.state.direct.values()):
            for held in queue:
                assert held.engine is None
                places[held.task.msg_id] += held.final is None
        for engine in self.state.engines.values():
            for held in engine.assigned.values():
                assert held.engine is engine
                assert held.final is None
                places[held.task.msg_id] += 1
        waiting = unfinished(self.state.tasks.values())
        assert +places == Counter(waiting)
        assert self.state.unfinished == len(waiting)

    def everybody_hears_of_an_end_once(self) -> None:
        for (session, name), owed in self.owed.items():
            ended = self.state.tasks[name].final is not None
            assert self.told[session, name] == (owed if ended else 0)

    def nothing_is_retried_more_often_than_allowed(self) -> None:
        for name, held in self.state.tasks.items():
            assert held.retries_left == self.retries[name] - self.requeued[name] >= 0

    def an_abort_is_answered_once_and_open_only_for_tasks_on_engines(self) -> None:
        waiting = {
            wanted.request
            for engine in self.state.engines.values()
            for held in engine.assigned.values()
            for wanted in held.aborts
        }
        for request in self.asked:
            assert self.answered[request] == (request not in waiting)

    def an_engines_load_is_that_of_its_tasks(self) -> None:
        for engine in self.state.engines.values():
            expected = sum(held.estimate for held in engine.assigned.values())
            assert engine.load == pytest.approx(expected, abs=1e-9)

    # -- the end ---------------------------------------------------------------------------------

    def teardown(self) -> None:
        self.run_dry()
        alive = {-1, *self.engines}
        for held in self.state.tasks.values():
            assert held.final is not None or not self.engines or held.task.target not in alive
        for engine in self.engines.values():
            self.state.engine_lost(engine.record, 1 << 62, KILLED)
        assert self.state.engines == {}
        self.state.fail_queued(None, KILLED)
        self.everything_is_in_order()
        assert self.state.unfinished == 0
        assert set(self.answered) == set(self.asked)

    def run_dry(self) -> None:
        """Let the engines that live do all there is for them."""
        for _ in range(10 * len(self.state.tasks) + 10):
            self.carry_out()
            working = [engine for engine in self.engines.values() if engine.is_working()]
            if not working:
                return
            for engine in working:
                while engine.inbox:
                    engine.take_in()
                if engine.current is not None:
                    engine.end(OK, 1e-4)
                elif engine.queue:
                    engine.begin()
                engine.flush()
                while engine.sent:
                    self.deliver(engine)
        raise AssertionError("it never comes to rest")


def unfinished(some: Iterable[HubTask] | Sequence[HubTask]) -> list[str]:
    return [held.task.msg_id for held in some if held.final is None]


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(
    max_examples=30,
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    report_multiple_bugs=False,
)
