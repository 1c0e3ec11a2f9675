"""A keeper hears of every cancellation soon, also of one that came before it listened."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from cicely.core.job import Kind, NewJob
from cicely.engines.contract import Ask, Demand, Session
from cicely.engines.memory import MemoryEngine
from cicely.testing.fleet import wait_for
from cicely.worker.board import Board
from cicely.worker.keeper import Keeper

#: A third of it is how long a cancellation takes that only a beat by the clock finds.
LEASE_S = 60.0


@pytest.fixture
def engine() -> MemoryEngine:
    engine = MemoryEngine()
    engine.join(Session(id="w", worker="w", lease_s=LEASE_S))
    engine.join(Session(id="c", worker="w", lease_s=LEASE_S, tasks=frozenset({"work"})))
    return engine


@pytest.fixture
def keeper(engine: MemoryEngine) -> Iterator[Keeper]:
    keeper = Keeper(engine, "w", lease_s=LEASE_S)
    yield keeper
    keeper.finish(timeout_s=5)


def claimed(engine: MemoryEngine) -> bytes:
    engine.enqueue([NewJob(id="j", task="work", kind=Kind.SYNC, queue="default")])
    [claim] = engine.claim("c", Demand(os.urandom(8), ("default",), (Ask((Kind.SYNC,), 1),))).claims
    return claim.token


@pytest.fixture
def board() -> Iterator[Board]:
    board = Board.create(threads=1, coroutines=1)
    yield board
    board.close()


def await_word_of(keeper: Keeper, token: bytes) -> None:
    wait_for(
        lambda: any(token in beat.cancelled for news in keeper.news() for beat in news.beats),
        within_s=5,
        what="word of the cancellation",
    )


def test_a_cancellation_between_the_first_beat_and_the_first_bell_is_heard_soon(
    engine: MemoryEngine, keeper: Keeper, board: Board
):
    token = claimed(engine)
    board.hold([token])
    keeper.beat_for({"c": board})
    beat = engine.beat

    def beat_then_cancel(*asked):
        engine.beat = beat
        answer = beat(*asked)
        engine.steer("cancel", ["j"])
        return answer

    engine.beat = beat_then_cancel
    keeper.start()

    await_word_of(keeper, token)


def test_a_cancellation_before_a_child_is_beaten_for_is_heard_soon(
    engine: MemoryEngine, keeper: Keeper, board: Board
):
    keeper.start()
    wait_for(lambda: len(keeper.news()) > 0, within_s=5)
    token = claimed(engine)
    engine.steer("cancel", ["j"])
    # The bell rang, and a beat followed that did not know the child yet.
    wait_for(lambda: len(keeper.news()) > 0, within_s=5)

    board.hold([token])
    keeper.beat_for({"c": board})

    await_word_of(keeper, token)
