"""Every stage of a task's way, and everything that can go wrong there.

``{pickling, unpickling} of arguments, running, {pickling, unpickling} of results`` times ``{error,
exit, segfault, SystemExit, KeyboardInterrupt}``.  What happens on an engine fails that task, and
nobody else's.  What happens in the caller's own process is an error there; where it ends that
process, the cluster and the results are untouched.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

import ipyasyncresult as ipar
from ipyasyncresult.errors import ResultDecodeError
from tests.integration.faults.conftest import SOON

if TYPE_CHECKING:
    from tests.integration.conftest import StartPython
    from tests.integration.faults.conftest import Mortal

ACTS = ["error", "exit", "segfault", "SystemExit", "KeyboardInterrupt"]
ENDS_THE_PROCESS = {"exit": "exit code 11", "segfault": "SIGSEGV"}


def act(what: str) -> Any:
    """Do it."""
    import ctypes

    if what == "exit":
        os._exit(11)
    elif what == "segfault":
        ctypes.string_at(0)
    raise {
        "error": ZeroDivisionError,
        "SystemExit": SystemExit,
        "KeyboardInterrupt": KeyboardInterrupt,
    }[what]("of the bomb")


class WhenUnpickled:
    def __init__(self, what: str) -> None:
        self.what = what

    def __reduce__(self) -> Any:
        return act, (self.what,)


class WhenPickled:
    def __init__(self, what: str) -> None:
        self.what = what

    def __reduce__(self) -> Any:
        return act(self.what)


# -------------------------------------------------------------------------------- on the engine

STAGES_OF_ENGINES: dict[str, Any] = {
    "argument unpickling": lambda view, what: view.apply_async(len, [WhenUnpickled(what)]),
    "running": lambda view, what: view.apply_async(act, what),
    "result pickling": lambda view, what: view.apply_async(lambda: [WhenPickled(what)]),
}


@pytest.mark.parametrize("what", ACTS)
@pytest.mark.parametrize("stage", STAGES_OF_ENGINES)
def test_on_an_engine_it_fails_that_task_and_no_other(
    mortal: Mortal, stage: str, what: str
) -> None:
    view = mortal.client[0]
    pid = mortal.pid(0)
    before = view.apply_async(abs, -1)
    assert before.get(SOON) == 1
    bad = STAGES_OF_ENGINES[stage](view, what)
    behind = [view.apply_async(abs, -n) for n in range(5)]
    if reason := ENDS_THE_PROCESS.get(what):
        with pytest.raises(ipar.EngineError, match=reason):
            bad.get(SOON)
        assert bad.status == "lost"
    else:
        with pytest.raises(ipar.RemoteError) as caught:
            bad.get(SOON)
        assert not isinstance(caught.value, SystemExit | KeyboardInterrupt)
        assert bad.status == "error"
        name = {"error": "ZeroDivisionError"}.get(what, what)
        if stage == "result pickling" and what != "KeyboardInterrupt":
            name = "SerializationError"
        assert caught.value.ename == name
    assert [result.get(SOON) for result in behind] == list(range(5))
    assert (view.apply_sync(os.getpid) == pid) == (what not in ENDS_THE_PROCESS)


@pytest.mark.parametrize("what", ACTS)
def test_an_item_of_a_chunk_costs_its_siblings_only_with_the_process(
    mortal: Mortal, what: str
) -> None:
    def work(n: int) -> int:
        if n == 2:
            act(what)
        return n

    result = mortal.client.load_balanced_view().map_async(work, range(4), chunksize=4)
    with pytest.raises((ipar.RemoteError, ipar.EngineError, ipar.CompositeError)):
        result.get(SOON)
    if what in ENDS_THE_PROCESS:
        assert result.ok == []
    else:  # an interrupt ends the chunk: what comes behind is not run
        assert result.ok == ([0, 1] if what == "KeyboardInterrupt" else [0, 1, 3])


# ------------------------------------------------------------------------- in the caller's process

CLIENT = """
import ctypes, os, sys
import ipyasyncresult as ipar

def act(what):
    if what == "exit":
        os._exit(11)
    elif what == "segfault":
        ctypes.string_at(0)
    raise {"error": ZeroDivisionError, "SystemExit": SystemExit,
           "KeyboardInterrupt": KeyboardInterrupt}[what]("of the bomb")

class WhenUnpickled:
    def __init__(self, what):
        self.what = what
    def __reduce__(self):
        return act, (self.what,)

class WhenPickled:
    def __init__(self, what):
        self.what = what
    def __reduce__(self):
        return act(self.what)

class Fails(Exception):
    pass

def fail(what):
    raise Fails(WhenUnpickled(what))

cluster_id, stage, what = sys.argv[1:]
with ipar.Client(cluster_id) as client:
    view = client[0]
    good = view.apply_async(abs, -4)
    try:
        if stage == "argument pickling":
            bad = view.apply_async(len, [WhenPickled(what)])
        elif stage == "result unpickling":
            bad = view.apply_async(lambda: WhenUnpickled(what))
        else:
            bad = view.apply_async(fail, what)
        bad.wait()
        print(bad.msg_ids[0], flush=True)
        bad.get()
    except BaseException as error:
        print(type(error).__mro__[0].__name__, "|", str(error).replace(chr(10), " "))
    print(good.get(), view.apply_sync(abs, -5))
"""

OUTCOMES = {
    # An argument that cannot be pickled is an error of the call.  An interrupt is let through, as
    # nobody can tell it from the one of a person at the keyboard.
    ("argument pickling", "error"): "SerializationError",
    ("argument pickling", "SystemExit"): "SerializationError",
    ("argument pickling", "KeyboardInterrupt"): "KeyboardInterrupt",
    ("result unpickling", "error"): "ResultDecodeError",
    ("result unpickling", "SystemExit"): "ResultDecodeError",
    ("result unpickling", "KeyboardInterrupt"): "KeyboardInterrupt",
    # An exception that cannot be unpickled is told as text.
    ("exception unpickling", "error"): "RemoteError",
    ("exception unpickling", "SystemExit"): "RemoteError",
    ("exception unpickling", "KeyboardInterrupt"): "KeyboardInterrupt",
}


@pytest.mark.parametrize("what", ACTS)
@pytest.mark.parametrize(
    "stage", ["argument pickling", "result unpickling", "exception unpickling"]
)
def test_in_the_callers_process_it_is_an_error_there_or_ends_that_process_alone(
    mortal: Mortal, start_python: StartPython, stage: str, what: str
) -> None:
    script = start_python(CLIENT, mortal.client.cluster_id, stage, what)
    printed, errors = script.communicate(timeout=SOON)
    lines = printed.splitlines()
    expected = OUTCOMES.get((stage, what))
    msg_id = lines.pop(0) if stage != "argument pickling" else ""
    if expected is None:
        assert script.returncode == {"exit": 11, "segfault": -11}[what], errors
        assert lines == []
    else:
        assert script.returncode == 0, printed + errors
        assert [lines[0].partition(" |")[0], lines[1]] == [expected, "4 5"]
    if stage == "result unpickling":  # the hub has what the process could not open
        theirs = mortal.client.get_result(msg_id)
        theirs.wait(SOON)
        assert theirs.status == "ok"
        if what not in ENDS_THE_PROCESS:
            with pytest.raises((ResultDecodeError, KeyboardInterrupt)):
                theirs.get(SOON)
