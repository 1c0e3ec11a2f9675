"""A session is silent only after its rescuer saw the same beat for a whole lease."""

from __future__ import annotations

import pytest

from cicely.engines.contract import Host, Session, SessionRecord, Silent
from cicely.upkeep.rescue import Orphans, Watch, gone


def record(beat: int) -> SessionRecord:
    session = Session(id="s", worker="w", lease_s=10.0)
    return SessionRecord(session=session, beat=beat, joined_at=0.0, beat_at=0.0, held=0)


def looks(watch: Watch, beat: int, *, since: int, until: int) -> list[Silent]:
    """Look every two seconds, and return what the last look found."""
    found: list[Silent] = []
    for now in range(since, until + 1, 2):
        found = watch.look([record(beat)], now=now)
    return found


@pytest.fixture
def watch() -> Watch:
    return Watch(max_gap_s=4.0)


def test_an_unchanged_beat_over_a_whole_lease_is_silence(watch):
    assert looks(watch, 7, since=100, until=108) == []

    assert watch.look([record(7)], now=110.0) == [Silent("s", 7)]


def test_a_beat_starts_the_observation_anew(watch):
    looks(watch, 7, since=100, until=108)

    assert looks(watch, 8, since=110, until=118) == []


def test_a_failed_look_starts_all_observation_anew(watch):
    looks(watch, 7, since=100, until=108)
    watch.blink()

    assert looks(watch, 7, since=110, until=118) == []


def test_a_rescuer_that_was_away_itself_starts_all_observation_anew(watch):
    looks(watch, 7, since=100, until=108)

    assert looks(watch, 7, since=200, until=208) == []
    assert watch.look([record(7)], now=210.0) == [Silent("s", 7)]


def test_a_session_that_is_no_longer_listed_is_forgotten(watch):
    looks(watch, 7, since=100, until=106)
    watch.look([], now=108.0)

    assert looks(watch, 7, since=110, until=118) == []


HERE = Host(boot_id="boot", pid_ns=1, uid=1000)


def on(host: Host, name: str, *, worker: str, pid: int) -> SessionRecord:
    session = Session(id=name, worker=worker, host=host, pid=pid, start_time=pid)
    return SessionRecord(session=session, beat=0, joined_at=0.0, beat_at=0.0, held=0)


def names_of_gone(records, *, alive_pids):
    found = gone(records, host=HERE, is_alive=lambda pid, start: pid in alive_pids)
    return [record.session.id for record in found]


def test_a_dead_supervisor_takes_its_children_with_it_even_those_that_still_run():
    records = [on(HERE, "w", worker="w", pid=1), on(HERE, "c", worker="w", pid=2)]

    assert names_of_gone(records, alive_pids={2}) == ["w", "c"]


def test_a_dead_child_of_a_living_supervisor_is_left_to_it():
    records = [on(HERE, "w", worker="w", pid=1), on(HERE, "c", worker="w", pid=2)]

    assert names_of_gone(records, alive_pids={1}) == []


def test_a_child_whose_supervisor_is_no_longer_registered_is_judged_by_its_own_process():
    records = [on(HERE, "c1", worker="w", pid=2), on(HERE, "c2", worker="w", pid=3)]

    assert names_of_gone(records, alive_pids={3}) == ["c1"]


@pytest.mark.parametrize(
    "elsewhere",
    [
        Host(boot_id="another boot", pid_ns=1, uid=1000),
        Host(boot_id="boot", pid_ns=2, uid=1000),
        Host(boot_id="boot", pid_ns=1, uid=1001),
        Host(),
    ],
)
def test_a_process_in_another_container_or_of_another_user_is_never_judged(elsewhere):
    assert names_of_gone([on(elsewhere, "w", worker="w", pid=1)], alive_pids=set()) == []


def orphans(watch: Orphans, *names: str, alive_pids: set[int]) -> list[str]:
    records = [on(HERE, name, worker="w", pid=pid) for pid, name in enumerate(names, start=2)]
    return watch.look(records, host=HERE, is_alive=lambda pid, start: pid in alive_pids)


def test_a_dead_child_that_its_supervisor_does_not_know_is_found_at_the_second_look():
    watch = Orphans()
    assert orphans(watch, "c", alive_pids=set()) == []

    assert orphans(watch, "c", alive_pids=set()) == ["c"]


def test_a_child_that_is_known_or_alive_at_the_second_look_is_no_orphan():
    watch = Orphans()
    orphans(watch, "c", alive_pids=set())

    assert orphans(watch, alive_pids=set()) == []
    assert orphans(watch, "c", alive_pids={2}) == []
