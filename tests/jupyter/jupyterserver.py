"""A real Jupyter server of a test's own, and requests to it as a browser or a script makes them."""

from __future__ import annotations

import contextlib
import http.client
import http.cookies
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.jupyter.lab import free_port, wait_until_up

__all__ = ["Answer", "Browser", "JupyterServer", "jupyter_server"]

CONFIG = Path(__file__).parents[2] / "jupyter-config"
"""What an installed package has under ``etc/jupyter``."""


@dataclass(frozen=True)
class JupyterServer:
    """Where it listens, and what opens it."""

    address: str
    token: str
    log: Path

    def url(self, path: str = "") -> str:
        return f"{self.address}ipyasyncresult{path}"


@contextlib.contextmanager
def jupyter_server(root: Path, home: Path, *options: str) -> Iterator[JupyterServer]:
    """A plain ``jupyter server`` over the files in `root`, with our extension and no other."""
    port, token = free_port(), secrets.token_hex(16)
    command = [
        *(sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root"),
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={root}",
        f"--IdentityProvider.token={token}",
        "--ServerApp.base_url=/user/ann/",  # as behind JupyterHub
        *options,
    ]
    # Other extensions of this environment would take seconds to load.
    others = {"jupyterlab": False, "ipyparallel": False, "jupyter_lsp": False, "notebook": False}
    disabled = home / "config" / "jupyter_server_config.json"
    disabled.parent.mkdir(parents=True)
    disabled.write_text(json.dumps({"ServerApp": {"jpserver_extensions": others}}))
    environment = {
        **os.environ,
        "JUPYTER_CONFIG_PATH": str(CONFIG),
        "JUPYTER_CONFIG_DIR": str(disabled.parent),
    }
    log = home / "server.log"
    with log.open("wb") as sink:
        server = subprocess.Popen(command, stdout=sink, stderr=sink, env=environment)
    address = f"http://127.0.0.1:{port}/user/ann/"
    try:
        wait_until_up(server, f"{address}api/status?token={token}", log)
        yield JupyterServer(address, token, log)
    finally:
        server.terminate()
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Browser:
    """Sends requests, keeps cookies; as much of a browser as the server's checks look at.

    With a `token` it is a script that sends that in a header.
    """

    server: JupyterServer
    token: str | None = None
    cookies: dict[str, str] = field(default_factory=dict)

    def log_in(self) -> None:
        """As when a person opens the address that the server printed."""
        assert self.send("GET", f"?token={self.server.token}").status == 200

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        xsrf: bool = True,
    ) -> Answer:
        with self.connection() as connection:
            answer = self.request(connection, method, path, body, headers=headers, xsrf=xsrf)
            found = Answer(answer.status, answer.headers, answer.read())
        for line in answer.headers.get_all("Set-Cookie") or ():
            for name, morsel in http.cookies.SimpleCookie(line).items():
                self.cookies[name] = morsel.value
        return found

    @contextlib.contextmanager
    def connection(self) -> Iterator[http.client.HTTPConnection]:
        parts = urlsplit(self.server.address)
        assert parts.hostname is not None
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
        try:
            yield connection
        finally:
            connection.close()

    def request(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        xsrf: bool = True,
    ) -> http.client.HTTPResponse:
        sent = dict(headers or {})
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
            if xsrf and "_xsrf" in self.cookies:
                sent["X-XSRFToken"] = self.cookies["_xsrf"]
        if self.token is not None:
            sent["Authorization"] = f"token {self.token}"
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, urlsplit(self.server.url(path)).path + query(path), data, sent)
        return connection.getresponse()


def query(path: str) -> str:
    return f"?{path.partition('?')[2]}" if "?" in path else ""
