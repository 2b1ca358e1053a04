"""Clients and views as people see them in a notebook."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ipyasyncresult.core.tables import html_table
from ipyasyncresult.core.timing import format_seconds

if TYPE_CHECKING:
    from ipyasyncresult.client.anyclient import AnyClient
    from ipyasyncresult.client.view import View

__all__ = ["client_html", "view_html"]

_MOST_ROWS = 32


def client_html(client: AnyClient) -> str:
    """The client in a line, and its engines.  Asks nobody: what is known is shown."""
    if client.closed:
        return html_table(_title(client), (), ())
    waiting = len(client.ledger.outstanding)
    title = f"{_title(client)}, {waiting:,} task{'s' if waiting != 1 else ''} outstanding"
    engines: Any = getattr(client, "engines", None)
    if not isinstance(engines, dict):
        return html_table(title, (), ())
    now = time.time()
    rows = [
        (number, about.get("pid"), _state(about), _age(about, now))
        for number, about in list(engines.items())[:_MOST_ROWS]
    ]
    more = max(0, len(engines) - _MOST_ROWS)
    return html_table(title, ("engine", "pid", "state", "up for"), rows, more=more)


def _state(about: dict[str, Any]) -> str:
    if not about.get("up", True):
        return "restarting"
    return "stopped" if about.get("stopped") else "up"


def _age(about: dict[str, Any], now: float) -> str:
    since = about.get("since")
    return "" if since is None else format_seconds(max(0.0, now - since))


def view_html(view: View) -> str:
    """The view in a line, and the flags that are set."""
    flags = [(name, value) for name, value in vars(view).items() if _is_flag(name, value)]
    return html_table(_title(view), (), flags)


def _title(thing: Any) -> str:
    """Its repr, without the brackets that only text needs."""
    return repr(thing).replace("<", "").replace(">", "")


def _is_flag(name: str, value: Any) -> bool:
    return not name.startswith("_") and name not in ("client", "targets") and bool(value)
