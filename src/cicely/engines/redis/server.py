"""What a server says of itself when it is opened: whether it may be used, and what it keeps in a crash."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from cicely.engines.redis.connections import Connections
from cicely.engines.redis.place import Place
from cicely.engines.redis.scripts import script
from cicely.errors import (
    ConfigError,
    EngineCorrupt,
    EngineError,
    EngineUnavailable,
    SchemaTooNew,
)

FORMAT: Final = 3
OLDEST: Final = (6, 2)
#: The first version that has WAITAOF.
WAITS_SINCE: Final = (7, 2)
NOEVICTION: Final = "noeviction"

_SAVE: Final = re.compile(r"(\d+) (\d+)")


class Server(msgspec.Struct, frozen=True):
    """A server that may be used. `waits`: each accepted call is followed by WAITAOF."""

    version: str
    durability: str
    waits: bool
    warnings: tuple[str, ...] = ()


class Standing(msgspec.Struct, frozen=True):
    """What a server told: INFO, and of CONFIG what it lets us see (None where it does not)."""

    info: dict[str, str]
    appendfsync: str | None
    save: str | None

    @property
    def version(self) -> str:
        """The version as it is shown: Valkey says for which Redis it stands, and its own."""
        own = self.info.get("valkey_version")
        return f"{own} (Valkey)" if own else self.info.get("redis_version", "unknown")

    @property
    def number(self) -> tuple[int, ...]:
        """The version of Redis that it is or stands for."""
        return tuple(int(part) for part in re.findall(r"\d+", self.info.get("redis_version", ""))[:3])

    @property
    def is_replica(self) -> bool:
        """Whether it follows another server, and takes no writes."""
        return self.info.get("role") == "slave"

    def number_of(self, name: str) -> float | None:
        """Return a number that INFO tells, None where it does not."""
        try:
            return float(self.info[name])
        except (KeyError, ValueError):
            return None

    @property
    def has_log(self) -> bool:
        """Whether it writes an append-only file."""
        return self.info.get("aof_enabled") == "1"


def examined(connections: Connections) -> Server:
    """Look at the server, refuse it with a remedy, or say what it keeps. Raises EngineError, ConfigError."""
    place = connections.place
    standing = standing_of(connections)
    _refuse_old(standing, place)
    _refuse_replica(standing, place)
    warnings = _refuse_eviction(standing, place)
    waits = _waits(standing, place)
    _check_format(connections)
    return Server(standing.version, durability(standing, place), waits, warnings)


def standing_of(connections: Connections) -> Standing:
    """Ask the server for all that it tells. Raises EngineError."""
    lines = connections.ask("INFO").decode(errors="replace").splitlines()
    info = dict(line.split(":", 1) for line in lines if ":" in line)
    return Standing(info, _setting(connections, "appendfsync"), _setting(connections, "save"))


def _setting(connections: Connections, name: str) -> str | None:
    """Return a setting, None where the server forbids to look."""
    try:
        reply = connections.ask("CONFIG", "GET", name)
    except EngineUnavailable:
        raise
    except EngineError:
        return None
    return reply[1].decode() if len(reply) > 1 else None


def _refuse_old(standing: Standing, place: Place) -> None:
    if standing.number < OLDEST:
        raise EngineError(
            f"{place.address} is Redis {standing.version}; Cicely needs 6.2 or later, or Valkey: upgrade it"
        )


def _refuse_replica(standing: Standing, place: Place) -> None:
    if standing.is_replica and not place.service:
        master = f"{standing.info.get('master_host')}:{standing.info.get('master_port')}"
        raise EngineError(
            f"{place.address} is a read-only replica of {master}; name the master in the URL, or the "
            "sentinels with redis+sentinel://"
        )


def _refuse_eviction(standing: Standing, place: Place) -> tuple[str, ...]:
    policy = standing.info.get("maxmemory_policy")
    if policy is None:
        return ("the server does not say its maxmemory-policy; anything but noeviction loses jobs",)
    if policy == NOEVICTION:
        return ()
    if place.allows_eviction:
        return (f"maxmemory-policy is {policy}: a full server deletes jobs (allowed by allow_eviction=1)",)
    raise EngineError(
        f"{place.address} has maxmemory-policy {policy}: a full server would delete queued jobs. Set it with "
        "CONFIG SET maxmemory-policy noeviction (and in redis.conf), or accept the loss with allow_eviction=1"
    )


def _waits(standing: Standing, place: Place) -> bool:
    """Return whether calls must wait for the disk. Raises where the promise cannot be kept."""
    if place.durability == "none":
        return False
    if not standing.has_log:
        raise EngineError(
            f"{place.address} writes no append-only file: its crash loses {_lost(standing)}. Turn it on with "
            "CONFIG SET appendonly yes (and in redis.conf), or accept the loss with durability=none"
        )
    if place.durability == "process" or standing.appendfsync == "always":
        return False
    if standing.number < WAITS_SINCE:
        raise ConfigError(
            f"{place.address}: durability=power needs WAITAOF, which Redis has since 7.2, and this is "
            f"{standing.version}: upgrade it, set appendfsync to always, or ask for durability=process"
        )
    if standing.appendfsync == "no":
        raise ConfigError(
            f"{place.address} has appendfsync no: it never says that its log is on disk. Set it "
            "with CONFIG SET appendfsync everysec (and in redis.conf), or ask for durability=process"
        )
    return True


def durability(standing: Standing, place: Place) -> str:
    """Say what an accepted call survives, as the server is set now."""
    if not standing.has_log:
        return f"none: a crash of the server loses {_lost(standing)}"
    tail = "a fail-over to a replica may lose the last moments"
    if standing.appendfsync == "always" or _waits(standing, place):
        how = "appendfsync always" if standing.appendfsync == "always" else "WAITAOF after each call"
        return f"power: an accepted call survives the loss of power ({how}); {tail}"
    process = "process: an accepted call survives the death of any process"
    match standing.appendfsync:
        case "everysec":
            # While a sync takes long, this server answers up to two seconds before it writes its log.
            return (
                f"{process}; but up to 2 s are lost with the power, or when the server is killed while its "
                f"disk is slow (appendfsync everysec); {tail}"
            )
        case "no":
            return (
                f"{process}; the loss of power loses what the kernel had not written (appendfsync no); {tail}"
            )
    return (
        f"{process}; unknown for the loss of power, and for a killed server with a slow disk, as the server "
        f"forbids CONFIG; {tail}"
    )


def _lost(standing: Standing) -> str:
    """Say what is gone after a crash of a server without a log."""
    if standing.save is None:
        return "all of it or a part, unknown as the server forbids CONFIG"
    rules = [(int(seconds), int(changes)) for seconds, changes in _SAVE.findall(standing.save)]
    if not rules:
        return "all of it"
    # The rule that waits for the fewest changes is the one that is sure to come; others may come sooner.
    changes, seconds = min((changes, seconds) for seconds, changes in rules)
    fewer = f" or the last {changes - 1} changes" if changes > 1 else ""
    return f"the last {seconds / 60:.3g} minutes{fewer}: what came after a snapshot (save {standing.save})"


def _check_format(connections: Connections) -> None:
    found = b"more"
    while found == b"more":
        found = connections.run(script("open"), (b"", FORMAT), waits=False)
    if not found.isdigit():
        raise EngineCorrupt(
            f"{connections.place.address} holds a namespace that Cicely did not write; name another "
            "as namespace="
        )
    if int(found) > FORMAT:
        raise SchemaTooNew(
            f"{connections.place.address} was written by a newer Cicely (format {int(found)}; this one knows "
            f"{FORMAT}); upgrade this installation"
        )
