"""Creates and checks the tables, also when many processes come to an empty database at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from psycopg import Connection, sql

from cicely.engines.postgres.address import Address
from cicely.errors import EngineError, SchemaTooNew

SCHEMA_VERSION: Final = 1
OLDEST_SERVER: Final = 140000

_TABLES: Final = Path(__file__).with_name("schema.sql")

#: Held until the creating transaction ends, so that one process creates and the others find it done.
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtext('cicely'), hashtext(%s))"

_VERSION: Final = sql.SQL("SELECT version FROM {}.meta")
# Asks the catalog itself: to_regclass may answer from a cache that is older than the lock.
_EXISTS: Final = (
    "SELECT EXISTS (SELECT FROM pg_catalog.pg_tables WHERE schemaname = %s AND tablename = 'meta')"
)
_NAMES: Final = "SELECT tablename FROM pg_tables WHERE schemaname = %s"
_CREATE: Final = sql.SQL("CREATE SCHEMA IF NOT EXISTS {}")
_SEARCH: Final = sql.SQL("SET LOCAL search_path TO {}")


def check(connection: Connection[Any], address: Address) -> None:
    """Create the tables where there are none; refuse what this Cicely does not know."""
    if connection.info.server_version < OLDEST_SERVER:
        raise EngineError(
            f"{address.shown} runs PostgreSQL {connection.info.server_version // 10000}; "
            "Cicely needs 14 or newer"
        )
    version = _version(connection, address)
    if version == 0:
        _create(connection, address)
        version = _version(connection, address)
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
    name = sql.Identifier(address.schema)
    with connection.transaction():
        connection.execute(_LOCK, (address.schema,))
        if _version(connection, address) != 0:
            return
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
        tables = [sql.Identifier(schema, name) for (name,) in names if name != "meta"]
        deletions = [sql.SQL("DELETE FROM {}").format(table) for table in tables]
        connection.execute(sql.SQL("; ").join(deletions))
