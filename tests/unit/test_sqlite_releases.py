"""A plain job that its parents let go: its wide row stays as it is, and its place is known all the same."""

from sqlite_bench import engine, rows

from cicely.core.edge import Edge
from cicely.core.outcome import Failed, HandedBack, Succeeded
from cicely.core.states import State
from cicely.testing.conformance.bench import counts, job, take

__all__ = ["engine"]

PLACES = "SELECT rank, n FROM ready"
OWN_RANKS = "SELECT rank FROM job WHERE id = 'b'"


def _released(engine) -> list[tuple]:
    """Leave a job "b" that "a" has let go; return the ready ones' places."""
    engine.enqueue([job(id="a"), job(id="b")], [Edge("a", "b")])
    [claim] = take(engine)
    engine.settle("s", [Succeeded(claim.token)])
    return rows(engine, PLACES)


def test_its_own_row_is_not_written_to(engine):
    [(rank, _)] = _released(engine)

    assert rank > 0
    assert rows(engine, OWN_RANKS) == [(0,)]


def test_cancelled_while_it_is_ready_it_leaves_its_place(engine):
    _released(engine)

    assert engine.steer("cancel", ["b"]) == ["b"]

    assert rows(engine, PLACES) == []
    assert counts(engine) == {State.SUCCEEDED: 1, State.CANCELLED: 1}


def test_handed_back_it_stands_in_its_old_place(engine, clock):
    places = _released(engine)
    clock.at += 10
    [claim] = take(engine)

    engine.settle("s", [HandedBack(claim.token, "asked to stop")])

    assert rows(engine, PLACES) == places
    assert rows(engine, OWN_RANKS) == [(places[0][0],)]


def test_revived_and_let_go_again_it_stands_where_it_was_let_go_last(engine, clock):
    [(first, _)] = _released(engine)
    engine.steer("cancel", ["b"])
    clock.at += 10
    engine.steer("revive", ["b"])
    [(revived, _)] = rows(engine, PLACES)
    clock.at += 10
    engine.steer("cancel", ["b"])

    assert revived == first + 10_000_000
    assert rows(engine, PLACES) == []


def test_cancelled_because_of_its_parent_and_back_it_is_let_go_with_a_new_rank(engine, clock):
    engine.enqueue([job(id="a"), job(id="b")], [Edge("a", "b")])
    [claim] = take(engine)
    engine.settle("s", [Failed(claim.token, "error", b"why")])
    engine.steer("revive", ["a"])
    [claim] = take(engine)
    clock.at += 10

    engine.settle("s", [Succeeded(claim.token)])
    [place] = rows(engine, PLACES)
    engine.steer("cancel", ["b"])

    assert place[0] & (1 << 52) - 1 == int(clock.at * 1e6)
    assert rows(engine, PLACES) == []
