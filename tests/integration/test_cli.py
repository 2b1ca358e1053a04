"""The command line, with real clusters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ipyasyncresult import Client, connect
from ipyasyncresult.cli import main
from ipyasyncresult.wire.runtime import cluster_folder
from tests.integration.conftest import NewGate

Say = Callable[..., str]


@pytest.fixture(autouse=True)
def own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """``start`` puts the current folder in the place of its program's."""
    monkeypatch.setattr(sys, "path", ["the program's folder", *sys.path])


@pytest.fixture(autouse=True)
def own_runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No other cluster is here: commands take the only one, and ``stop --all`` stops no other's."""
    # Short, as the path of a Unix socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="ipar-") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Runs a command that must end with this exit code; what it printed."""

    def run(*words: str, code: int = 0) -> str:
        capsys.readouterr()
        ended = main(words)
        printed = capsys.readouterr()
        assert ended == code, printed
        return printed.out if code == 0 else printed.out + printed.err

    return run


@pytest.fixture
def lab(say: Say) -> Iterator[Client]:
    """A cluster that the command line started, and a client of it."""
    say("start", "-n", "2", "--cluster-id", "lab")
    client = connect(cluster_id="lab")
    yield client
    client.shutdown()


def fail_on_odd(number: int) -> int:
    print("looked at", number)
    if number % 2:
        raise ValueError(f"{number} is \033[31modd")
    return number


def test_a_cluster_from_its_start_to_its_stop(say: Say, tmp_path: Path) -> None:
    assert "no cluster is running" in say("list")
    started = json.loads(say("start", "-n", "2", "--json"))
    name = started["cluster_id"]
    assert started["engines"] == 2
    (listed,) = json.loads(say("list", "--json"))
    assert (listed["cluster_id"], listed["engines"], listed["persist"]) == (name, 2, True)
    assert name in say("list")
    status = json.loads(say("status", "--json"))
    assert [one["state"] for one in status["engine_list"]] == ["idle", "idle"]
    assert "2 engines, 0 tasks unfinished" in say("status", name)
    assert say("logs", "-n", "0") == ""
    assert "had nothing to say" in say("logs")
    assert f"cluster '{name}' is there already" in say("start", "--cluster-id", name, code=1)
    assert say("stop") == f"{name}: stopped\n"
    assert not cluster_folder(name).exists()
    assert "no cluster is running" in say("stop", code=3)
    assert "no cluster is running" in say("stop", "--all")


def test_engines_import_what_lies_where_start_was_called(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "beside_me.py").write_text("answer = 42")
    monkeypatch.chdir(tmp_path)
    say("start", "-n", "1", "--cluster-id", "here")
    client = connect(cluster_id="here")
    try:
        client[0].execute("import beside_me; answer = beside_me.answer", block=True)
        assert client[0].pull("answer", block=True) == 42
    finally:
        client.shutdown()


def test_results_of_other_sessions_are_listed_and_read(say: Say, lab: Client) -> None:
    assert say("results") == "the cluster remembers no calls\n"
    view = lab.load_balanced_view()
    view.map_async(fail_on_odd, range(4)).wait()
    lab[0].execute("1 + 1", block=True)
    calls = json.loads(say("results", "--json"))
    assert [(call["number"], sum(call["counts"].values())) for call in calls] == [(-1, 1), (-2, 4)]
    assert "2 ok, 2 error" in say("results")
    assert len(json.loads(say("results", "--json", "-n", "1"))) == 1
    assert [one["number"] for one in json.loads(say("results", "--json", "--failed"))] == [-2]

    shown = say("results", "-2")
    assert all(f"looked at {number}" in shown for number in range(4))
    assert "ValueError: 1 is odd" in shown
    failed = json.loads(say("results", "-2", "--failed", "--json"))
    assert [task["error"]["message"] for task in failed] == ["1 is \033[31modd", "3 is \033[31modd"]
    assert "fail_on_odd" in failed[0]["error"]["traceback"]
    assert "no task or call 'nothing'" in say("results", "nothing", code=3)
    assert "no task or call 7: `ipyasyncresult results` lists" in say("results", "7", code=3)


def test_a_call_that_runs_is_read_as_far_as_it_is(say: Say, lab: Client, new_gate: NewGate) -> None:
    gate, begun = new_gate("end"), new_gate("begun")

    def work() -> None:
        print("half way", flush=True)
        begun.open()
        gate.wait()
        print("done")

    result = lab.load_balanced_view().apply_async(work)
    begun.wait()
    (task,) = json.loads(say("results", "-1", "--json"))
    assert task["status"] in ("pending", "running")
    gate.open()
    assert "done" in say("results", "-1", "--wait")
    result.get()


def test_log_lines_of_a_death_are_shown(say: Say, lab: Client) -> None:
    with pytest.raises(Exception, match="exit code 3"):
        lab[0].apply_sync(lambda: __import__("os")._exit(3))
    assert "engine 0 died" in say("logs")
    lab.wait_for_engines(2)


def test_several_clusters_have_to_be_named(say: Say, lab: Client) -> None:
    say("start", "-n", "0", "--cluster-id", "other")
    try:
        refused = say("status", code=3)
        assert "say which cluster" in refused
        assert "lab" in refused
        assert "other" in refused
    finally:
        assert "other: stopped" in say("stop", "other")


def test_what_ended_clusters_stored_is_forgotten_on_request(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    for name in ("old", "new"):
        say("start", "-n", "0", "--cluster-id", name)
    assert "old" in say("forget", "old", code=1)  # it lives
    say("stop", "--all")
    assert "ended cluster" not in say("list", "--stored")
    for file in (tmp_path / "ipyasyncresult" / "old").iterdir():
        os.utime(file, (0, 0))
    assert "old: forgotten" in say("forget", "--older-than", "30")
    assert [one["cluster_id"] for one in json.loads(say("list", "--stored", "--json"))] == ["new"]
    assert "nothing is that old" in say("forget", "--older-than", "30")
    assert "new: forgotten" in say("forget", "new")
    assert "no cluster 'new' has stored anything" in say("forget", "new", code=1)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["frobnicate"], "no command 'frobnicate'"),
        (["start", "--engine-count", "3"], "engine-count"),
        (["start", "--ClusterOptions.engines=3"], "no option --ClusterOptions.engines"),
        (["start", "--turbo"], "no option --turbo"),
        (["start", "-n", "many"], "-n expected an int, not the str 'many'"),
        (["start", "-n", "-4"], "-n should not be less than 0"),
        (["start", "--idle"], "--idle needs a value"),
        (["results", "--limit", "many"], "-n expected an int"),
        (["start", "4"], "options only, not '4'"),
        (["doctor", "me"], "doctor takes options only, not 'me'"),
        (["status", "a", "b"], "one name at most"),
        (["stop", "a", "--all"], "not both"),
        (["forget"], "names of clusters"),
        (["forget", "a", "--older-than", "1"], "names of clusters"),
        (["completion", "tcsh"], "bash, zsh, fish"),
        (["results", "--groupby", "colour"], "groupby"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_command_line_is_refused_with_code_2(
    say: Say, words: list[str], complaint: str
) -> None:
    assert complaint in say(*words, code=2)


def test_every_command_explains_itself(say: Say) -> None:
    listed = say("--help")
    for command in (
        "start",
        "stop",
        "forget",
        "list",
        "status",
        "results",
        "logs",
        "doctor",
        "config",
    ):
        assert command in listed
        assert f"usage: ipyasyncresult {command}" in say(command, "--help")
    assert "ClusterOptions.output_limit" in say("start", "--help-all")


def test_doctor_proves_that_an_engine_runs(say: Say) -> None:
    found = {one["name"]: one for one in json.loads(say("doctor", "--json"))}
    assert found["trial"]["state"] == "ok"
    assert {"python", "ipykernel", "pyzmq", "shared memory", "open files"} <= found.keys()
    assert all(one["advice"] for one in found.values() if one["state"] != "ok")


def test_doctor_says_what_to_do_and_fails(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = tmp_path / "run"
    (runtime / "ipyasyncresult").mkdir(parents=True)
    (runtime / "ipyasyncresult").chmod(0o755)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    assert f"chmod 700 {runtime}/ipyasyncresult" in say("doctor", code=1)


def test_a_file_sets_options_and_the_line_wins(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path))
    assert say("config", "--generate") == f"wrote {tmp_path}/ipyasyncresult_config.py\n"
    file = tmp_path / "ipyasyncresult_config.py"
    assert "# c.ClusterOptions.n = None" in file.read_text()
    assert "left as it is" in say("config", "--generate", code=1)
    file.write_text("c.ClusterOptions.n = 1\nc.Start.cluster_id = 'from-the-file'\n")
    assert json.loads(say("config", "--json"))["set"]["ClusterOptions"] == {"n": 1}
    assert json.loads(say("start", "--json")) == {"cluster_id": "from-the-file", "engines": 1}
    say("stop")
    assert json.loads(say("start", "--json", "-n", "0"))["engines"] == 0
    say("stop")
    file.write_text("c.ClusterOptions.n = = 1\n")
    assert f"{file}: SyntaxError" in say("list", code=1)


def test_python_minus_m_is_the_same_program_and_a_reader_that_left_is_no_error() -> None:
    command = [sys.executable, "-m", "ipyasyncresult", "config"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_a_shell_completes_commands_options_and_names(lab: Client) -> None:
    """As the code of ``completion bash`` calls it."""

    def complete(line: str) -> list[str]:
        program = (
            "import os, sys; os.dup2(1, 8); sys.argv = ['ipyasyncresult'];"
            "from ipyasyncresult.cli import main; main()"
        )
        environment: dict[str, Any] = {
            "XDG_RUNTIME_DIR": os.environ["XDG_RUNTIME_DIR"],
            "_ARGCOMPLETE": "1",
            "COMP_LINE": line,
            "COMP_POINT": str(len(line)),
            "_ARGCOMPLETE_IFS": "\n",
            "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
        }
        ended = subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return ended.stdout.split()

    assert "start" in complete("ipyasyncresult st")
    assert "--cluster-id" in complete("ipyasyncresult start --cl")
    assert complete("ipyasyncresult completion z") == ["zsh"]
    assert complete("ipyasyncresult stop l") == complete("ipyasyncresult status l") == ["lab"]
    assert complete("ipyasyncresult results --cluster-id l") == ["lab"]
    assert complete("ipyasyncresult doctor ./") == []
