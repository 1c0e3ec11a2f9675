"""A raw queue on a Redis server: the fixed scripts, over one socket."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import hiredis

from benchmarks.raw.stores import Held

_HERE = Path(__file__).parent
_KEY = b"{raw}"
_PAGE = 1_000
_DELETED = ("last", "ready", "run", "done", "scheduled")


class RedisStore:
    """One connection to one raw queue."""

    def __init__(self, place: str) -> None:
        self._place = urlsplit(place)
        self._line, self._reader = self._dial()
        self._ear: socket.socket | None = None
        self._shas: dict[str, bytes] = {}
        for name in ("enqueue", "schedule", "exchange"):
            text = (_HERE / f"{name}.lua").read_bytes()
            self._ask(b"SCRIPT", b"LOAD", text)
            self._shas[name] = hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()

    def _dial(self) -> tuple[socket.socket, hiredis.Reader]:
        line = socket.create_connection((self._place.hostname, self._place.port or 6379), 20)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._line, self._reader = line, hiredis.Reader()
        if self._place.password:
            self._ask(b"AUTH", self._place.password.encode())
        if len(self._place.path) > 1:
            self._ask(b"SELECT", self._place.path[1:].encode())
        return line, self._reader

    def _ask(self, *words: bytes | int) -> Any:
        self._line.sendall(hiredis.pack_command(words))  # type: ignore[arg-type]
        while (reply := self._reader.gets()) is False:
            self._reader.feed(self._line.recv(65_536))
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    def _run(self, name: str, *words: bytes | int) -> Any:
        return self._ask(b"EVALSHA", self._shas[name], 1, _KEY, *words)

    def create(self) -> None:
        """Delete what an old one left."""
        self._ask(b"UNLINK", *[_KEY + b":" + name.encode() for name in _DELETED])

    def flush(self) -> None:
        """Delete all that the database has."""
        self._ask(b"FLUSHDB")

    def close(self) -> None:
        """Hang up."""
        self._line.close()
        if self._ear is not None:
            self._ear.close()

    def enqueue(self, bodies: Sequence[bytes]) -> None:
        """Store one ready job per body."""
        for first in range(0, len(bodies), _PAGE):
            self._run("enqueue", *bodies[first : first + _PAGE])

    def schedule(self, count: int, *, body: bytes, first: int) -> None:
        """Store `count` jobs that are due in an hour."""
        for start in range(0, count, _PAGE):
            due_at = b"%f" % (time.time() + 3600)
            self._run("schedule", due_at, first + start, min(_PAGE, count - start), body)

    def exchange(self, ended: Sequence[Held], batch: int) -> list[tuple[Held, bytes]]:
        """Settle what ended and claim the next `batch`, in one script."""
        token = os.urandom(16)
        words = [word for held in ended for word in held]
        released, rows = self._run("exchange", b"%f" % time.time(), token, batch, *words)
        if released != len(ended):
            raise RuntimeError("a token did not hold")
        claims = [row.split(b" ", 1) for row in rows]
        return [((int(number), token), body) for number, body in claims]

    def listen(self) -> None:
        """Subscribe on a line of its own."""
        main = self._line, self._reader
        self._ear, _ = self._dial()
        self._ask(b"SUBSCRIBE", _KEY + b":bell")
        self._line, self._reader = main

    def wait(self, limit_s: float) -> None:
        """Return after a ring. Raises TimeoutError."""
        assert self._ear is not None
        self._ear.settimeout(limit_s)
        self._ear.recv(65_536)

    def ring(self) -> None:
        """Wake whoever waits."""
        self._ask(b"PUBLISH", _KEY + b":bell", b"1")
