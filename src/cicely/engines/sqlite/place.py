"""The file: where it may lie, what its neighbours are called, and opening it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

import apsw

from cicely.engines.sqlite.faults import translated
from cicely.engines.sqlite.pressure import LONG_BYTES
from cicely.errors import ConfigError, EngineError, EngineUnavailable, SchemaTooNew

#: Stands in the file's header, so that another program's database is not taken for ours.
APPLICATION_ID: Final = 0x43494345
SCHEMA_VERSION: Final = 6

SYNCHRONOUS: Final = {"power": "FULL", "process": "NORMAL", "none": "OFF"}
SURVIVES: Final = {
    "power": "power: an accepted call survives the loss of power (fsync at each commit)",
    "process": "process: an accepted call survives the death of any process, not the loss of power",
    "none": "none: an accepted call survives the death of any process; after a loss of power the "
    "file may be damaged",
}

_SCHEMA: Final = Path(__file__).with_name("schema.sql")
_MIGRATIONS: Final = Path(__file__).with_name("migrations")
_SQLITE_BUSY_MS: Final = 5_000
#: Folding the log into the file holds the writers up: 2,000 pages for 10 ms, 4,000 for 30 (measured).
_WAL_PAGES: Final = 2_000
_WAL_LIMIT_BYTES: Final = 64 << 20
_CACHE_KIB: Final = 8_192

#: Locks, shared memory or both do not hold on these.
_REFUSED: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "afs", "ceph"})


class Place:
    """One database file, checked, and the identity it had when it was opened."""

    def __init__(self, path: str, *, durability: str) -> None:
        if durability not in SYNCHRONOUS:
            raise ConfigError(f"durability={durability!r}: choose one of {', '.join(SYNCHRONOUS)}")
        self.path = os.path.abspath(path)
        self.durability = durability
        self._identity: tuple[int, int] | None = None

    def prepare(self) -> None:
        """Make the folder where only it is missing; refuse places that cannot work."""
        folder = os.path.dirname(self.path)
        if os.path.isdir(self.path):
            raise EngineError(f"{self.path} is a folder; name a file in it, as {self.path}/jobs.db")
        if not os.path.isdir(folder):
            self._make(folder)
        kind = _file_system_of(folder)
        if kind in _REFUSED or kind.startswith("fuse"):
            raise EngineError(
                f"{self.path} lies on a {kind} file system, where SQLite's locks do not hold; "
                "use a local disk, or an engine with a server"
            )
        if not os.path.exists(self.path) and not os.access(folder, os.W_OK):
            raise EngineError(f"{folder} is not writable for this user; {self.path} cannot be created")

    def _make(self, folder: str) -> None:
        try:
            os.mkdir(folder)
        except FileExistsError:
            return
        except OSError as error:
            raise EngineError(
                f"the folder {folder} for {os.path.basename(self.path)} cannot be made "
                f"({error.strerror}); create it, or name another place"
            ) from error

    @property
    def is_new(self) -> bool:
        """Whether nothing was written there yet."""
        try:
            return os.stat(self.path).st_size == 0
        except FileNotFoundError:
            return True

    def warnings(self) -> tuple[str, ...]:
        """Return what should be known of this place."""
        return tuple(filter(None, (self._warning_of_overlay(), self._warning_of_long_log())))

    def _warning_of_overlay(self) -> str:
        if _file_system_of(os.path.dirname(self.path)) != "overlay":
            return ""
        return f"{self.path} lies in a container's own layer and goes with the container"

    def _warning_of_long_log(self) -> str:
        log = f"{self.path}-wal"
        with contextlib.suppress(FileNotFoundError):
            size = os.stat(log).st_size
            if size > LONG_BYTES:
                return (
                    f"{log} has grown to {size >> 20} MiB, because some program keeps a read of "
                    "this database open; it shrinks when that ends, and writers are slowed down until then"
                )
        return ""

    def connect(self) -> apsw.Connection:
        """Open the file, create or check its schema. Raises an EngineError."""
        try:
            connection = apsw.Connection(self.path, statementcachesize=400)
        except apsw.Error as error:
            raise translated(error, self.path) from error
        try:
            connection.set_busy_timeout(_SQLITE_BUSY_MS)
            self._configure(connection)
            self._check_schema(connection)
        except BaseException as error:
            connection.close()
            if isinstance(error, apsw.Error):
                raise translated(error, self.path) from error
            raise
        return connection

    def _configure(self, connection: apsw.Connection) -> None:
        # Otherwise SQLite plans a statement anew for each value bound to a range: 5 to 15 µs a time.
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        for pragma in (
            f"synchronous={SYNCHRONOUS[self.durability]}",
            f"wal_autocheckpoint={_WAL_PAGES}",
            f"journal_size_limit={_WAL_LIMIT_BYTES}",
            f"cache_size=-{_CACHE_KIB}",
            "temp_store=MEMORY",
            "mmap_size=0",
            "foreign_keys=OFF",
        ):
            connection.execute(f"PRAGMA {pragma}").fetchall()

    def _check_schema(self, connection: apsw.Connection) -> None:
        version = self._version(connection)
        if version == 0:
            connection.execute("PRAGMA journal_mode=WAL").fetchall()
            self._bring_up_to_date(connection)
            version = self._version(connection)
        elif version < SCHEMA_VERSION:
            self._bring_up_to_date(connection)
            version = self._version(connection)
        if version > SCHEMA_VERSION:
            raise SchemaTooNew(
                f"{self.path} was written by a newer Cicely (schema {version}; this one knows "
                f"{SCHEMA_VERSION}); upgrade this installation"
            )

    def _version(self, connection: apsw.Connection) -> int:
        """Return the schema's version, 0 for an empty file; another program's file is refused."""
        application = int(_pragma(connection, "application_id"))
        version = int(_pragma(connection, "user_version"))
        if application == APPLICATION_ID:
            return version
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()[0][0]
        if application or tables:
            raise EngineError(f"{self.path} is a SQLite database of another program; name another file")
        return 0

    def _bring_up_to_date(self, connection: apsw.Connection) -> None:
        """Create the schema, or migrate an older one: whole or not at all, and only once."""
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = self._version(connection)
            if version == 0:
                connection.execute(_SCHEMA.read_text(encoding="utf-8")).fetchall()
                connection.execute(f"PRAGMA application_id={APPLICATION_ID}").fetchall()
            for later in range(version + 1, SCHEMA_VERSION + 1) if version else ():
                migration = (_MIGRATIONS / f"{later}.sql").read_text(encoding="utf-8")
                connection.execute(migration).fetchall()
            if version < SCHEMA_VERSION:
                connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}").fetchall()
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    # --- the file stays the file ------------------------------------------------------------
    def remember(self) -> None:
        """Note which file was opened."""
        self._identity = self._identity_now()

    def check(self) -> None:
        """Refuse to write to a file that nobody can open any more. Raises EngineUnavailable."""
        if self._identity_now() != self._identity:
            raise EngineUnavailable(
                f"{self.path} was deleted or replaced while it was in use; put it back, "
                "or restart this process to begin with what is there now"
            )

    def _identity_now(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self.path)
        except OSError:
            return None
        return status.st_dev, status.st_ino


def _pragma(connection: apsw.Connection, name: str) -> str:
    return str(connection.execute(f"PRAGMA {name}").fetchall()[0][0])


def _file_system_of(folder: str) -> str:
    """Return the type of the file system that a folder lies on; "" where that cannot be told."""
    best, kind = "", ""
    real = os.path.realpath(folder)
    with contextlib.suppress(OSError), open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        for line in mounts:
            left, _, right = line.partition(" - ")
            point = _unescaped(left.split()[4])
            if len(point) >= len(best) and (real == point or real.startswith(point.rstrip("/") + "/")):
                best, kind = point, right.split()[0]
    return kind


def _unescaped(point: str) -> str:
    return point.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
