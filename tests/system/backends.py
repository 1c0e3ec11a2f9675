"""The servers of the system tests: one of each kind for the whole run, with an empty place for each test."""

from __future__ import annotations

import atexit
import os
from functools import cache
from typing import Protocol

from cicely.testing.postgres_server import PostgresServer
from cicely.testing.redis_server import RedisServer

NAMES = ("redis", "postgresql")


class Server(Protocol):
    """What a server can be made to do."""

    @property
    def url(self) -> str: ...

    def start(self) -> None: ...

    def kill(self) -> None: ...

    def destroy(self) -> None: ...


@cache
def server(name: str) -> Server:
    """Return the server of this kind, running."""
    found = started(name)
    atexit.register(found.destroy)
    return found


def started(name: str) -> Server:
    """Return a new server of this kind, which the caller destroys."""
    found: Server = RedisServer() if name == "redis" else PostgresServer()
    found.start()
    return found


def empty_place(name: str, running: Server) -> str:
    """Return the URL of a namespace or schema on a server in which nothing is yet."""
    word = "namespace" if name == "redis" else "schema"
    return f"{running.url}?{word}=t{os.urandom(6).hex()}"
