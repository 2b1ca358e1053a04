"""The caller's own process: what it holds, hands on, and is told."""

from __future__ import annotations

import gc
import os
import pickle
import signal
from typing import TYPE_CHECKING

import pytest

import ipyasyncresult as ipar
from tests.integration.faults.conftest import SOON

if TYPE_CHECKING:
    from tests.integration.faults.conftest import Mortal


def test_results_that_nobody_holds_run_on_and_leave_nothing_here(mortal: Mortal) -> None:
    view = mortal.client.load_balanced_view()
    ledger = mortal.client.ledger
    gc.collect()
    known = sum(isinstance(one, ipar.AsyncResult) for one in gc.get_objects())
    last = ""
    for n in range(2000):
        last = view.apply_async(abs, -n).msg_ids[0]
    assert mortal.client.wait(timeout=SOON)
    gc.collect()
    left = sum(isinstance(one, ipar.AsyncResult) for one in gc.get_objects())
    assert left <= known + 1
    assert not ledger.has_outstanding()
    assert mortal.client.get_result(last).get(SOON) == 1999  # the hub has it


def test_a_pickled_result_holds_ids_and_nothing_else(mortal: Mortal) -> None:
    secret = "the value stays where it is"
    result = mortal.client[0].apply_async(str, secret)
    assert result.get(SOON) == secret
    data = pickle.dumps(result)
    assert secret.encode() not in data
    assert result.msg_ids[0].encode() in data
    assert len(data) < 500
    assert pickle.loads(data).get(SOON) == secret


def test_a_kill_from_outside_comes_with_a_hint_about_memory(mortal: Mortal) -> None:
    """What the kernel does when memory runs out looks like this."""
    with pytest.raises(ipar.EngineError, match="SIGKILL") as caught:
        mortal.client[0].apply_async(lambda: os.kill(os.getpid(), signal.SIGKILL)).get(SOON)
    assert "memory" in str(caught.value)
