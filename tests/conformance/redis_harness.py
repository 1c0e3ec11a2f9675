"""The harness of the Redis engine: one server for the whole run, emptied after each test."""

from __future__ import annotations

from cicely.engines.contract import Engine
from cicely.engines.redis.engine import RedisEngine
from cicely.engines.redis.place import place_of
from cicely.testing.clock import VirtualClock
from cicely.testing.conformance.harness import Capability
from redis_server import shared_server


class RedisHarness:
    """An empty database; each connection is a new engine."""

    name = "redis"
    capabilities = frozenset(Capability)

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self._server = shared_server()
        self._opened: list[RedisEngine] = []

    def engine(self) -> Engine:
        """Connect to the server."""
        # No power fails in these tests, and no server: what a crash leaves has tests of its own.
        place = place_of(f"{self._server.url}?durability=none")
        engine = RedisEngine(place, now=self.clock.now)
        engine.open()
        self._opened.append(engine)
        return engine

    def advance(self, seconds: float) -> None:
        """Set the clock."""
        self.clock.advance(seconds)

    def destroy(self) -> None:
        """Close every connection and empty the server."""
        for engine in self._opened:
            engine.close()
        self._server.tell("FLUSHALL")
