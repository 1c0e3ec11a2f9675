"""The harness of the PostgreSQL engine: one server per test run, one schema, emptied between tests."""

from __future__ import annotations

import atexit
import functools

from cicely.engines.contract import Engine
from cicely.engines.postgres.engine import PostgresEngine
from cicely.engines.postgres.schema import empty
from cicely.testing.clock import VirtualClock
from cicely.testing.conformance.harness import Capability
from cicely.testing.postgres_server import PostgresServer


@functools.cache
def shared_server() -> PostgresServer:
    """Return the server of this process, started when it is first asked for."""
    server = PostgresServer()
    atexit.register(server.destroy)
    server.start()
    return server


class PostgresHarness:
    """A schema of the shared server; each connection is a new one."""

    name = "postgres"
    capabilities = frozenset(Capability)

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self._url = shared_server().url
        self._opened: list[PostgresEngine] = []

    def engine(self) -> Engine:
        """Connect to the schema."""
        engine = PostgresEngine(self._url, schema="conformance", now=self.clock.now)
        engine.open()
        self._opened.append(engine)
        return engine

    def advance(self, seconds: float) -> None:
        """Set the clock."""
        self.clock.advance(seconds)

    def destroy(self) -> None:
        """Close every connection and empty the schema."""
        for engine in self._opened:
            engine.close()
        empty(self._url, schema="conformance")
