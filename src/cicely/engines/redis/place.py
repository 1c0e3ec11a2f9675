"""Where a namespace lives, as a URL says it: which server, how to reach it, and what is promised."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import msgspec

from cicely.errors import ConfigError

DURABILITIES: Final = ("power", "process", "none")
PORT: Final = 6379
SENTINEL_PORT: Final = 26379

_OPTIONS: Final = (
    "allow_eviction",
    "durability",
    "keep_ended",
    "namespace",
    "timeout",
    "tls_ca",
    "tls_cert",
    "tls_key",
)
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_SCHEMES: Final = ("redis", "rediss", "redis+sentinel", "rediss+sentinel")

Target = tuple[str, int]


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A namespace of a Redis server. Its `repr` and `address` show no password.

    `keep_ended` bounds how many ended jobs are kept, whatever their own retention; 0 for no bound.
    """

    targets: tuple[Target, ...]
    service: str = ""
    db: int = 0
    user: str = ""
    password: str = ""
    is_tls: bool = False
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    namespace: str = "cicely"
    durability: str = "process"
    allows_eviction: bool = False
    keep_ended: int = 0
    timeout_s: float = 5.0

    def __repr__(self) -> str:
        return f"Place({self.address})"

    @property
    def address(self) -> str:
        """Name the server, the database and the namespace, and nothing that is secret."""
        scheme = ("rediss" if self.is_tls else "redis") + ("+sentinel" if self.service else "")
        hosts = ",".join(_shown(target) for target in self.targets)
        service = f"/{self.service}" if self.service else ""
        return f"{scheme}://{hosts}{service}/{self.db} ({self.namespace})"

    def sentinel(self) -> Place:
        """Return how a sentinel of this place is spoken to: it has no databases and keeps no jobs."""
        return msgspec.structs.replace(self, service="", db=0, user="", password="")


def place_of(url: str) -> Place:
    """Read a URL. Raises ConfigError, which never shows the URL's password."""
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        user, password, hosts = _authority(parts)
        service, db = _path(parts)
    except ValueError as error:
        # Not chained: its message and its frames show parts of the URL.
        raise _wrong(str(error)) from None
    for name in options:
        if name not in _OPTIONS:
            raise _wrong(f"unknown option {name!r}; redis takes {', '.join(_OPTIONS)}")
    is_tls = parts.scheme.startswith("rediss")
    if not is_tls and any(name.startswith("tls_") for name in options):
        raise _wrong("tls_ options go with rediss://")
    return Place(
        targets=hosts,
        service=service,
        db=db,
        user=user,
        password=password,
        is_tls=is_tls,
        tls_ca=options.get("tls_ca", ""),
        tls_cert=options.get("tls_cert", ""),
        tls_key=options.get("tls_key", ""),
        namespace=_namespace(options),
        durability=_durability(options),
        allows_eviction=_is_set(options, "allow_eviction"),
        keep_ended=_jobs(options, "keep_ended"),
        timeout_s=_seconds(options),
    )


def _authority(parts: SplitResult) -> tuple[str, str, tuple[Target, ...]]:
    if parts.scheme not in _SCHEMES or parts.fragment:
        raise ValueError("write redis://host:6379/0, and %23 for a # in a password")
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    default = SENTINEL_PORT if "+" in parts.scheme else PORT
    targets = tuple(_target(host, default) for host in (hosts or "localhost").split(","))
    if len(targets) > 1 and "+" not in parts.scheme:
        raise ValueError("several hosts go with redis+sentinel://; of a cluster, name any one node")
    return unquote(user), unquote(password), targets


def _target(text: str, default_port: int) -> Target:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError("a host's name is missing")
    try:
        port = parts.port
    except ValueError:
        raise ValueError("a port is no number up to 65535; write %40 for an @ in a password") from None
    return unquote(parts.hostname), port or default_port


def _path(parts: SplitResult) -> tuple[str, int]:
    words = [unquote(word) for word in parts.path.split("/") if word]
    service = ""
    if "+" in parts.scheme:
        if not words:
            raise ValueError("redis+sentinel:// names the service first, as in //host1,host2/mymaster/0")
        service = words.pop(0)
    if len(words) > 1 or (words and not words[0].isdecimal()):
        raise ValueError("the path is the number of a database, as in redis://host:6379/0")
    return service, int(words[0]) if words else 0


def _namespace(options: dict[str, str]) -> str:
    name = options.get("namespace", "cicely")
    if not _NAMESPACE.fullmatch(name):
        raise _wrong("namespace= has letters, digits, '_', '-' and '.', and begins with one of the first two")
    return name


def _durability(options: dict[str, str]) -> str:
    durability = options.get("durability", "process")
    if durability not in DURABILITIES:
        raise _wrong(f"durability={durability!r}: choose one of {', '.join(DURABILITIES)}")
    return durability


def _is_set(options: dict[str, str], name: str) -> bool:
    text = options.get(name, "0")
    if text not in ("0", "1"):
        raise _wrong(f"{name}={text!r}: write 1 or 0")
    return text == "1"


def _jobs(options: dict[str, str], name: str) -> int:
    text = options.get(name, "0")
    if not text.isdecimal():
        raise _wrong(f"{name}={text!r}: write a number of jobs, or 0 for no bound")
    return int(text)


def _seconds(options: dict[str, str]) -> float:
    text = options.get("timeout", "5")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:  # noqa: PLR2004  (an hour; also keeps out inf and nan)
        raise _wrong(f"timeout={text!r} is not a number of seconds above 0")
    return seconds


def _shown(target: Target) -> str:
    host, port = target
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _wrong(why: str) -> ConfigError:
    return ConfigError(f"the redis:// URL cannot be used: {why}")
