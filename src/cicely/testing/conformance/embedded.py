"""The harnesses of the engines that need no server."""

from __future__ import annotations

import tempfile
from pathlib import Path

from cicely.engines.contract import Engine
from cicely.engines.memory import MemoryEngine
from cicely.engines.sqlite.engine import SqliteEngine
from cicely.testing.clock import VirtualClock
from cicely.testing.conformance.harness import Capability
from cicely.testing.servers import fast_folder


class MemoryHarness:
    """One engine; every connection to it is the engine itself."""

    name = "memory"
    capabilities = frozenset(Capability) - {Capability.DURABLE}

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.shared = MemoryEngine(now=self.clock.now)

    def engine(self) -> Engine:
        """Return the engine."""
        return self.shared

    def advance(self, seconds: float) -> None:
        """Set the clock."""
        self.clock.advance(seconds)

    def destroy(self) -> None:
        """Let the engine go with its last reference."""
        self.shared.close()


class SqliteHarness:
    """A file in a folder of its own; each connection is a new one."""

    name = "sqlite"
    capabilities = frozenset(Capability)

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self._folder = tempfile.TemporaryDirectory(dir=fast_folder())
        self._opened: list[SqliteEngine] = []

    def engine(self) -> Engine:
        """Connect to the file."""
        path = str(Path(self._folder.name) / "jobs.db")
        # No power fails in these tests, and waiting for the disk takes most of their time.
        engine = SqliteEngine(path, durability="process", now=self.clock.now)
        engine.open()
        self._opened.append(engine)
        return engine

    def advance(self, seconds: float) -> None:
        """Set the clock."""
        self.clock.advance(seconds)

    def destroy(self) -> None:
        """Close every connection and delete the folder."""
        for engine in self._opened:
            engine.close()
        self._folder.cleanup()
