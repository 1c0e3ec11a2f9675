"""A session is silent only after its rescuer saw the same beat for a whole lease."""

from __future__ import annotations

from cicely.engines.contract import Session, SessionRecord, Silent
from cicely.upkeep.rescue import Watch


def record(beat: int) -> SessionRecord:
    session = Session(id="s", worker="w", lease_s=10.0)
    return SessionRecord(session=session, beat=beat, joined_at=0.0, beat_at=0.0, held=0)


def test_an_unchanged_beat_over_a_whole_lease_is_silence():
    watch = Watch()
    assert watch.look([record(7)], now=100.0) == []
    assert watch.look([record(7)], now=109.9) == []

    assert watch.look([record(7)], now=110.0) == [Silent("s", 7)]


def test_a_beat_starts_the_observation_anew():
    watch = Watch()
    watch.look([record(7)], now=100.0)
    watch.look([record(8)], now=109.0)

    assert watch.look([record(8)], now=118.0) == []


def test_a_failed_look_starts_all_observation_anew():
    watch = Watch()
    watch.look([record(7)], now=100.0)
    watch.blink()

    assert watch.look([record(7)], now=120.0) == []


def test_a_session_that_is_no_longer_listed_is_forgotten():
    watch = Watch()
    watch.look([record(7)], now=100.0)
    watch.look([], now=105.0)

    assert watch.look([record(7)], now=111.0) == []
