"""``python -m ipyasyncresult.engine FD``: the nursery; it speaks with the hub over that socket."""

from __future__ import annotations

import socket
import sys

from ipyasyncresult.engine.nursery import Nursery


def main() -> None:
    """Serve until the hub is gone."""
    Nursery(socket.socket(fileno=int(sys.argv[1]))).run()


if __name__ == "__main__":
    main()
