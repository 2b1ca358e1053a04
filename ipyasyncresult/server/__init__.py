"""Clusters in Jupyter's own server: the page ``/ipyasyncresult``, and its API below it.

::

    routes      which address is whose
    handlers    the API: authenticated, authorized, checked
    events      what happens, as it happens (server-sent events)
    pages       the page and its files      page/    plain HTML, JavaScript and CSS
    bridge      the server's clients of clusters, in threads: its loop never waits

Jupyter's server imports this when it starts; nothing else does.  A cluster is named by its id in
this user's own runtime folder: no host, port or path is ever taken from a request.
"""

from __future__ import annotations

from typing import Any

__all__ = ["load"]


def load(server: Any) -> None:
    """Add the routes to a ``jupyter_server.serverapp.ServerApp``."""
    from ipyasyncresult.config import ServerOptions, read_config_files
    from ipyasyncresult.errors import ConfigurationError
    from ipyasyncresult.server.bridge import Bridge
    from ipyasyncresult.server.routes import routes

    try:
        config = read_config_files()
    except ConfigurationError as error:
        server.log.error("ipyasyncresult uses its defaults: %s", error)
        config = type(server.config)()
    config.merge(server.config)
    server.web_app.settings["ipyasyncresult"] = Bridge(ServerOptions(config=config))
    server.web_app.add_handlers(".*$", routes(server.web_app.settings["base_url"]))
    server.log.info("ipyasyncresult: clusters are shown at %sipyasyncresult", server.base_url)


_load_jupyter_server_extension = load
