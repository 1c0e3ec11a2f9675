"""A keeper numbers its beats: what was lost is taken back, and never what a child may still start."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from unittest import mock

import pytest

from cicely.core.job import Kind, NewJob
from cicely.core.states import State
from cicely.engines.contract import Ask, Beat, Demand, Session
from cicely.engines.memory import MemoryEngine
from cicely.errors import EngineUnavailable
from cicely.worker import keeper as module
from cicely.worker.board import Board
from cicely.worker.keeper import OWNER_GIVES_UP, Keeper

LEASE_S = 30.0
BEAT_S = LEASE_S / 3


class Engine(MemoryEngine):
    """Its beats take time, and are numbered; some of them fail, before or after they were carried out."""

    def __init__(self) -> None:
        self.clock = 1_000.0
        super().__init__(now=lambda: self.clock)
        self.numbers: list[int] = []
        self.takes_s = 0.0
        self.is_away = False

    def beat(self, held: Mapping[str, Collection[bytes]], number: int) -> list[Beat]:
        self.numbers.append(number)
        answer = super().beat(held, number)
        self.clock += self.takes_s
        if self.is_away:
            raise EngineUnavailable("the answer was lost")
        return answer

    def state(self) -> State:
        [job] = self.get(["j"])
        assert job is not None
        return job.state


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine()
    for name in ("w", "c"):
        engine.join(Session(id=name, worker="w", tasks=frozenset({"t"}), lease_s=LEASE_S))
    engine.enqueue([NewJob(id="j", task="t", kind=Kind.SYNC, queue="main")])
    with mock.patch.object(module, "boottime", side_effect=lambda: engine.clock):
        yield engine


@pytest.fixture
def board() -> Iterator[Board]:
    board = Board.create(threads=1, coroutines=0)
    yield board
    board.close()


@pytest.fixture
def keeper(engine: Engine, board: Board) -> Iterator[Keeper]:
    keeper = Keeper(engine, "w", lease_s=LEASE_S)
    keeper.beat_for({"c": board})
    yield keeper
    os.close(keeper._wake)
    os.close(keeper._news_bell)


def claim(engine: Engine) -> bytes:
    """Claim the job; its reply is on its way for as long as the board does not list it."""
    demand = Demand(os.urandom(8), ("main",), (Ask((Kind.SYNC,), 1),))
    [claimed] = engine.claim("c", demand).claims
    return claimed.token


def beat(engine: Engine, keeper: Keeper, *, later_s: float = BEAT_S) -> None:
    engine.clock += later_s
    keeper._attempt(keeper._beat)


def test_a_claim_that_two_healthy_beats_do_not_name_is_taken_back(engine, keeper):
    beat(engine, keeper)
    claim(engine)

    beat(engine, keeper)
    assert engine.state() is State.RUNNING
    beat(engine, keeper)

    assert engine.state() is State.READY


def test_asking_between_two_beats_takes_nothing_back(engine, keeper):
    beat(engine, keeper)
    claim(engine)

    for _ in range(10):
        keeper._ask()
    beat(engine, keeper)
    for _ in range(10):
        keeper._ask()

    assert engine.state() is State.RUNNING
    beat(engine, keeper)
    assert engine.state() is State.READY


def test_a_beat_soon_after_another_takes_nothing_back(engine, keeper):
    claim(engine)

    for _ in range(20):
        beat(engine, keeper, later_s=LEASE_S / 10)

    assert engine.state() is State.RUNNING


def test_a_beat_after_a_slow_answer_takes_nothing_back(engine, keeper):
    claim(engine)
    engine.takes_s = BEAT_S

    for _ in range(5):
        beat(engine, keeper, later_s=0.0)

    assert engine.state() is State.RUNNING


def test_a_beat_after_one_that_was_not_answered_takes_nothing_back(engine, keeper):
    beat(engine, keeper)
    claim(engine)
    engine.is_away = True
    beat(engine, keeper)
    engine.is_away = False

    beat(engine, keeper)

    assert engine.state() is State.RUNNING
    assert engine.numbers == sorted(set(engine.numbers))


def test_a_board_that_cannot_be_read_takes_nothing_back(engine, keeper, board):
    beat(engine, keeper)
    token = claim(engine)
    beat(engine, keeper)
    board.hold([token])

    with mock.patch.object(Board, "held", return_value=None):
        beat(engine, keeper)

    assert engine.state() is State.RUNNING


def test_a_new_child_may_live_from_the_first_question_on(engine, keeper, board):
    keeper.beat_for({})
    beat(engine, keeper)
    keeper.beat_for({"c": board})
    engine.clock += 1.0

    keeper._ask()
    first_at = engine.clock
    engine.clock += 1.0
    keeper._ask()

    # The second changed nothing at the engine: others count from the first.
    assert board.deadline_at == first_at + OWNER_GIVES_UP * LEASE_S
