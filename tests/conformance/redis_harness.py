"""The harnesses of the Redis engine: one server for the whole run, emptied after each test."""

from __future__ import annotations

from cicely.engines.contract import Engine
from cicely.engines.redis.engine import RedisEngine
from cicely.engines.redis.place import place_of
from cicely.testing.clock import VirtualClock
from cicely.testing.conformance.harness import Capability
from redis_server import RedisServer, shared_cluster, shared_newer_server, shared_sentinels, shared_server


class RedisHarness:
    """An empty database; each connection is a new engine."""

    name = "redis"
    capabilities = frozenset(Capability)

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self._opened: list[RedisEngine] = []

    @staticmethod
    def servers() -> list[RedisServer]:
        """Return the servers; the first is the one that URLs name."""
        return [shared_server()]

    @property
    def url(self) -> str:
        """Where engines find it."""
        return self.servers()[0].url

    def engine(self) -> Engine:
        """Connect to the server."""
        # No power fails in these tests, and no server: what a crash leaves has tests of its own.
        place = place_of(f"{self.url}?durability=none")
        engine = RedisEngine(place, now=self.clock.now)
        engine.open()
        self._opened.append(engine)
        return engine

    def advance(self, seconds: float) -> None:
        """Set the clock."""
        self.clock.advance(seconds)

    def destroy(self) -> None:
        """Close every connection and empty the servers."""
        for engine in self._opened:
            engine.close()
        for server in self.servers():
            server.tell("FLUSHALL")


class ValkeyHarness(RedisHarness):
    """The same on the newest server that there is."""

    name = "valkey"

    @staticmethod
    def servers() -> list[RedisServer]:
        """Return the newer server."""
        return [shared_newer_server()]


class ClusterHarness(RedisHarness):
    """The same on a cluster of three nodes, of which the URL names one that has not the namespace."""

    name = "redis cluster"

    @staticmethod
    def servers() -> list[RedisServer]:
        """Return the nodes."""
        return shared_cluster()


class SentinelHarness(RedisHarness):
    """The same on the master that sentinels name, be it another one by now."""

    name = "redis sentinel"

    @property
    def url(self) -> str:
        """The sentinels, and what they call the master."""
        return shared_sentinels().url

    @staticmethod
    def servers() -> list[RedisServer]:
        """Return the master of this moment."""
        return [shared_sentinels().master]
