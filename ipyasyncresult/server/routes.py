"""Which address is whose."""

from __future__ import annotations

from typing import Any

from jupyter_server.utils import url_path_join

from ipyasyncresult.server import handlers
from ipyasyncresult.server.events import EventsHandler
from ipyasyncresult.server.pages import FileHandler, PageHandler

__all__ = ["routes"]

# Ids are checked by what they are looked up in; here they only must not hide a slash.
_ID = r"([A-Za-z0-9_.@-]{1,100})"
_CLUSTER = rf"/api/clusters/{_ID}"


def routes(base_url: str) -> list[tuple[str, Any]]:
    """Addresses, as regular expressions, and handlers."""
    known = [
        (r"/?", PageHandler),
        (r"/static/([a-z]+\.[a-z]+)", FileHandler),
        (r"/api/clusters", handlers.ClustersHandler),
        (_CLUSTER, handlers.ClusterHandler),
        (rf"{_CLUSTER}/calls", handlers.CallsHandler),
        (rf"{_CLUSTER}/calls/{_ID}/tasks", handlers.TasksHandler),
        (rf"{_CLUSTER}/tasks/{_ID}", handlers.TaskHandler),
        (rf"{_CLUSTER}/log", handlers.LogHandler),
        (rf"{_CLUSTER}/abort", handlers.AbortHandler),
        (rf"{_CLUSTER}/interrupt", handlers.InterruptHandler),
        (r"/api/events", EventsHandler),
    ]
    return [(url_path_join(base_url, "ipyasyncresult") + path, handler) for path, handler in known]
