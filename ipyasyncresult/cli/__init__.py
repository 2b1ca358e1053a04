"""``ipyasyncresult start | stop | forget | list | status | results | logs | doctor``.

::

    application    the commands, and what they have in common
    clusters       start, stop, forget, list, status
    work           results, logs
    doctor         looks at the machine          checks    what it looks at, one function each
    files          config, completion
    tables         rows for people

Everything is printed for people, or with ``--json`` for scripts.  The exit code says how it went:
0 well, 1 badly, 2 wrong usage, 3 what was asked for is not there.
"""

from __future__ import annotations

from ipyasyncresult.cli.application import main

__all__ = ["main"]
