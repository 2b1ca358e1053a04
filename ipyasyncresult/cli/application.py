"""The application: which commands there are, and what all of them do alike."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from traitlets import Bool, TraitError, Unicode, import_item
from traitlets.config import Application
from traitlets.config.loader import KVArgParseConfigLoader

from ipyasyncresult._version import __version__
from ipyasyncresult.config import read_config_files

__all__ = ["Command", "CommandError", "NotThere", "main"]

FAILED, USAGE, NOT_THERE = 1, 2, 3
"""Exit codes."""


class CommandError(Exception):
    """A command cannot do what it was asked for; the message says why."""

    exit_code = FAILED


class UsageError(CommandError):
    """The command line is wrong."""

    exit_code = USAGE


class NotThere(CommandError):
    """The cluster, the call or the file that was asked for is not there."""

    exit_code = NOT_THERE


class _Loader(KVArgParseConfigLoader):
    """Traitlets' own warns of an unknown option and goes on: a slip must not start things."""

    def _handle_unrecognized_alias(self, arg: str) -> None:
        raise UsageError(f"there is no option {arg}; --help-all lists them")


class _Base(Application):
    """What the commands and the command of commands share."""

    version = Unicode(__version__)
    description = Unicode("")  # the docstring
    log_format = Unicode("ipyasyncresult: %(message)s")

    def _create_loader(self, argv: Any, aliases: Any, flags: Any, classes: Any) -> Any:
        return _Loader(
            argv, aliases, flags, classes=classes, log=self.log, subcommands=self.subcommands
        )

    def exit(self, exit_status: int | str | None = 0) -> None:
        """End.  Traitlets comes here with 1 when a value on the command line does not fit."""
        super().exit(USAGE if exit_status == 1 else exit_status)


class Command(_Base):
    """One command.  ``run`` does it and returns data; ``show`` prints that for people."""

    words = ""
    """What it takes besides options, for its usage line."""

    json = Bool(False, help="Print JSON, for scripts.").tag(config=True)

    aliases: dict[Any, Any] = {}  # noqa: RUF012  traitlets' way to declare them
    flags: dict[Any, Any] = {  # noqa: RUF012
        "json": ({"Command": {"json": True}}, "Print JSON, for scripts."),
        "debug": (
            {"Application": {"log_level": 10}},
            "Say what goes on, and show tracebacks of errors.",
        ),
    }

    def start(self) -> None:
        """Run it and print what it found."""
        found = self.run()
        if self.json:
            print(json.dumps(found, indent=2, default=str))
        else:
            self.show(found)

    exit_code = 0

    def run(self) -> Any:
        """Do it; what is returned can be written as JSON.

        Raises
        ------
        CommandError
            When it cannot be done.
        """
        raise NotImplementedError

    def show(self, found: Any) -> None:
        """Print what ``run`` returned, for people."""
        raise NotImplementedError

    def argument(self, default: str | None = None) -> str | None:
        """The one word that stands on the line, if there is one."""
        if len(self.extra_args) > 1:
            raise UsageError(f"one name at most, not {' '.join(self.extra_args)!r}")
        return self.extra_args[0] if self.extra_args else default

    def emit_description(self) -> Any:
        """What it does, and how it is called."""
        yield f"usage: {self.name} [options] {self.words}".rstrip()
        yield ""
        yield from super().emit_description()


class CommandLine(_Base):
    """Engines on this machine from a terminal: start them, watch them, read what they did.

    Each command has --help, and --help-all with every option that a configuration file may set.
    """

    name = Unicode("ipyasyncresult")
    subcommands = {  # noqa: RUF012
        "start": (
            "ipyasyncresult.cli.clusters.Start",
            "start engines that outlive this terminal",
        ),
        "stop": ("ipyasyncresult.cli.clusters.Stop", "stop a cluster, or all of them"),
        "forget": ("ipyasyncresult.cli.clusters.Forget", "remove what ended clusters stored"),
        "list": ("ipyasyncresult.cli.clusters.List", "running clusters"),
        "status": ("ipyasyncresult.cli.clusters.Status", "one cluster: its engines and queues"),
        "results": ("ipyasyncresult.cli.work.Results", "calls and what their tasks printed"),
        "logs": ("ipyasyncresult.cli.work.Logs", "what a hub wrote"),
        "doctor": ("ipyasyncresult.cli.doctor.Doctor", "is this machine fit, and what to do"),
        "config": ("ipyasyncresult.cli.files.ShowConfig", "configuration files and options"),
        "completion": ("ipyasyncresult.cli.files.Completion", "completion for your shell"),
    }

    def initialize(self, argv: Any = None) -> None:
        """Read the files, then the line, so that the line wins."""
        self.update_config(read_config_files())
        super().initialize(argv)

    def initialize_subcommand(self, subc: str, argv: Any = None) -> None:
        """Make the command; a plain object, as nobody asks for *the* application."""
        self.subapp = import_item(self.subcommands[subc][0])(parent=self)
        self.subapp.initialize(argv)

    def start(self) -> None:
        """Run the command, or say which there are."""
        if self.subapp is None:
            if self.extra_args:
                raise UsageError(
                    f"there is no command {self.extra_args[0]!r}; "
                    f"there are: {', '.join(self.subcommands)}"
                )
            self.print_help()
            return
        self.subapp.start()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    application = CommandLine()
    try:
        # None: traitlets takes sys.argv, or what a shell that completes a line has so far.
        application.initialize(None if argv is None else list(argv))
        application.start()
    except SystemExit as ended:  # --help, --version, traitlets' own errors
        return ended.code if isinstance(ended.code, int) else FAILED
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # ... | head
        sys.stderr.close()
        return 0
    except (CommandError, TraitError) as error:
        print(f"ipyasyncresult: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, CommandError) else USAGE
    except Exception as error:
        if _wants_tracebacks(application):
            raise
        print(f"ipyasyncresult: {error}", file=sys.stderr)
        return FAILED
    command = application.subapp
    return command.exit_code if isinstance(command, Command) else 0


def _wants_tracebacks(application: CommandLine) -> bool:
    command = application.subapp or application
    return command.log_level in (10, "DEBUG")
