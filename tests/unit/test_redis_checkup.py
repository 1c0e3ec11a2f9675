"""`checks()` looks at a Redis server for `cicely doctor`: what is well, and what is not with its remedy."""

from collections.abc import Iterator

import pytest

from cicely.engines.checks import Check, CheckVerdict, Examined
from cicely.engines.connect import connect
from cicely.engines.redis.checkup import of_memory, of_persistence, of_replication
from cicely.engines.redis.server import Standing
from redis_server import RedisServer, newer_binary

MIB = 1 << 20


@pytest.fixture(scope="module", params=["oldest", "newer"])
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """The oldest and the newest server of the tests."""
    program = newer_binary() if request.param == "newer" else ""
    server = RedisServer(program=program, appendonly="yes", appendfsync="everysec", maxmemory="200mb")
    yield server
    server.destroy()


def checked(server: RedisServer, options: str = "") -> dict[str, Check]:
    engine = connect(f"{server.url}{options}")
    assert isinstance(engine, Examined)
    checks = engine.checks()
    engine.close()
    return {check.name: check for check in checks}


def test_a_sound_server_has_nothing_to_mend(server: RedisServer) -> None:
    found = checked(server)

    assert {check.verdict for check in found.values()} == {CheckVerdict.OK}
    assert not any(check.remedy for check in found.values())
    assert found["append-only file"].value == "on, appendfsync everysec"
    assert found["append-only file's last write"].value == "ok"
    assert found["last snapshot"].value == "ok"
    assert found["maxmemory-policy"].value == "noeviction"
    assert found["memory"].value.endswith("of 200.0 MiB used (1%)") or "(0%)" in found["memory"].value
    assert found["replication"].value == "master without replicas"
    assert set(found) >= {"server", "snapshots", "fragmentation", "evicted keys", "round trip", "clock"}


def test_nothing_is_changed_by_looking(server: RedisServer) -> None:
    before = server.tell("DBSIZE")

    checked(server)
    checked(server)

    assert int(server.tell("DBSIZE")[1:]) <= int(before[1:]) + 1  # the namespace's format, written by `open`


def test_what_the_server_forbids_to_read_is_unknown(server: RedisServer) -> None:
    server.tell("ACL", "SETUSER", "ann", "on", ">secret", "~*", "&*", "+@all", "-config")
    engine = connect(f"redis://ann:secret@127.0.0.1:{server.port}/0")
    assert isinstance(engine, Examined)

    found = {check.name: check.value for check in engine.checks()}

    assert found["append-only file"] == "on, appendfsync unknown"
    assert found["snapshots"] == "unknown"
    engine.close()
    server.tell("ACL", "DELUSER", "ann")


def test_no_limit_of_memory_is_worth_knowing(server: RedisServer) -> None:
    server.tell("CONFIG", "SET", "maxmemory", "0")

    found = checked(server)["memory"]

    server.tell("CONFIG", "SET", "maxmemory", "200mb")
    assert found.verdict is CheckVerdict.WARN
    assert "maxmemory not set" in found.value


def test_eviction_is_to_be_mended_also_where_it_is_allowed(server: RedisServer) -> None:
    server.tell("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")

    found = checked(server, "?allow_eviction=1")["maxmemory-policy"]

    server.tell("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert found.verdict is CheckVerdict.WARN
    assert "noeviction" in found.remedy


@pytest.mark.parametrize(
    ("used", "verdict"), [(79, CheckVerdict.OK), (80, CheckVerdict.WARN), (95, CheckVerdict.BAD)]
)
def test_a_server_that_is_nearly_full_is_said_to_be(used: int, verdict: CheckVerdict) -> None:
    memory, _ = of_memory(standing(used_memory=used * MIB, maxmemory=100 * MIB, mem_fragmentation_ratio=1.1))

    assert memory.verdict is verdict


def test_fragments_count_once_there_is_much_memory() -> None:
    few = list(of_memory(standing(used_memory=MIB, maxmemory=100 * MIB, mem_fragmentation_ratio=9)))
    many = list(of_memory(standing(used_memory=70 * MIB, maxmemory=100 * MIB, mem_fragmentation_ratio=1.8)))

    assert few[1].verdict is CheckVerdict.OK
    assert (many[1].verdict, many[1].value) == (CheckVerdict.WARN, "1.80")


def test_writes_that_fail_are_to_be_mended() -> None:
    found = list(
        of_persistence(
            standing(aof_enabled=1, aof_last_write_status="err", rdb_last_bgsave_status="err"), "process"
        )
    )

    bad = [check.name for check in found if check.verdict is CheckVerdict.BAD]
    assert bad == ["append-only file's last write", "last snapshot"]


@pytest.mark.parametrize(
    ("durability", "verdict"), [("process", CheckVerdict.BAD), ("none", CheckVerdict.WARN)]
)
def test_a_server_without_a_log_is_judged_by_what_was_asked_for(
    durability: str, verdict: CheckVerdict
) -> None:
    first, *_ = of_persistence(standing(aof_enabled=0), durability)

    assert (first.value, first.verdict) == ("off", verdict)


def test_replicas_are_judged_by_their_lag() -> None:
    near = standing(role="master", slave0="ip=10.0.0.2,port=6379,state=online,offset=9,lag=1")
    far = standing(role="master", slave0="ip=10.0.0.2,port=6379,state=online,offset=9,lag=60")

    assert [check.value for check in of_replication(near)] == ["master, 1 online, at most 1 s behind"]
    assert [check.verdict for check in of_replication(far)] == [CheckVerdict.WARN]


def standing(**info: object) -> Standing:
    return Standing({name: str(value) for name, value in info.items()}, "everysec", "")
