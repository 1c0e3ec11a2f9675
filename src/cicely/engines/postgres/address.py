"""The URL of a database: what libpq is told, what Cicely keeps for itself, and what may be shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

import psycopg
from psycopg import conninfo

from cicely.errors import ConfigError

SYNCHRONOUS_COMMIT: Final = {"power": "on", "process": "on", "none": "off"}
POOLERS: Final = ("none", "transaction")
DEFAULT_SCHEMA: Final = "cicely"

_OWN: Final = ("durability", "schema", "pooler")
_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,39}")
_CONNECT_TIMEOUT_S: Final = 5

#: How long a server may be silent: a beat must be repeated before its lease of 30 s runs out.
_SILENCE_MS: Final = 10_000

#: So that a host that vanished is noticed in time, wherever nobody said otherwise.
_DEFAULTS: Final = {
    "connect_timeout": str(_CONNECT_TIMEOUT_S),
    "application_name": "cicely",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": str(_SILENCE_MS),
}


class Address:
    """Where the jobs are: a database, a schema in it, and how to speak to it."""

    def __init__(
        self,
        url: str,
        *,
        durability: str | None = None,
        schema: str | None = None,
        pooler: str | None = None,
    ) -> None:
        parts = urlsplit(url)
        given = dict(parse_qsl(parts.query, keep_blank_values=True))
        own = {name: given.pop(name) for name in _OWN if name in given}
        self.durability = durability or own.get("durability", "power")
        self.schema = schema or own.get("schema", DEFAULT_SCHEMA)
        self.pooler = pooler or own.get("pooler", "none")
        self._check()
        plain = urlunsplit(parts._replace(query=urlencode(given, quote_via=quote)))
        try:
            self._options = {**_DEFAULTS, **_texts(conninfo.conninfo_to_dict(plain))}
        except psycopg.Error:
            # libpq's own words would repeat the URL, and the password in it.
            raise ConfigError(
                "the postgresql:// URL cannot be read or names an option that libpq does not know; "
                "write postgresql://user@host:5432/database, with percent signs for what is special "
                f"in names and passwords; Cicely's own options are {', '.join(_OWN)}"
            ) from None

    def _check(self) -> None:
        if self.durability not in SYNCHRONOUS_COMMIT:
            raise ConfigError(
                f"durability={self.durability!r}: choose one of {', '.join(SYNCHRONOUS_COMMIT)}"
            )
        if self.pooler not in POOLERS:
            raise ConfigError(f"pooler={self.pooler!r}: choose one of {', '.join(POOLERS)}")
        if not _NAME.fullmatch(self.schema):
            raise ConfigError(
                f"schema={self.schema!r}: a schema's name is up to 40 small letters, digits and _"
            )

    @property
    def conninfo(self) -> str:
        """What libpq connects with; holds the password."""
        return conninfo.make_conninfo("", **self._options)

    @property
    def shown(self) -> str:
        """What may be shown: host, database and schema."""
        host = self._options.get("host") or self._options.get("hostaddr") or "localhost"
        port = self._options.get("port", "5432")
        return f"postgresql://{host}:{port}/{self.database}?schema={self.schema}"

    @property
    def database(self) -> str:
        """The database's name."""
        return self._options.get("dbname") or self.user

    @property
    def user(self) -> str:
        """The user's name."""
        return self._options.get("user", "")

    @property
    def silence_s(self) -> float:
        """How long a call waits for a silent server; the URL's `tcp_user_timeout`."""
        text = self._options.get("tcp_user_timeout", "")
        return (int(text) if text.isdigit() and int(text) else _SILENCE_MS) / 1000

    def scrubbed(self, text: str) -> str:
        """Return a text without the password, should it be in it."""
        for name in ("password", "sslpassword"):
            secret = self._options.get(name)
            if secret:
                text = text.replace(secret, "***").replace(quote(secret), "***")
        return text


def _texts(options: Mapping[str, object]) -> dict[str, str]:
    return {name: unquote(str(value)) if name == "host" else str(value) for name, value in options.items()}
