"""The application: which commands there are, and what all of them do alike."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

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


# Of the help that traitlets writes for options.
_LEFT_OUT = ("Equivalent to: [", "Default: None", "Default: ''")
_UNKNOWN = "there is no option {}; --help-all lists them"


class _Loader(KVArgParseConfigLoader):
    """Traitlets' own warns of an unknown option and goes on: a slip must not start things."""

    completer: Callable[..., Sequence[str]]
    """What a shell offers for words that are no options."""

    def _add_arguments(self, aliases: Any, flags: Any, classes: Any) -> Any:
        added = super()._add_arguments(aliases, flags, classes)
        for action in self.parser._actions:
            if action.dest == "extra_args":
                action.completer = self.completer  # type: ignore[attr-defined]
        return added

    def _handle_unrecognized_alias(self, arg: str) -> None:
        raise UsageError(_UNKNOWN.format(f"--{arg}"))

    def _create_parser(self) -> None:
        super()._create_parser()
        self.parser.error = self._refuse  # type: ignore[method-assign]

    def _refuse(self, message: str) -> NoReturn:
        """What argparse found, without its usage lines, which have traitlets' names."""
        found = re.fullmatch(r"argument (--?)([\w.-]+)\S*: expected one argument", message)
        if found is None:
            raise UsageError(message)
        dashes, name = found.groups()
        if "." in name:
            raise UsageError(f"{_option(name, self.aliases)} needs a value")
        raise UsageError(_UNKNOWN.format(f"{dashes}{name}"))


class _Base(Application):
    """What the commands and the command of commands share."""

    version = Unicode(__version__)
    description = Unicode("")  # the docstring
    log_format = Unicode("ipyasyncresult: %(message)s")
    option_description = Unicode("--help-all adds the options that configuration files may set.")

    def _create_loader(self, argv: Any, aliases: Any, flags: Any, classes: Any) -> Any:
        loader = _Loader(
            argv, aliases, flags, classes=classes, log=self.log, subcommands=self.subcommands
        )
        loader.completer = self.offered
        return loader

    def offered(self, **_typed: Any) -> Sequence[str]:
        """What a shell may complete a word to that is no option: no files, at least."""
        return ()

    def parse_command_line(self, argv: Any = None) -> None:
        """Take the line; what it sets must be there to be set."""
        super().parse_command_line(argv)
        known = {kind.__name__: kind for kind in self._classes_inc_parents()}
        for section, values in self.cli_config.items():
            for name in values:
                if section not in known or not known[section].class_traits(config=True).get(name):
                    raise UsageError(_UNKNOWN.format(f"--{section}.{name}"))

    def update_config(self, config: Any) -> None:
        """Set what files and the line say."""
        try:
            super().update_config(config)
        except TraitError as error:
            raise UsageError(_in_options(str(error), self)) from None

    def emit_options_help(self) -> Any:
        """Options without the names that they have in a file: ``--help-all`` has these."""
        for line in super().emit_options_help():
            if not line.strip().startswith(_LEFT_OUT):
                yield line

    def emit_help_epilogue(self, classes: bool) -> Any:
        """Nothing: the head of the options has said it."""
        yield from ()

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
        if self.extra_args and not self.words:
            command = self.name.rpartition(" ")[2]
            raise UsageError(f"{command} takes options only, not {self.extra_args[0]!r}")
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
    aliases: dict[Any, Any] = {}  # noqa: RUF012
    flags: dict[Any, Any] = {  # noqa: RUF012
        "debug": Command.flags["debug"],
        "version": ({}, "Print the version."),
    }
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
    except CommandError as error:
        print(f"ipyasyncresult: {error}", file=sys.stderr)
        return error.exit_code
    except TraitError as error:
        text = _in_options(str(error), application.subapp or application)
        print(f"ipyasyncresult: {text}", file=sys.stderr)
        return USAGE
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


def _in_options(message: str, command: Application) -> str:
    """What traitlets says about a value, with the option as it stands on the line."""
    found = re.fullmatch(
        r"The (?:value of the )?'(\w+)' trait of an? (\w+) instance (.+)", message, re.DOTALL
    )
    if found is None:
        return message
    trait, kind, reason = found.groups()
    return f"{_option(f'{kind}.{trait}', command.aliases)} {reason.rstrip('.')}"


def _option(target: str, aliases: dict[Any, Any]) -> str:
    """How something that can be set is called on the line."""
    for names, meant in aliases.items():
        if meant == target:
            name = names if isinstance(names, str) else names[0]
            return f"{'-' if len(name) == 1 else '--'}{name}"
    return f"--{target}"
