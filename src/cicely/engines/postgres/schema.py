"""Creates and checks the tables, also when many processes come to an empty database at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from psycopg import Connection, sql

from cicely.engines.migrating import Migrated
from cicely.engines.postgres.address import Address
from cicely.errors import EngineError, SchemaTooNew, SchemaTooOld

SCHEMA_VERSION: Final = 5
OLDEST_SERVER: Final = 140000

#: The tables of the newest version, and how those of version N - 1 become those of N: migrations/N.sql.
_TABLES: Final = Path(__file__).with_name("schema.sql")
_MIGRATIONS: Final = Path(__file__).with_name("migrations")

#: Held until the creating transaction ends, so that one process creates and the others find it done.
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtext('cicely'), hashtext(%s))"

_VERSION: Final = sql.SQL("SELECT version FROM {}.meta")
# Asks the catalog itself: to_regclass may answer from a cache that is older than the lock.
_EXISTS: Final = (
    "SELECT EXISTS (SELECT FROM pg_catalog.pg_tables WHERE schemaname = %s AND tablename = 'meta')"
)
_PART: Final = re.compile(r"_\d+$")
_BEATING: Final = (
    "SELECT count(*) FROM session WHERE closed_at IS NULL"
    " AND beat_at > extract(epoch FROM clock_timestamp()) - lease_s"
)
_NAMES: Final = "SELECT tablename FROM pg_tables WHERE schemaname = %s"
_CREATE: Final = sql.SQL("CREATE SCHEMA IF NOT EXISTS {}")
_SEARCH: Final = sql.SQL("SET LOCAL search_path TO {}")


def check(connection: Connection[Any], address: Address) -> None:
    """Create the tables where there are none; refuse what this Cicely does not know."""
    _check_server(connection, address)
    version = _version(connection, address)
    if version == 0:
        _create(connection, address)
        version = _version(connection, address)
    _refuse_newer(version, address)
    if version < SCHEMA_VERSION:
        raise SchemaTooOld(
            f"{address.shown} has the schema of an older Cicely (schema {version}; this one needs "
            f"{SCHEMA_VERSION}): stop the workers, then run `cicely migrate` with the same URL"
        )


def migrate(connection: Connection[Any], address: Address) -> Migrated:
    """Bring the tables to the version of this Cicely, one version after the other, in one transaction."""
    _check_server(connection, address)
    with connection.transaction():
        connection.execute(_LOCK, (address.schema,))
        before = _version(connection, address)
        _refuse_newer(before, address)
        if before == 0:
            _create_inside(connection, address)
        elif before < SCHEMA_VERSION:
            _go_forward(connection, address, before)
    return Migrated(address.shown, before, SCHEMA_VERSION)


def _go_forward(connection: Connection[Any], address: Address, before: int) -> None:
    connection.execute(_SEARCH.format(sql.Identifier(address.schema)))
    connection.execute("SET LOCAL lock_timeout = '10s'")
    beating = connection.execute(_BEATING).fetchone()
    if beating is not None and beating[0]:
        raise EngineError(
            f"{beating[0]} sessions of workers are up on {address.shown}: stop them first (one that was "
            "killed counts until its lease has passed), then run `cicely migrate` again"
        )
    for version in range(before + 1, SCHEMA_VERSION + 1):
        connection.execute((_MIGRATIONS / f"{version}.sql").read_bytes())
    connection.execute("UPDATE meta SET version = %s", (SCHEMA_VERSION,))


def _check_server(connection: Connection[Any], address: Address) -> None:
    if connection.info.server_version < OLDEST_SERVER:
        raise EngineError(
            f"{address.shown} runs PostgreSQL {connection.info.server_version // 10000}; "
            "Cicely needs 14 or newer"
        )


def _refuse_newer(version: int, address: Address) -> None:
    if version > SCHEMA_VERSION:
        raise SchemaTooNew(
            f"{address.shown} was written by a newer Cicely (schema {version}; this one knows "
            f"{SCHEMA_VERSION}); upgrade this installation"
        )


def _version(connection: Connection[Any], address: Address) -> int:
    """Return the version of the tables, 0 where there are none."""
    exists = connection.execute(_EXISTS, (address.schema,)).fetchone()
    if exists is None or not exists[0]:
        return 0
    row = connection.execute(_VERSION.format(sql.Identifier(address.schema))).fetchone()
    return int(row[0]) if row is not None else 0


def _create(connection: Connection[Any], address: Address) -> None:
    with connection.transaction():
        connection.execute(_LOCK, (address.schema,))
        if _version(connection, address) == 0:
            _create_inside(connection, address)


def _create_inside(connection: Connection[Any], address: Address) -> None:
    name = sql.Identifier(address.schema)
    connection.execute("SET LOCAL client_min_messages TO warning")
    connection.execute(_CREATE.format(name))
    connection.execute(_SEARCH.format(name))
    connection.execute(_TABLES.read_bytes())
    connection.execute("INSERT INTO meta (version) VALUES (%s)", (SCHEMA_VERSION,))


def empty(url: str, *, schema: str) -> None:
    """Delete everything in a schema but the tables themselves; for tests."""
    address = Address(url, schema=schema)
    with Connection.connect(address.conninfo, autocommit=True) as connection:
        if _version(connection, address) == 0:
            return
        names = connection.execute(_NAMES, (schema,)).fetchall()
        tables = [
            sql.Identifier(schema, name)
            for (name,) in names
            if name not in ("meta", "day") and not _PART.search(name)
        ]
        deletions = [sql.SQL("DELETE FROM {}").format(table) for table in tables]
        connection.execute(sql.SQL("; ").join(deletions))
        _empty_days(connection, schema)


def _empty_days(connection: Connection[Any], schema: str) -> None:
    """Keep the earliest parts for the next test, whose clock begins there; making them takes a while."""
    name = sql.Identifier(schema)
    connection.execute(sql.SQL("UPDATE {}.day SET is_open = true, swept_at = day * 86400.0").format(name))
    late = connection.execute(sql.SQL("SELECT day FROM {}.day ORDER BY day OFFSET 3").format(name)).fetchall()
    for (day,) in late:
        table = sql.Identifier(schema, f"done_{day}")
        connection.execute(sql.SQL("DROP TABLE {}").format(table))
        connection.execute(sql.SQL("DELETE FROM {}.day WHERE day = %s").format(name), (day,))
