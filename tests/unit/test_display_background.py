"""Views that go on while their cell is over: one thread, which ends with them."""

from __future__ import annotations

import threading

import pytest

from ipyasyncresult.display.background import Background, LiveShow
from ipyasyncresult.display.model import LiveModel
from ipyasyncresult.testing import FakeClient

NAME = "ipyasyncresult-live"


class View:
    """A screen that notes what happens to it."""

    def __init__(self) -> None:
        self.happened: list[str] = []
        self.shown = threading.Event()
        self.closed = threading.Event()

    def show(self, model: LiveModel) -> None:
        self.happened.append("show")
        self.shown.set()

    def update(self) -> None:
        if self.happened[-1] != "update":
            self.happened.append("update")

    def close(self, ending: str) -> None:
        self.happened.append(f"close {ending}")
        self.closed.set()


class BrokenView(View):
    def show(self, model: LiveModel) -> None:
        raise OSError("the frontend is gone")


def live_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == NAME]


def ended(threads: list[threading.Thread]) -> bool:
    for thread in threads:
        thread.join(10)
    return not live_threads()


def test_a_view_appears_and_ends_with_the_work() -> None:
    client, background, view = FakeClient(), Background(), View()
    result = client.submit("f")
    background.keep(LiveShow(result, view, 0.0))
    threads = live_threads()
    assert view.shown.wait(10)
    client.finish(result.msg_ids[0])
    assert view.closed.wait(10)
    assert (view.happened[0], view.happened[-1]) == ("show", "close done")
    assert ended(threads)
    assert not result._tally.followers


def test_what_has_ended_when_a_cell_ends_leaves_its_last_state_at_once() -> None:
    client, background = FakeClient(), Background()
    over, open_ = client.submit("f"), client.submit("f")
    views = [View(), View()]
    for result, view in zip((over, open_), views, strict=True):
        background.keep(LiveShow(result, view, 0.0))
    threads = live_threads()
    assert all(view.shown.wait(10) for view in views)
    client.finish(over.msg_ids[0])
    background.end_ready()
    assert views[0].happened[-1] == "close done"
    assert "close done" not in views[1].happened
    client.finish(open_.msg_ids[0])
    assert views[1].closed.wait(10)
    assert views[0].happened.count("close done") == 1
    assert ended(threads)


def test_work_that_ends_soon_is_not_shown() -> None:
    client, background, view = FakeClient(), Background(), View()
    result = client.submit("f")
    show = LiveShow(result, view, 60.0)
    background.keep(show)
    threads = live_threads()
    client.finish(result.msg_ids[0])
    assert view.closed.wait(10)
    assert view.happened == ["close done"]
    assert ended(threads)


def test_many_views_share_one_thread() -> None:
    client, background = FakeClient(), Background()
    results = [client.submit("f") for _ in range(5)]
    views = [View() for _ in results]
    for result, view in zip(results, views, strict=True):
        background.keep(LiveShow(result, view, 0.0))
    threads = live_threads()
    assert len(threads) == 1
    for view in views:
        assert view.shown.wait(10)
    client.close()  # the cluster is gone: so is what there is to show
    for view in views:
        assert view.closed.wait(10)
    assert ended(threads)


def test_a_view_that_is_closed_is_not_touched_again() -> None:
    client, background, view = FakeClient(), Background(), View()
    show = LiveShow(client.submit("f"), view, 0.0)
    background.keep(show)
    threads = live_threads()
    assert view.shown.wait(10)
    background.close(show, "interrupted")
    background.close(show, "interrupted")
    assert ended(threads)
    assert view.happened[-1] == "close interrupted"
    assert view.happened.count("close interrupted") == 1


def test_a_view_that_breaks_does_not_end_the_others(caplog: pytest.LogCaptureFixture) -> None:
    client, background, broken, good = FakeClient(), Background(), BrokenView(), View()
    result = client.submit("f")
    background.keep(LiveShow(result, broken, 0.0))
    background.keep(LiveShow(result, good, 0.0))
    threads = live_threads()
    assert broken.closed.wait(10)
    assert good.shown.wait(10)
    client.finish(result.msg_ids[0])
    assert good.closed.wait(10)
    assert ended(threads)
    assert "cannot be shown any more" in caplog.text
