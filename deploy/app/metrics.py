"""Serves the metrics of the whole system at /metrics: `python metrics.py`."""

from __future__ import annotations

import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from shop import app

from cicely.errors import EngineError
from cicely.observe.metrics import CONTENT_TYPE


class Page(BaseHTTPRequestHandler):
    """The one page that there is."""

    def do_GET(self) -> None:
        """Answer with the metrics, read from the engine now."""
        if self.path != "/metrics":
            self.send_error(404)
            return
        try:
            body = app.metrics().encode()
        except EngineError as error:
            # Prometheus notes that it got nothing; a figure of before would be taken for one of now.
            self.send_error(503, explain=str(error))
            return
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Write no line for each scrape."""


if __name__ == "__main__":
    # The first process of a container is not ended by a signal that it does not handle.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    ThreadingHTTPServer(("", int(os.environ.get("PORT", "9464"))), Page).serve_forever()
