"""``python -m ipyasyncresult.engine FD``: the nursery; it speaks with the hub over that socket."""

from __future__ import annotations

import gc
import socket
import sys


def main() -> None:
    """Serve until the hub is gone."""
    gc.disable()  # what is imported stays; turned on again when that is done
    from ipyasyncresult.engine.nursery import Nursery

    Nursery(socket.socket(fileno=int(sys.argv[1]))).run()


if __name__ == "__main__":
    main()
