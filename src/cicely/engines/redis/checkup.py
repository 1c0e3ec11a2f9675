"""What `cicely doctor` looks at on a Redis server: from INFO, CONFIG where it may, and a few PINGs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Final

from cicely.engines.checks import Check, CheckVerdict
from cicely.engines.redis.connections import Connections
from cicely.engines.redis.server import NOEVICTION, Standing, standing_of

_UNKNOWN: Final = "unknown"
_PINGS: Final = 5
_SLOW_S: Final = 0.010
_SKEW_S: Final = 2.0
_NEARLY_FULL: Final = 0.80
_FULL: Final = 0.95
_FRAGMENTED: Final = 1.5
#: Below this, what the allocator keeps for itself says nothing.
_FRAGMENTS_COUNT_BYTES: Final = 64 << 20
_MANY_CLIENTS: Final = 0.9
_LATE_REPLICA_S: Final = 10

_OK, _WARN, _BAD = CheckVerdict.OK, CheckVerdict.WARN, CheckVerdict.BAD


def checks(connections: Connections) -> list[Check]:
    """Look at the server once. Raises EngineUnavailable."""
    standing = standing_of(connections)
    return [
        Check("server", standing.version),
        *of_persistence(standing, connections.place.durability),
        *of_memory(standing),
        *_eviction(standing, is_allowed=connections.place.allows_eviction),
        *of_replication(standing),
        _clients(standing),
        *_timing(connections),
    ]


# --- what it keeps ------------------------------------------------------------------------------
def of_persistence(standing: Standing, durability: str) -> Iterator[Check]:
    """Judge what survives a crash, by the durability that was asked for."""
    info = standing.info
    if standing.has_log:
        yield Check("append-only file", f"on, appendfsync {standing.appendfsync or _UNKNOWN}")
        yield _status(
            "append-only file's last write",
            info.get("aof_last_write_status"),
            "the server accepts nothing until its disk has room: see its own log",
        )
        yield _status(
            "append-only file's last rewrite",
            info.get("aof_last_bgrewrite_status"),
            "the file grows until a rewrite succeeds: leave memory for its fork (vm.overcommit_memory=1)",
        )
    else:
        verdict = _WARN if durability == "none" else _BAD
        remedy = "CONFIG SET appendonly yes (and in redis.conf): a crash of the server loses jobs without it"
        yield Check("append-only file", "off", verdict, remedy)
    save = _UNKNOWN if standing.save is None else standing.save or "none"
    yield Check("snapshots", f"save {save}" if standing.save else save)
    yield _status(
        "last snapshot",
        info.get("rdb_last_bgsave_status"),
        "make room on its disk, and in memory for its fork; until then it may refuse all writes (MISCONF)",
    )


def _status(name: str, status: str | None, remedy: str) -> Check:
    if status is None:
        return Check(name, _UNKNOWN)
    return Check(name, status) if status == "ok" else Check(name, status, _BAD, remedy)


# --- memory -------------------------------------------------------------------------------------
def of_memory(standing: Standing) -> Iterator[Check]:
    """Judge how full the server is."""
    used, limit = standing.number_of("used_memory"), standing.number_of("maxmemory")
    if used is None or limit is None:
        yield Check("memory", _UNKNOWN)
        return
    if limit == 0:
        remedy = (
            "CONFIG SET maxmemory to less than the machine or container has: it is killed there, with jobs"
        )
        yield Check("memory", f"{_mb(used)} used, maxmemory not set", _WARN, remedy)
    else:
        yield _share_used(used, limit)
    ratio = standing.number_of("mem_fragmentation_ratio")
    if ratio is None:
        yield Check("fragmentation", _UNKNOWN)
    elif ratio > _FRAGMENTED and used > _FRAGMENTS_COUNT_BYTES:
        remedy = "CONFIG SET activedefrag yes, or restart the server when it is quiet"
        yield Check("fragmentation", f"{ratio:.2f}", _WARN, remedy)
    else:
        yield Check("fragmentation", f"{ratio:.2f}")


def _share_used(used: float, limit: float) -> Check:
    value = f"{_mb(used)} of {_mb(limit)} used ({used / limit:.0%})"
    remedy = "raise maxmemory, shorten keep= of large tasks, or bound what has ended with keep_ended="
    if used >= _FULL * limit:
        return Check("memory", value, _BAD, remedy)
    return Check("memory", value, _WARN, remedy) if used >= _NEARLY_FULL * limit else Check("memory", value)


def _mb(size_bytes: float) -> str:
    return f"{size_bytes / (1 << 20):,.1f} MiB"


def _eviction(standing: Standing, *, is_allowed: bool) -> Iterator[Check]:
    policy = standing.info.get("maxmemory_policy", _UNKNOWN)
    if policy in (NOEVICTION, _UNKNOWN):
        yield Check("maxmemory-policy", policy)
    else:
        remedy = "CONFIG SET maxmemory-policy noeviction (and in redis.conf): a full server deletes jobs else"
        yield Check("maxmemory-policy", policy, _WARN if is_allowed else _BAD, remedy)
    evicted = standing.number_of("evicted_keys")
    if not evicted:
        yield Check("evicted keys", _UNKNOWN if evicted is None else "0")
    else:
        remedy = "jobs may be among them; set noeviction, and compare what was enqueued with what is there"
        yield Check("evicted keys", f"{evicted:,.0f} since its start", _BAD, remedy)


# --- around it ----------------------------------------------------------------------------------
def of_replication(standing: Standing) -> Iterator[Check]:
    """Judge its part in replication."""
    info = standing.info
    if standing.is_replica:
        master = f"replica of {info.get('master_host')}:{info.get('master_port')}"
        yield Check("replication", master, _BAD, "name the master in the URL: replicas refuse all writes")
        return
    lines = [value for name, value in info.items() if name.startswith("slave") and name[5:].isdigit()]
    replicas = [dict(pair.split("=", 1) for pair in line.split(",") if "=" in pair) for line in lines]
    if not replicas:
        yield Check("replication", "master without replicas")
        return
    late = [one for one in replicas if one.get("state") != "online" or _lag_s(one) > _LATE_REPLICA_S]
    if late:
        value = f"{len(late)} of {len(replicas)} replicas offline or more than {_LATE_REPLICA_S} s behind"
        yield Check("replication", value, _WARN, "a fail-over to one of them would lose what it has not got")
    else:
        value = f"master, {len(replicas)} online, at most {max(map(_lag_s, replicas)):.0f} s behind"
        yield Check("replication", value)


def _lag_s(replica: dict[str, str]) -> float:
    lag = replica.get("lag", "")
    return float(lag) if lag.isdigit() else 0.0


def _clients(standing: Standing) -> Check:
    connected, most = standing.number_of("connected_clients"), standing.number_of("maxclients")
    if connected is None or not most:
        return Check("connections", _UNKNOWN if connected is None else f"{connected:.0f}")
    value = f"{connected:,.0f} of {most:,.0f}"
    if connected >= _MANY_CLIENTS * most:
        return Check("connections", value, _WARN, "raise maxclients: a worker holds one or two per child")
    return Check("connections", value)


def _timing(connections: Connections) -> Iterator[Check]:
    taken: list[float] = []
    for _ in range(_PINGS):
        began_at = time.perf_counter()
        connections.ask("PING")
        taken.append(time.perf_counter() - began_at)
    latency_s = statistics.median(taken)
    value = f"{latency_s * 1000:.2f} ms, median of {_PINGS}"
    if latency_s > _SLOW_S:
        remedy = "place workers near the server; SLOWLOG GET shows what holds it up"
        yield Check("round trip", value, _WARN, remedy)
    else:
        yield Check("round trip", value)
    yield _clock(connections)


def _clock(connections: Connections) -> Check:
    sent_at = time.time()
    seconds, micros = connections.ask("TIME")
    skew_s = int(seconds) + int(micros) / 1e6 - (sent_at + time.time()) / 2
    value = f"{skew_s:+.3f} s beside this host's"
    if abs(skew_s) > _SKEW_S:
        return Check("clock", value, _BAD, "synchronise both (NTP): due times and leases follow the server's")
    return Check("clock", value)
