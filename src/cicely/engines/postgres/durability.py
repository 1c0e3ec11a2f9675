"""What the server says of itself, and what an accepted call therefore survives."""

from __future__ import annotations

from typing import Any, Final

from psycopg import Connection

from cicely.engines.contract import Facts
from cicely.engines.postgres.address import Address

_SHOW: Final = (
    "SELECT current_setting('server_version'), current_setting('fsync'),"
    " current_setting('synchronous_commit'), current_setting('full_page_writes')"
)


def facts(connection: Connection[Any], address: Address) -> Facts:
    """Describe the engine; asks the server."""
    row = connection.execute(_SHOW).fetchone()
    version, fsync, commit, full_pages = row if row is not None else ("unknown",) * 4
    settings = f"fsync={fsync}, synchronous_commit={commit}, full_page_writes={full_pages}"
    return Facts(
        engine="postgresql",
        address=address.shown,
        version=version,
        durability=f"{_promise(address.durability, fsync, commit, full_pages)} ({settings})",
        warnings=tuple(_warnings(address, fsync, full_pages)),
    )


def _promise(asked: str, fsync: str, commit: str, full_pages: str) -> str:
    if asked == "none" or commit == "off":
        return "none: an accepted call of the last moments may be lost when the server crashes"
    if fsync != "on" or full_pages != "on":
        return "process: an accepted call survives the death of any process, not the loss of power"
    return (
        "power: an accepted call survives the loss of power; a fail-over to an asynchronous standby "
        "may lose the last ones"
    )


def _warnings(address: Address, fsync: str, full_pages: str) -> list[str]:
    warnings = []
    if fsync != "on":
        warnings.append("the server runs with fsync=off: a loss of power may destroy the whole database")
    if full_pages != "on":
        warnings.append("the server runs with full_page_writes=off: a loss of power may damage pages")
    if address.pooler != "none":
        warnings.append("behind a transaction pooler nothing rings: idle workers look for work once a second")
    return warnings
