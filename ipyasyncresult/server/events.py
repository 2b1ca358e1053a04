"""What happens on a cluster, told to a page as it happens: server-sent events."""

from __future__ import annotations

import json
from typing import Any

from jupyter_server.auth.decorator import authorized
from tornado import web
from tornado.iostream import StreamClosedError

from ipyasyncresult.server.bridge import Reader
from ipyasyncresult.server.handlers import JsonHandler

__all__ = ["EventsHandler"]


class EventsHandler(JsonHandler):
    """``/api/events?cluster=ID``; without a cluster, only which ones there are."""

    _track_activity = False  # a page that is left open must not keep an idle server alive
    _reader: Reader | None = None

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """``clusters``: a list; ``news``: see ``hub.watching``; ``ended``: that cluster is gone."""
        try:
            reader = self._reader = self.bridge.subscribe(self.get_query_argument("cluster", None))
        except BlockingIOError as error:
            raise web.HTTPError(503, str(error)) from None
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("X-Accel-Buffering", "no")  # a proxy that collects would spoil it
        try:
            await self._send("retry: 2000\n\n")
            while (event := await reader.get()) is not None:
                name, data = event
                await self._send(f"event: {name}\ndata: {json.dumps(data, default=str)}\n\n")
        except StreamClosedError:
            pass  # the page was closed
        finally:
            reader.close()

    async def _send(self, text: str) -> None:
        self.write(text)
        await self.flush()

    def on_connection_close(self) -> None:
        """The page was closed."""
        super().on_connection_close()
        if self._reader is not None:
            self._reader.close()

    def finish(self, *args: Any, **kwargs: Any) -> Any:
        """As JSON where it failed, as events else."""
        if self._headers_written:
            kwargs["set_content_type"] = "text/event-stream"
        return super().finish(*args, **kwargs)
