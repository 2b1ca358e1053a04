"""The routes in Jupyter's server: what they answer, and whom they refuse."""

from __future__ import annotations

import itertools
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tornado.web import RequestHandler

from ipyasyncresult import Client, Cluster, connect
from ipyasyncresult.hub.watching import _PERIOD as PERIOD
from ipyasyncresult.wire.runtime import cluster_folder
from tests.integration.conftest import Gate, _test_code_travels_by_value  # noqa: F401  a fixture
from tests.jupyter.jupyterserver import Answer, Browser, JupyterServer, jupyter_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"


@pytest.fixture(scope="module")
def server(runtime_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    root, home = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("home")
    with jupyter_server(root, home) as started:
        yield started


@pytest.fixture(scope="module")
def client(server: JupyterServer) -> Iterator[Client]:
    """A cluster with some work done, and one task that fails."""
    with Cluster(n=2, cluster_id="lab") as client:
        view = client.load_balanced_view()
        view.map_async(work, range(6)).wait()
        # The server connects now, not in a test that would have to answer for its process.
        Browser(server, server.token).send("GET", "/api/clusters/lab")
        yield client


@pytest.fixture
def script(server: JupyterServer) -> Browser:
    """One that sends the token in a header."""
    return Browser(server, server.token)


@pytest.fixture
def browser(server: JupyterServer) -> Browser:
    """One that logged in, and has cookies."""
    browser = Browser(server)
    browser.log_in()
    return browser


def work(number: int) -> int:
    print("looked at", number)
    if number == 4:
        raise ValueError("<img src=x onerror=alert(1)><script>alert(2)</script>")
    return number


def wait_at(gate: Gate) -> str:
    gate.wait()
    return "through"


# --------------------------------------------------------------------------- what they answer


def test_clusters_are_listed_without_paths(script: Browser, client: Client) -> None:
    listed = {one["cluster_id"]: one for one in script.send("GET", "/api/clusters").json()}
    assert listed["lab"]["persist"] is False
    assert "folder" not in listed["lab"]
    about = script.send("GET", "/api/clusters/lab").json()
    assert [engine["engine_id"] for engine in about["engines"]] == [0, 1]
    assert about["unfinished"] == 0


def test_calls_tasks_outputs_and_failures_are_read(script: Browser, client: Client) -> None:
    (call,) = script.send("GET", "/api/clusters/lab/calls").json()
    assert (call["fname"], call["tasks"], call["number"]) == ("work", 6, -1)
    assert call["counts"] == {"ok": 5, "error": 1}
    assert call["completed"] > call["submitted"]
    tasks = f"/api/clusters/lab/calls/{call['call_id']}/tasks"
    page = script.send("GET", f"{tasks}?limit=2&skip=3").json()
    assert page["total"] == 6
    assert [task["index"] for task in page["tasks"]] == [3, 4]
    failed = script.send("GET", f"{tasks}?failed=1").json()
    assert (failed["total"], failed["tasks"][0]["index"]) == (1, 4)
    task = script.send("GET", f"/api/clusters/lab/tasks/{failed['tasks'][0]['msg_id']}").json()
    assert task["outputs"] == [
        {"kind": "stdout", "prefix": f"[stdout:{task['engine_id']}]", "text": "looked at 4\n"}
    ]
    assert task["error"]["name"] == "ValueError"
    assert task["error"]["message"].startswith(HOSTILE)
    assert "in work" in task["error"]["traceback"]
    assert script.send("GET", "/api/clusters/lab/calls?skip=1").json() == []


def test_what_a_hub_wrote_is_read(script: Browser, client: Client) -> None:
    log = cluster_folder("lab") / "hub.log"
    with log.open("a") as file:
        file.write(f"one\n{HOSTILE}\n")
    answer = script.send("GET", "/api/clusters/lab/log?lines=2")
    assert answer.json() == {"cluster_id": "lab", "lines": ["one", HOSTILE]}


def test_a_cluster_is_started_and_stopped(script: Browser) -> None:
    answer = script.send("POST", "/api/clusters", {"n": 1, "cluster_id": "from-the-page"})
    assert (answer.status, answer.json()) == (201, {"cluster_id": "from-the-page", "engines": 1})
    taken = script.send("POST", "/api/clusters", {"n": 1, "cluster_id": "from-the-page"})
    assert taken.status == 409
    with connect(cluster_id="from-the-page") as client:
        # The server's own token is not for engines.
        assert "JUPYTER_TOKEN" not in client[0].apply_sync(lambda: dict(os.environ))
    assert script.send("DELETE", "/api/clusters/from-the-page").json()["outcome"] == "stopped"
    assert not cluster_folder("from-the-page").exists()
    assert script.send("GET", "/api/clusters/from-the-page").status == 404


def test_queued_tasks_are_taken_back_and_running_ones_interrupted(
    script: Browser, client: Client, tmp_path: Path
) -> None:
    gate = Gate(tmp_path / "gate")
    result = client.load_balanced_view().map_async(wait_at, [gate] * 5)
    with events(script, "lab") as news:
        until(news, lambda one: all(e["task"] and e["task"]["started"] for e in one["engines"]))
        call = script.send("GET", "/api/clusters/lab/calls?limit=1").json()[0]["call_id"]
        outcome = script.send("POST", "/api/clusters/lab/abort", {"call_id": call}).json()
        assert sorted(outcome.values()) == ["aborted"] * 3 + ["running"] * 2
        running = [msg_id for msg_id, one in outcome.items() if one == "running"]
        interrupted = script.send("POST", "/api/clusters/lab/interrupt", {"msg_ids": running[:1]})
        assert list(interrupted.json().values()) == ["interrupting"]
        assert script.send("POST", "/api/clusters/lab/interrupt", {"engines": [0, 1]}).status == 200
        until(news, lambda one: not one["unfinished"])
    assert result.wait(timeout=20) is None
    failed = sorted(getattr(error, "ename", "") or type(error).__name__ for error in result.failed)
    assert failed == ["KeyboardInterrupt"] * 2 + ["TaskAborted"] * 3


def test_events_tell_what_happens_as_it_happens(
    script: Browser, client: Client, tmp_path: Path
) -> None:
    gate = Gate(tmp_path / "gate")
    with events(script, "lab") as news:
        assert [engine["engine_id"] for engine in next(news)["engines"]] == [0, 1]
        result = client.load_balanced_view().map_async(wait_at, [gate])
        busy = until(news, lambda one: any(engine["task"] for engine in one["engines"]))
        assert busy["unfinished"] == 1
        gate.open()
        told = until(news, lambda one: one["ends"])
        assert [(task["msg_id"], task["status"]) for task in told["ends"]] == [
            (result.msg_ids[0], "ok")
        ]
        assert told["calls"][0]["counts"] == {"ok": 1}
        with Client("lab") as other:  # to whom all of it is told again
            other.get_result(result.msg_ids).wait()
        client[0].apply_sync(int)
        until(news, lambda one: one["ends"])
        calls = script.send("GET", "/api/clusters/lab/calls?limit=2").json()
        assert [call["counts"] for call in calls] == [{"ok": 1}, {"ok": 1}]
    assert result.get() == ["through"]


def test_events_of_many_tasks_come_together(script: Browser, client: Client) -> None:
    with events(script, "lab") as news:
        next(news)
        began = time.monotonic()
        client.load_balanced_view().map_async(abs, range(2000), chunksize=1).get()
        answers = list(itertools.takewhile(lambda one: one["unfinished"], news))
        # Besides the first and the last there are as many as fit, however long it took.
        assert len(answers) <= 2 + (time.monotonic() - began) / PERIOD
        assert all(len(one["ends"]) <= 300 for one in answers)


def test_a_cluster_that_ends_ends_its_events(script: Browser) -> None:
    with Cluster(n=0, cluster_id="short") as short, events(script, "short", "ended") as ended:
        short.shutdown()
        assert "reason" in next(ended)


# ------------------------------------------------------------------------------ wrong requests


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/api/clusters/nothing", None, 404),
        ("GET", "/api/clusters/..", None, 404),
        ("GET", "/api/clusters/%2e%2e%2fsecret", None, 404),
        ("GET", "/api/clusters/lab/tasks/nothing", None, 404),
        ("GET", "/api/clusters/lab/calls/nothing/tasks", None, 404),
        ("GET", "/api/clusters/nothing/log", None, 404),
        ("GET", "/api/clusters/lab/log?lines=all", None, 400),
        ("GET", "/api/clusters/lab/calls?limit=many", None, 400),
        ("GET", "/api/clusters/lab/calls?limit=100000", None, 400),
        ("GET", "/api/clusters/lab/calls?limit=٣", None, 400),
        ("GET", "/static/nothing.js", None, 404),
        ("GET", "/static/..%2fhandlers.py", None, 404),
        ("POST", "/api/clusters", {"n": "four"}, 400),
        ("POST", "/api/clusters", {"n": True}, 400),
        ("POST", "/api/clusters", {"n": 100_000}, 400),
        ("POST", "/api/clusters", {"n": -1}, 400),
        ("POST", "/api/clusters", {"cluster_id": "--all"}, 400),
        ("POST", "/api/clusters", {"cluster_id": "../x"}, 400),
        ("POST", "/api/clusters", {"host": "elsewhere"}, 400),
        ("POST", "/api/clusters", [], 400),
        ("POST", "/api/clusters", b"no json", 400),
        ("POST", "/api/clusters/lab/abort", {}, 400),
        ("POST", "/api/clusters/lab/abort", {"msg_ids": [1]}, 400),
        ("POST", "/api/clusters/lab/abort", {"call_id": "x", "msg_ids": []}, 400),
        ("POST", "/api/clusters/lab/interrupt", {"engines": ["0"]}, 400),
        ("POST", "/api/clusters/lab/interrupt", {"engines": [7]}, 404),
        ("DELETE", "/api/clusters/nothing", None, 404),
        ("PUT", "/api/clusters/lab", None, 405),
    ],
)
def test_a_wrong_request_is_refused_with_its_reason(
    script: Browser, client: Client, method: str, path: str, body: Any, status: int
) -> None:
    answer = script.send(method, path.replace("٣", "%D9%A3"), body)
    assert answer.status == status, answer.body
    assert answer.headers["Content-Type"].startswith(("application/json", "text/html"))


# ----------------------------------------------------------------------------------- security


READING = [
    "",
    "/",
    "/static/page.js",
    "/static/page.css",
    "/api/clusters",
    "/api/clusters/lab",
    "/api/clusters/lab/calls",
    "/api/clusters/lab/calls/x/tasks",
    "/api/clusters/lab/tasks/x",
    "/api/clusters/lab/log",
    "/api/events",
]
CHANGING = [
    ("POST", "/api/clusters"),
    ("DELETE", "/api/clusters/lab"),
    ("POST", "/api/clusters/lab/abort"),
    ("POST", "/api/clusters/lab/interrupt"),
]


def test_the_lists_of_this_test_have_every_route() -> None:
    from ipyasyncresult.server.routes import routes

    known = {(method, path) for path in READING for method in ["GET"]} | set(CHANGING)
    served = {
        (method.upper(), pattern)
        for pattern, handler in routes("/")
        for method in ("head", "get", "post", "put", "patch", "delete")
        if getattr(handler, method) is not RequestHandler._unimplemented_method
    }
    for method, pattern in served:
        found = [
            path
            for one, path in known
            if one == method and re.fullmatch(pattern, f"/ipyasyncresult{path}")
        ]
        assert found, (method, pattern)


@pytest.mark.parametrize("path", READING)
def test_nothing_is_read_without_a_token(server: JupyterServer, client: Client, path: str) -> None:
    refused(Browser(server).send("GET", path))
    refused(Browser(server, "a" * 32).send("GET", path))


@pytest.mark.parametrize(("method", "path"), CHANGING)
def test_nothing_is_changed_without_a_token(
    server: JupyterServer, client: Client, method: str, path: str
) -> None:
    refused(Browser(server).send(method, path, {}))


@pytest.mark.parametrize(("method", "path"), CHANGING)
def test_nothing_is_changed_by_a_form_of_another_site(
    browser: Browser, client: Client, method: str, path: str
) -> None:
    """It has the user's cookies, and does not know the XSRF token."""
    refused(browser.send(method, path, {}, xsrf=False))
    refused(browser.send(method, path, {}, xsrf=False, headers={"X-XSRFToken": "guessed"}))


@pytest.mark.parametrize(("method", "path"), CHANGING)
def test_nothing_is_changed_by_a_script_of_another_site(
    browser: Browser, client: Client, method: str, path: str
) -> None:
    refused(browser.send(method, path, {}, headers={"Origin": "http://evil.example"}))


@pytest.mark.parametrize("path", [path for path in READING if path.startswith("/api")])
def test_nothing_is_read_by_a_script_of_another_site(
    browser: Browser, client: Client, path: str
) -> None:
    answer = browser.send("GET", path, headers={"Origin": "http://evil.example"})
    refused(answer)
    assert answer.headers["Access-Control-Allow-Origin"] is None


@pytest.mark.parametrize("path", READING)
def test_a_browser_that_asks_for_another_site_gets_no_permission(
    browser: Browser, client: Client, path: str
) -> None:
    """The request before the request; Jupyter's server answers it without a token."""
    asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    answer = browser.send("OPTIONS", path, headers=asked)
    assert answer.headers["Access-Control-Allow-Origin"] is None
    assert answer.headers["Access-Control-Allow-Credentials"] is None
    assert answer.body == b"" or answer.status >= 400


ALLOWS = """
import os
from pathlib import Path
from jupyter_server.auth import Authorizer

class FromFile(Authorizer):
    def is_authorized(self, handler, user, action, resource):
        return resource != "ipyasyncresult" or action in Path(os.environ["ALLOWED"]).read_text()
"""


def test_whom_the_server_gives_no_right_reads_and_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, home = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("home")
    (home / "allows.py").write_text(ALLOWS)
    allowed = home / "allowed"
    monkeypatch.setenv("PYTHONPATH", str(home))
    monkeypatch.setenv("ALLOWED", str(allowed))
    with jupyter_server(root, home, "--ServerApp.authorizer_class=allows.FromFile") as server:
        script = Browser(server, server.token)
        allowed.write_text("")
        assert {script.send("GET", path).status for path in READING} == {403}
        assert {script.send(*one, {}).status for one in CHANGING} == {403}
        allowed.write_text("read write")  # as for files; to run code takes more
        assert script.send("GET", "/api/clusters/lab").status == 200
        assert {script.send(*one, {}).status for one in CHANGING} == {403}
        allowed.write_text("read execute")
        answer = script.send("POST", "/api/clusters/lab/abort", {"msg_ids": ["x"]})
        assert answer.json() == {"x": "unknown"}


@pytest.mark.parametrize(("method", "path"), CHANGING)
def test_state_is_not_changed_by_get(
    script: Browser, client: Client, method: str, path: str
) -> None:
    if (path not in READING) and method == "POST":
        assert script.send("GET", path).status == 405


def test_a_logged_in_browser_may(browser: Browser, client: Client) -> None:
    """So the refusals above had their reason in what was missing."""
    assert browser.send("GET", "/api/clusters/lab").status == 200
    assert browser.send("POST", "/api/clusters/lab/abort", {"msg_ids": ["x"]}).json() == {
        "x": "unknown"
    }


@pytest.mark.parametrize("path", READING)
def test_what_is_served_can_run_no_script_that_is_not_ours(
    browser: Browser, client: Client, path: str
) -> None:
    with browser.connection() as connection:  # events do not end
        headers = browser.request(connection, "GET", path).headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    if path.startswith("/api"):
        assert "sandbox" in policy
        assert headers["Cache-Control"] == "no-store"


def test_the_token_is_in_no_page_and_no_log(server: JupyterServer, browser: Browser) -> None:
    page = browser.send("GET", "")
    assert server.token not in page.body.decode()
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert server.token not in server.log.read_text()


def test_a_server_may_be_for_looking_only(
    tmp_path_factory: pytest.TempPathFactory, client: Client
) -> None:
    root, home = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("home")
    with jupyter_server(root, home, "--ServerOptions.read_only=True") as server:
        script = Browser(server, server.token)
        assert script.send("GET", "/api/clusters/lab").status == 200
        for method, path in CHANGING:
            assert script.send(method, path, {}).status == 403


def refused(answer: Answer) -> None:
    """Not done; a page sends its reader to the login."""
    if answer.status == 302:
        assert answer.headers["Location"].startswith("/user/ann/login")
    else:
        assert answer.status in (403, 404), (answer.status, answer.body)


# ------------------------------------------------------------------------------------ helpers


class events:  # noqa: N801  reads as a function
    """The events of one kind of one cluster, decoded."""

    def __init__(self, browser: Browser, cluster_id: str, kind: str = "news") -> None:
        self._opened = browser.connection()
        self._browser, self._path, self._kind = browser, f"/api/events?cluster={cluster_id}", kind

    def __enter__(self) -> Iterator[dict[str, Any]]:
        connection = self._opened.__enter__()
        answer = self._browser.request(connection, "GET", self._path)
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/event-stream"
        return self._read(answer)

    def _read(self, lines: Any) -> Iterator[dict[str, Any]]:
        kind = ""
        for line in lines:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name == "event":
                kind = value
            elif name == "data" and kind == self._kind:
                yield json.loads(value)

    def __exit__(self, *_: object) -> None:
        self._opened.__exit__(None, None, None)


def until(news: Iterator[dict[str, Any]], condition: Any) -> dict[str, Any]:
    """The first that fulfils it."""
    return next(one for one in news if condition(one))
