"""Options: from which file, by which name, and what they change."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets import TraitError
from traitlets.config import Config

from ipyasyncresult import Cluster, magics
from ipyasyncresult.cli.files import all_options, options_of
from ipyasyncresult.client import defaults
from ipyasyncresult.config import (
    ClusterOptions,
    DisplayOptions,
    configurable_classes,
    options,
    read_config_files,
)
from ipyasyncresult.display import settings
from ipyasyncresult.errors import ConfigurationError
from tests.conftest import forget_shell


@pytest.fixture(autouse=True)
def fresh_options() -> Iterator[None]:
    """As in a process that has read no file yet."""

    def forget() -> None:
        for kind in configurable_classes():
            kind.clear_instance()
        defaults._has_files.cache_clear()

    forget()
    yield
    forget()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own folder for configuration files."""
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path / "own"))
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", str(tmp_path / "everybody"))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    for name in ("own", "everybody"):
        (tmp_path / name).mkdir()
    return tmp_path / "own"


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    config = Config({"HistoryManager": {"enabled": False}})
    made = InteractiveShell(config=config)
    yield made
    made.configurables.clear()
    forget_shell(made)


def write(folder: Path, text: str, name: str = "ipyasyncresult_config.py") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_without_files_everything_is_as_documented(folder: Path) -> None:
    assert read_config_files() == {}
    assert options(ClusterOptions).changed() == {}
    assert settings.progress is True
    assert settings.widgets is None


def test_files_in_python_and_json_are_read(folder: Path) -> None:
    write(folder, "c.ClusterOptions.n = 3\n")
    write(folder, '{"DisplayOptions": {"widgets": false}}', "ipyasyncresult_config.json")
    assert options(ClusterOptions).n == 3
    assert settings.widgets is False


def test_a_file_that_cannot_be_read_is_named(folder: Path) -> None:
    file = write(folder, "c.ClusterOptions.n = 1/0\n")
    with pytest.raises(ConfigurationError, match=f"{file}: ZeroDivisionError"):
        read_config_files()


def test_whoever_waits_for_a_result_does_not_fail_for_a_broken_file(folder: Path) -> None:
    write(folder, "nonsense(")
    with pytest.warns(UserWarning, match="uses its defaults.*ipyasyncresult_config.py"):
        assert options(DisplayOptions).progress is True
    assert settings.progress is True


def test_a_value_of_the_wrong_kind_is_a_warning_with_its_name(folder: Path) -> None:
    write(folder, "c.ClusterOptions.n = 'many'\n")
    with pytest.warns(UserWarning, match="'n' trait"):
        assert options(ClusterOptions).n is None


def test_a_process_may_say_otherwise_and_go_back(folder: Path) -> None:
    write(folder, "c.DisplayOptions.progress = False\n")
    assert not settings.progress_is_wanted()
    settings.progress = True
    assert settings.progress_is_wanted()
    del settings.progress
    assert not settings.progress_is_wanted()


def test_a_cluster_is_made_as_the_file_says_unless_the_call_does(folder: Path) -> None:
    assert Cluster(n=2).n == 2
    fresh = ClusterOptions.clear_instance
    fresh()
    write(folder, "c.ClusterOptions.n = 5\nc.ClusterOptions.output_limit = 2000\n")
    assert Cluster().n == 5
    assert Cluster(None).n == 5
    assert Cluster(2).n == 2
    assert Cluster(n=0).n == 0
    with pytest.raises(TypeError, match="must be a number of engines"):
        Cluster("3")  # type: ignore[arg-type]


def test_every_option_of_a_cluster_may_be_configured_and_has_the_same_default(folder: Path) -> None:
    given = inspect.signature(Cluster.__init__).parameters
    taken = {name: one.default for name, one in given.items() if one.default is not one.empty}
    of_one_cluster = {"cluster_id", "persist"}
    traits = ClusterOptions.class_own_traits(config=True)
    assert {name: one.default_value for name, one in traits.items()} == {
        name: default for name, default in taken.items() if name not in of_one_cluster
    }
    write(folder, "c.ClusterOptions.transport = 'tcp'\nc.ClusterOptions.arrays_limit = 0\n")
    assert Cluster().transport == "tcp"
    assert Cluster(transport="ipc").transport == "ipc"
    assert Cluster()._arrays_limit == 0


def test_magics_have_their_options_from_the_file(folder: Path, shell: InteractiveShell) -> None:
    write(folder, "c.EngineMagics.block = False\nc.EngineMagics.targets = '0:2'\n")
    magics.load(shell)
    loaded = shell.magics_manager.registry["EngineMagics"]
    assert loaded.settings.block is False
    assert loaded.settings.targets == slice(0, 2)
    assert loaded.settings.stream is True


def test_ipythons_own_files_win(folder: Path, shell: InteractiveShell) -> None:
    write(folder, "c.EngineMagics.block = False\nc.EngineMagics.verbose = True\n")
    shell.config.EngineMagics.block = True
    magics.load(shell)
    loaded = shell.magics_manager.registry["EngineMagics"]
    assert (loaded.settings.block, loaded.settings.verbose) == (True, True)


def test_percent_config_and_pxconfig_set_the_same_things(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    magics.load(shell)
    loaded = shell.magics_manager.registry["EngineMagics"]
    shell.run_line_magic("config", "EngineMagics.signal_on_interrupt = 'SIGTERM'")
    shell.run_line_magic("pxconfig", "--progress-after 7")
    assert loaded.progress_after == 7
    capsys.readouterr()
    shell.run_line_magic("pxconfig", "")
    assert "signal-on-interrupt  SIGTERM" in capsys.readouterr().out
    shell.run_line_magic("config", "EngineMagics")
    assert "progress_after" in capsys.readouterr().out
    shell.run_line_magic("config", "DisplayOptions.widgets = False")
    assert settings.widgets is False


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("targets", "first!", "-t/--targets must be an engine"),
        ("targets", 1.5, "as -t takes them"),
        ("signal_on_interrupt", "SIGNONE", "must be a signal"),
        ("group_outputs", "colour", "group_outputs"),
        ("progress_after", "soon", "progress_after"),
    ],
)
def test_a_wrong_value_is_refused_where_it_is_set(
    shell: InteractiveShell, name: str, value: Any, complaint: str
) -> None:
    magics.load(shell)
    with pytest.raises(TraitError, match=complaint):
        setattr(shell.magics_manager.registry["EngineMagics"], name, value)


def test_unloading_takes_the_options_away(shell: InteractiveShell) -> None:
    before = list(shell.configurables)
    magics.load(shell)
    assert len(shell.configurables) == len(before) + 3
    magics.unload(shell)
    assert shell.configurables == before


def test_every_option_is_explained() -> None:
    for kind in all_options():
        for name, about in options_of(kind).items():
            assert about["help"], f"{kind.__name__}.{name}"


def test_the_page_of_options_is_up_to_date() -> None:
    written = Path(__file__).parents[2] / "docs" / "tools" / "configuration.py"
    subprocess.run([sys.executable, written, "--check"], check=True)
