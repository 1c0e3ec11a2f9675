"""The query server: `GET /search?q=...` is answered from the version that is current, whatever is swapped.

It ends when its standard input does, that is, with whoever started it.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from examples.embedding_index import library

HITS = 10
_LOOK_S = 0.02


class Shelf:
    """The index that is served. A request takes it once, and keeps that one to its end."""

    def __init__(self) -> None:
        self.index = library.load(library.current())

    def follow(self) -> None:
        """Take each version that is published, when it is wholly read."""
        while True:
            time.sleep(_LOOK_S)
            version = library.current()
            if version != self.index.version:
                # One that was pruned meanwhile is followed by a later one.
                try:
                    self.index = library.load(version)
                except FileNotFoundError:
                    continue


def answer(index: library.Index, question: str) -> bytes:
    """Return the nearest passages, and the version that they are from."""
    scores, rows = index.search(question, HITS)
    hits = [
        {"row": row, "score": float(score), "passage": index.passages[row]}
        for score, row in zip(scores, rows, strict=True)
    ]
    return json.dumps({"version": index.version, "hits": hits}).encode()


def handler(shelf: Shelf) -> type[BaseHTTPRequestHandler]:
    """Return what answers requests from a shelf."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            question = parse_qs(urlsplit(self.path).query).get("q", [""])[0]
            body = answer(shelf.index, question)
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_given: object) -> None:
            """Say nothing about each request."""

    return Handler


def main() -> None:
    """Serve until the standard input ends; the first line of output is the port."""
    shelf = Shelf()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(shelf))
    threading.Thread(target=shelf.follow, daemon=True).start()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
