"""``config`` and ``completion``: what stands in files."""

from __future__ import annotations

import shutil
import sys
import textwrap
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_config_dir, jupyter_config_path
from traitlets import Bool, Unicode
from traitlets.config import Configurable

from ipyasyncresult.cli.application import Command, CommandError, UsageError
from ipyasyncresult.config import FILE_NAME, configurable_classes, read_config_files

__all__ = ["Completion", "ShowConfig", "all_options", "options_of"]

_SHELLS = ("bash", "zsh", "fish")


class ShowConfig(Command):
    """Where configuration files are looked for, what they set, and every option there is."""

    name = Unicode("ipyasyncresult config")
    examples = Unicode("ipyasyncresult config\nipyasyncresult config --generate")

    generate = Bool(False, help="Write a file with every option, as a comment.").tag(config=True)
    flags: dict[Any, Any] = {  # noqa: RUF012
        **Command.flags,
        "generate": (
            {"ShowConfig": {"generate": True}},
            "Write a file with every option, as a comment.",
        ),
    }

    def run(self) -> dict[str, Any]:
        """Look, or write."""
        if self.generate:
            return {"written": str(self._write())}
        folders = [Path(folder) for folder in jupyter_config_path()]
        files = [f for folder in folders for f in sorted(folder.glob(f"{FILE_NAME}.*"))]
        return {
            "looked_in": [str(folder) for folder in folders],
            "files": [str(file) for file in files],
            "set": read_config_files(),
            "options": {cls.__name__: options_of(cls) for cls in all_options()},
        }

    def _write(self) -> Path:
        path = Path(jupyter_config_dir()) / f"{FILE_NAME}.py"
        if path.exists():
            raise CommandError(f"{path} exists: it is left as it is")
        path.parent.mkdir(parents=True, exist_ok=True)
        sections = [cls.class_config_section() for cls in all_options()]
        head = "# Options of ipyasyncresult: take the # away where a value shall be another.\n"
        path.write_text("\n".join([head, "c = get_config()  # noqa\n", *sections]))
        return path

    def show(self, found: dict[str, Any]) -> None:
        """Files, what they set, and the options."""
        if "written" in found:
            print(f"wrote {found['written']}")
            return
        if found["files"]:
            print("read, the first wins:", *found["files"], sep="\n  ")
        else:
            print(
                f"there is no {FILE_NAME}.py; it is looked for in:", *found["looked_in"], sep="\n  "
            )
        width = min(shutil.get_terminal_size().columns, 100) - 6
        for name, values in found["options"].items():
            print(f"\n{name}")
            for option, about in values.items():
                now = found["set"].get(name, {}).get(option, about["default"])
                print(f"  {option} = {now}")
                print(textwrap.indent(textwrap.fill(about["help"], max(width, 40)), " " * 6))


def all_options() -> list[type[Configurable]]:
    """Every class that has options, those of the magics too."""
    from ipyasyncresult.magics.enginemagics import EngineMagics

    return [*configurable_classes(), EngineMagics]


def options_of(cls: type[Configurable]) -> dict[str, dict[str, str]]:
    """By name: ``default`` and ``help``."""
    ours = {
        name: trait
        for base in cls.__mro__
        if base.__module__.startswith("ipyasyncresult.") and issubclass(base, Configurable)
        for name, trait in base.class_own_traits(config=True).items()
    }
    return {
        name: {"default": trait.default_value_repr(), "help": " ".join(str(trait.help).split())}
        for name, trait in sorted(ours.items())
    }


class Completion(Command):
    """Completion of commands and options for your shell; needs argcomplete.

    Put  eval "$(ipyasyncresult completion bash)"  into ~/.bashrc.
    """

    name = Unicode("ipyasyncresult completion")
    words = "bash | zsh | fish"

    def offered(self, **_typed: Any) -> tuple[str, ...]:
        """The shells."""
        return _SHELLS

    def run(self) -> dict[str, str]:
        """The code."""
        shell = self.argument()
        if shell not in _SHELLS:
            raise UsageError(f"name your shell: {', '.join(_SHELLS)}")
        try:
            from argcomplete.shell_integration import shellcode
        except ModuleNotFoundError:
            raise CommandError(
                "completion needs argcomplete: pip install 'ipyasyncresult[completion]'"
            ) from None
        return {"shell": shell, "code": shellcode(["ipyasyncresult"], shell=shell)}

    def show(self, found: dict[str, str]) -> None:
        """The code alone, for ``eval``."""
        sys.stdout.write(found["code"] + "\n")
