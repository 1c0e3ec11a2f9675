"""From a URL to an engine. Drivers are imported here, when a URL asks for them, and nowhere else."""

from __future__ import annotations

import math
from typing import Final, Literal
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from cicely.engines.contract import Engine
from cicely.errors import ConfigError

Role = Literal["producer", "worker"]

_HIDDEN: Final = "***"
_SQLITE_OPTIONS: Final = ("durability", "busy_timeout")
_REDIS_SCHEMES: Final = ("redis", "rediss", "redis+sentinel", "rediss+sentinel")


def connect(url: str, *, role: Role = "producer") -> Engine:
    """Return the engine that a URL names, not opened yet. Raises ConfigError.

    `role` says what this process is to others that wait for it: a worker that was stopped while it
    held an engine's lock may be killed for it, a producer is never touched.
    """
    scheme, separator, _ = url.partition("://")
    if separator and scheme == "memory":
        return _memory(url)
    if separator and scheme == "sqlite":
        return _sqlite(url, role)
    if separator and scheme in ("postgresql", "postgres"):
        return _postgresql(url)
    if separator and scheme in _REDIS_SCHEMES:
        return _redis(url)
    raise ConfigError(
        f"the URL {redacted(url)!r} names no engine: it begins with sqlite:///, postgresql://, "
        "redis:// or memory://, as in sqlite:///jobs.db (relative) or sqlite:////var/lib/app/jobs.db"
    )


def redacted(url: str) -> str:
    """Return a URL as it may be shown: without its password."""
    try:
        parts = urlsplit(url)
        password = parts.password
    except ValueError:
        return f"{url.partition('://')[0]}://{_HIDDEN}"
    if not password:
        # An unquoted # or / in a password hides the rest of it, and its @, from the parser.
        is_cut = parts.netloc != "" and "@" in url and "@" not in parts.netloc
        return f"{parts.scheme}://{_HIDDEN}" if is_cut else url
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}:{_HIDDEN}@{host}"))


def _memory(url: str) -> Engine:
    if url != "memory://":
        raise ConfigError(f"{url!r}: the memory engine takes neither a place nor options; write memory://")
    from cicely.engines.memory import MemoryEngine

    return MemoryEngine()


def _sqlite(url: str, role: Role) -> Engine:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigError(f"the URL {redacted(url)!r} cannot be read: {error}") from error
    path = unquote(parts.path)
    if parts.netloc:
        raise ConfigError(
            f"{url!r}: two slashes are missing or one too many; write sqlite:///jobs.db for a file "
            "here, sqlite:////var/lib/app/jobs.db for an absolute path"
        )
    if path in ("", "/") or path.startswith("/:memory:") or parts.fragment:
        raise ConfigError(f"{url!r} names no file; for an engine without one write memory://")
    options = _options(url, parts.query)
    from cicely.engines.sqlite.engine import SqliteEngine

    return SqliteEngine(
        path[1:],
        durability=options.get("durability", "power"),
        busy_timeout_s=_seconds(url, options.get("busy_timeout", "5")),
        role=role,
    )


def _postgresql(url: str) -> Engine:
    try:
        from cicely.engines.postgres.engine import PostgresEngine
    except ImportError as error:
        raise ConfigError(
            f"{redacted(url)!r} needs the driver of PostgreSQL ({error}); install cicely[postgres]"
        ) from error
    try:
        return PostgresEngine(url)
    except ValueError as error:
        raise ConfigError(f"the URL {redacted(url)!r} cannot be read: {error}") from error


def _redis(url: str) -> Engine:
    try:
        from cicely.engines.redis.engine import RedisEngine
        from cicely.engines.redis.place import place_of
    except ImportError as error:
        raise ConfigError(f"{redacted(url)!r} needs hiredis ({error}); install cicely[redis]") from error
    return RedisEngine(place_of(url))


def _options(url: str, query: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name in options:
        if name not in _SQLITE_OPTIONS:
            raise ConfigError(f"{url!r}: unknown option {name!r}; sqlite takes {', '.join(_SQLITE_OPTIONS)}")
    return options


def _seconds(url: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ConfigError(f"{url!r}: busy_timeout={text!r} is not a number of seconds above 0")
    return seconds
