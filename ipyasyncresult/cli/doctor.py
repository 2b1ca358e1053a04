"""``doctor``: is this machine fit for engines, and if not, what to do."""

from __future__ import annotations

import dataclasses
from typing import Any

from traitlets import Unicode

from ipyasyncresult.cli.application import FAILED, Command
from ipyasyncresult.cli.checks import CHECKS, Check
from ipyasyncresult.cli.tables import paint

__all__ = ["Doctor"]

_MARKS = {"ok": "ok", "warning": "!!", "bad": "XX"}


class Doctor(Command):
    """Look at this machine and this environment; start an engine for a trial.

    The exit code is 1 when something stops work.  Warnings (slower, poorer) leave it 0.
    """

    name = Unicode("ipyasyncresult doctor")

    def run(self) -> list[dict[str, Any]]:
        """Make all checks."""
        found = [check for look in CHECKS for check in look()]
        if any(check.state == "bad" for check in found):
            self.exit_code = FAILED
        return [dataclasses.asdict(check) for check in found]

    def show(self, found: list[dict[str, Any]]) -> None:
        """A line per check; what to do stands below it."""
        checks = [Check(**one) for one in found]
        width = max(len(check.name) for check in checks)
        for check in checks:
            mark = paint(_MARKS[check.state], check.state)
            print(f"{mark}  {check.name.ljust(width)}  {check.found}")
            if check.advice:
                print(f"    {' ' * width}  do: {check.advice}")
