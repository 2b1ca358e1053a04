"""What a cell is run with: the defaults that ``%pxconfig`` changes, and the flags of one cell."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from IPython.core.error import UsageError
from traitlets import Any as AnyTrait
from traitlets import Bool, CaselessStrEnum, Float, TraitError, validate
from traitlets.config import Configurable

from ipyasyncresult.client.targets import Targets
from ipyasyncresult.core.presenter import GROUPINGS
from ipyasyncresult.magics.targets import format_targets, parse_targets

__all__ = ["ConfiguredSettings", "Settings", "parse_signal"]


def parse_signal(text: str) -> int:
    """``SIGINT``, ``int``, ``2``; 0 for none.

    Raises
    ------
    ValueError
        For what is no signal.
    """
    name = text.strip().upper()
    if name in ("0", "NONE"):
        return 0
    try:
        if name.isdigit():
            return signal.Signals(int(name))
        return signal.Signals["SIG" + name.removeprefix("SIG")]
    except (KeyError, ValueError):
        raise ValueError(
            "must be a signal (SIGINT, SIGTERM, SIGKILL, ...), its number, or 0 for none, "
            f"not {text.strip()!r}"
        ) from None


@dataclass(frozen=True, slots=True)
class Settings:
    """How cells are run; the names are those of the flags.

    Attributes
    ----------
    targets : int, slice, list of int, ``'all'`` or None
        None: those of the view.
    block : bool
        Wait for the end.
    verbose : bool
        Say which engines run the cell.
    stream : bool
        Show outputs as they come; else all at the end.
    group_outputs : str
        How outputs shown at the end are grouped.
    progress_after : float
        Seconds until progress is shown; 0: at once, -1: never.
    signal_on_interrupt : int
        What the engines get when the cell is interrupted; 0: nothing, they go on.
    """

    targets: Targets = None
    block: bool = True
    verbose: bool = False
    stream: bool = True
    group_outputs: str = "type"
    progress_after: float = 2.0
    signal_on_interrupt: int = signal.SIGINT

    def changed(self, flags: argparse.Namespace, namespace: Mapping[str, Any]) -> Self:
        """These settings, but for what the flags say; `namespace` has the variables for ``-t``.

        Raises
        ------
        UsageError
            For targets that are none.
        """
        names = [field.name for field in fields(self)]
        given = {name: value for name in names if (value := getattr(flags, name, None)) is not None}
        if "targets" in given:
            given["targets"] = parse_targets(given["targets"], namespace)
        if "group_outputs" in given:
            # Who asks for groups wants them, and not the outputs as they come.
            given.setdefault("stream", False)
        return replace(self, **given)

    def describe(self) -> str:
        """One line per setting, each as its flag takes it."""
        number = self.signal_on_interrupt
        shown = {
            "targets": "all" if self.targets is None else format_targets(self.targets),
            "block": self.block,
            "verbose": self.verbose,
            "stream": self.stream,
            "group-outputs": self.group_outputs,
            "progress-after": f"{self.progress_after:g}",
            "signal-on-interrupt": signal.Signals(number).name if number else 0,
        }
        return "\n".join(f"{name:<20} {value}" for name, value in shown.items())


class ConfiguredSettings(Configurable):
    """The defaults of ``%px`` as options: ``c.EngineMagics.block = False`` in a configuration file,
    ``%config EngineMagics.block = False``, or ``%pxconfig -a``, which are the same thing.
    """

    targets = AnyTrait(
        None,
        help="Which engines, as -t takes them ('0:2', [0, 2], 'all'); None: those of the view.",
    ).tag(config=True)
    block = Bool(True, help="Wait for the end of the cell's work.").tag(config=True)
    verbose = Bool(False, help="Say which engines run the cell.").tag(config=True)
    stream = Bool(True, help="Show outputs as they come; False: all at the end, grouped.").tag(
        config=True
    )
    group_outputs = CaselessStrEnum(
        list(GROUPINGS), "type", help="How outputs that are shown at the end are grouped."
    ).tag(config=True)
    progress_after = Float(2.0, help="Seconds until progress is shown; 0: at once, -1: never.").tag(
        config=True
    )
    signal_on_interrupt = AnyTrait(
        int(signal.SIGINT),
        help="What the engines get when the cell is interrupted: 'SIGINT', 'SIGTERM', a number; "
        "0: nothing, they go on.",
    ).tag(config=True)

    @validate("targets")
    def _check_targets(self, proposal: Any) -> Targets:
        value = proposal["value"]
        if not isinstance(value, str):
            if value is None or isinstance(value, int | slice | list):
                return value
            raise TraitError(f"targets must be as -t takes them, not {value!r}")
        try:
            return parse_targets(value, {})
        except UsageError as error:
            raise TraitError(str(error)) from None

    @validate("signal_on_interrupt")
    def _check_signal(self, proposal: Any) -> int:
        try:
            return parse_signal(str(proposal["value"]))
        except ValueError as error:
            raise TraitError(str(error)) from None

    @property
    def settings(self) -> Settings:
        """All of them, as they are now."""
        return Settings(**{field.name: getattr(self, field.name) for field in fields(Settings)})

    @settings.setter
    def settings(self, wanted: Settings) -> None:
        for field in fields(wanted):
            setattr(self, field.name, getattr(wanted, field.name))
