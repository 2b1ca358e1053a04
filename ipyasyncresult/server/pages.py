"""The page and its files."""

from __future__ import annotations

from html import escape
from pathlib import Path

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.utils import url_path_join
from tornado import web

__all__ = ["FILES", "FileHandler", "PageHandler"]

_FOLDER = Path(__file__).parent / "page"
FILES = {
    "page.css": "text/css",
    **dict.fromkeys(["page.js", "api.js", "calls.js", "dom.js", "lanes.js"], "text/javascript"),
}
"""All that is served, with its type."""


class _PageFile(JupyterHandler):
    auth_resource = "ipyasyncresult"

    @property
    def content_security_policy(self) -> str:
        """Our own script and style, our own server, and nothing else."""
        return (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
        )

    def send_file(self, name: str, kind: str) -> None:
        """A text file of the page, with the server's address put in."""
        base = escape(url_path_join(self.base_url, "ipyasyncresult"), quote=True)
        text = (_FOLDER / name).read_text(encoding="utf-8").replace("{{base}}", base)
        self.set_header("Content-Type", f"{kind}; charset=utf-8")
        self.set_header("Cache-Control", "no-cache")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "no-referrer")  # its address may have held the token
        self.finish(text)


class PageHandler(_PageFile):
    """``/ipyasyncresult``."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """The page; its requests will need the cookie that this sets."""
        assert self.xsrf_token
        self.send_file("page.html", "text/html")


class FileHandler(_PageFile):
    """``/ipyasyncresult/static/NAME``."""

    @web.authenticated
    @authorized
    async def get(self, name: str) -> None:
        """One of :data:`FILES`."""
        if name not in FILES:
            raise web.HTTPError(404)
        self.send_file(name, FILES[name])
