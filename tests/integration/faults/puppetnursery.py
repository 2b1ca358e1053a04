"""In place of the process that forks engines: starts none, and writes down whom it was to start.

The test itself then speaks for these engines.  Found by ``python -m`` through ``PYTHONPATH``.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path


def main() -> None:
    hub = socket.socket(fileno=int(sys.argv[1]))
    told = Path(os.environ["PUPPETS"])
    with hub.makefile("r") as lines:
        for line in lines:
            wish = json.loads(line)
            if "fork" in wish:
                notice = {"event": "forked", "engine_id": wish["fork"], "uuid": wish["uuid"]}
                hub.sendall(json.dumps({**notice, "pid": os.getpid()}).encode() + b"\n")
                with told.open("a") as file:
                    file.write(f"{wish['uuid']}\n")


if __name__ == "__main__":
    main()
