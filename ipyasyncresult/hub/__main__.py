"""``python -m ipyasyncresult.hub``: settings on standard input, ``ready`` on standard output."""

from __future__ import annotations

import gc
import importlib
import json
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from ipyasyncresult.hub.nanny import Nanny

SHARED = (
    "ipyasyncresult.wire.buffers",
    "ipyasyncresult.wire.localsockets",
    "ipyasyncresult.wire.localstream",
    "ipyasyncresult.wire.messages",
    "ipyasyncresult.wire.runtime",
    "ipyasyncresult.wire.sockets",
    "ipyasyncresult.wire.transport",
    "ipyasyncresult.wire.versions",
)
"""What hub and nursery both need: imported once, before the two part."""


def main() -> NoReturn:
    """Serve one cluster until its end."""
    # Looking through modules for garbage takes a tenth of the start, and finds none.  Nor is there
    # any later: tasks are kept in bare slots without cycles.
    gc.disable()
    for name in SHARED:
        importlib.import_module(name)
    from ipyasyncresult.hub.nanny import Nanny
    from ipyasyncresult.wire.limits import raise_file_limit
    from ipyasyncresult.wire.runtime import name_process

    name_process("ipar-hub")
    line = sys.stdin.buffer.readline()
    # Before anything else, as it takes longest: the nursery imports the rest while the hub does.
    # It keeps the user's umask, which is for the files of tasks; the hub's own are private.
    settings = json.loads(line)
    if settings.get("nursery_fd") is not None:
        nanny = Nanny.attach(settings["nursery_fd"])
    else:
        successor = settings if settings["persist"] else None
        nanny = Nanny(settings["engine_settings"], successor, fork=True)
    os.umask(0o077)
    raise_file_limit()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for the client
    serve(line, nanny)
    # All is closed and removed: taking the interpreter apart would only keep the client waiting.
    logging.shutdown()
    os._exit(0)


def serve(line: bytes, nanny: Nanny) -> None:
    """Say that the hub is ready, and be it."""
    from ipyasyncresult.hub.server import HubServer
    from ipyasyncresult.hub.settings import read_settings
    from ipyasyncresult.wire.runtime import cluster_folder, write_cluster_file

    settings = read_settings(line)
    folder = cluster_folder(settings.cluster_id)
    try:
        server = HubServer(settings, folder, nanny)
    except BaseException:
        if nanny.living is None:  # the next hub would fare no better
            nanny.close()
        raise
    signal.signal(signal.SIGTERM, lambda *_: server.stop())
    write_cluster_file(folder, server.cluster_file())
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nobody reads it from now on
    server.run()


if __name__ == "__main__":
    main()
