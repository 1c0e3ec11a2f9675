"""The table of moves, row by row."""

import pytest

from cicely.core.states import FINAL, LIVE, MOVES, State, allows

#: Each move and the states it may start from, written out so that a change is seen twice.
SOURCES = {
    "claim": {"ready"},
    "promote": {"scheduled", "waiting"},
    "release": {"running", "waiting"},
    "retry": {"running"},
    "suspend": {"running"},
    "succeed": {"running"},
    "fail": {"running", "ready"},
    "cancel": {"scheduled", "waiting", "ready", "running"},
    "expire": {"scheduled", "ready"},
    "revive": {"failed", "cancelled", "expired"},
    "discard": {"succeeded", "failed", "cancelled", "expired"},
}
TARGETS = {
    "claim": "running",
    "promote": "ready",
    "release": "ready",
    "retry": "scheduled",
    "suspend": "waiting",
    "succeed": "succeeded",
    "fail": "failed",
    "cancel": "cancelled",
    "expire": "expired",
    "revive": "ready",
    "discard": None,
}


def test_the_table_names_every_move() -> None:
    assert set(MOVES) == set(SOURCES) == set(TARGETS)


@pytest.mark.parametrize("move", SOURCES)
def test_a_move_starts_only_from_its_sources(move: str) -> None:
    assert {str(state) for state in State if allows(move, state)} == SOURCES[move]


@pytest.mark.parametrize("move", TARGETS)
def test_a_move_ends_in_its_target(move: str) -> None:
    assert MOVES[move].target == TARGETS[move]


def test_four_states_are_final() -> None:
    assert {str(state) for state in FINAL} == {"succeeded", "failed", "cancelled", "expired"}


def test_a_state_is_either_live_or_final() -> None:
    assert set(State) == FINAL | LIVE
    assert not FINAL & LIVE


@pytest.mark.parametrize("state", list(State))
def test_a_state_knows_whether_it_is_final(state: State) -> None:
    assert state.is_final is (state in FINAL)


def test_only_revive_and_discard_leave_a_final_state() -> None:
    leaving = {move for move in MOVES if MOVES[move].sources & FINAL}

    assert leaving == {"revive", "discard"}


def test_nothing_revives_a_success() -> None:
    assert not allows("revive", State.SUCCEEDED)


def test_every_state_but_the_first_ones_is_reached_by_a_move() -> None:
    reached = {move.target for move in MOVES.values()}

    assert reached == {*State, None}
