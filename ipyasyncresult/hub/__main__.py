"""``python -m ipyasyncresult.hub``: settings on standard input, ``ready`` on standard output."""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import sys

from ipyasyncresult.hub.nanny import Nanny
from ipyasyncresult.wire.limits import raise_file_limit


def main() -> None:
    """Serve one cluster until its end."""
    line = sys.stdin.buffer.readline()
    # First of all, as it takes longest: the nursery imports while the hub does.  It also keeps the
    # user's umask, which is for the files of tasks; the hub's own are private.
    settings = json.loads(line)
    if settings.get("nursery_fd") is not None:
        nanny = Nanny.attach(settings["nursery_fd"])
    else:
        nanny = Nanny(settings["engine_settings"], settings if settings["persist"] else None)
    os.umask(0o077)
    raise_file_limit()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for the client
    serve(line, nanny)


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
    # Tasks are kept in bare slots without cycles: looking through a hundred thousand of them for
    # garbage costs milliseconds and finds none.
    gc.disable()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nobody reads it from now on
    server.run()


if __name__ == "__main__":
    main()
