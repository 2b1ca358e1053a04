"""``python -m ipyasyncresult.hub``: settings on standard input, ``ready`` on standard output."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys

import msgspec

from ipyasyncresult.hub.server import HubServer
from ipyasyncresult.hub.settings import HubSettings
from ipyasyncresult.wire.runtime import (
    ClusterFile,
    cluster_folder,
    write_cluster_file,
)
from ipyasyncresult.wire.versions import python_version


def main() -> None:
    """Serve one cluster until its end."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    settings = msgspec.json.decode(sys.stdin.buffer.readline(), type=HubSettings)
    folder = cluster_folder(settings.cluster_id)
    os.umask(0o077)
    server = HubServer(settings, folder)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for the client
    signal.signal(signal.SIGTERM, lambda *_: server.stop())
    described = ClusterFile(
        cluster_id=settings.cluster_id,
        pid=os.getpid(),
        started=server.started,
        package=server.describe()["package"],
        python=python_version(),
        persist=settings.persist,
    )
    write_cluster_file(folder, described)
    # Tasks are kept in bare slots without cycles: looking through a hundred thousand of them for
    # garbage costs milliseconds and finds none.
    gc.disable()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nobody reads it from now on
    server.run()


if __name__ == "__main__":
    main()
