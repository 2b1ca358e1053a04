"""What a cell is run with: the defaults that ``%pxconfig`` changes, and the flags of one cell."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from ipyasyncresult.client.targets import Targets
from ipyasyncresult.magics.targets import format_targets, parse_targets

__all__ = ["Settings"]


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
