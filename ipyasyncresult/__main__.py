"""``python -m ipyasyncresult``: the command line."""

from __future__ import annotations

import sys

from ipyasyncresult.cli import main

if __name__ == "__main__":
    sys.exit(main())
