"""The board: what a child says of itself, readable without its help."""

from __future__ import annotations

import os

import pytest

from cicely.worker.board import Board, Running

TOKEN = bytes(range(16))


@pytest.fixture
def board():
    board = Board.create(threads=2, coroutines=3)
    yield board
    board.close()


def test_an_attempt_stands_on_the_board_from_its_start_to_its_end(board):
    board.start(1, TOKEN, 12.5)
    [running] = board.running()
    board.clear(1)

    assert (running.slot, running.token, running.started_at) == (1, TOKEN, 12.5)
    assert not running.is_limited
    assert board.running() == []


def test_limits_and_the_waits_after_them_are_kept(board):
    limited = Running(
        slot=0,
        token=TOKEN,
        started_at=1.0,
        deadline_at=4.0,
        stall_s=2.0,
        touched_at=1.0,
        memory_bytes=512 << 20,
        timeout_retry_s=60.0,
        stall_retry_s=None,
        memory_retry_s=0.0,
        pid=4711,
    )

    board.start_limited(limited)

    assert board.running() == [limited]


def test_a_sign_of_life_is_seen(board):
    board.start(0, TOKEN, 1.0)
    board.touch(0, 9.0)

    assert board.running()[0].touched_at == 9.0


def test_a_verdict_lasts_until_the_next_start(board):
    board.start(0, TOKEN, 1.0)
    board.judge(0, 3)
    assert board.verdict(0) == 3

    board.start(0, TOKEN, 2.0)
    assert board.verdict(0) == 0


def test_the_held_claims_are_listed(board):
    tokens = {number.to_bytes(16, "big") for number in range(600)}
    board.hold(tokens)

    assert board.held() == tokens


def test_starts_are_counted_apart_for_threads_and_loop(board):
    board.start(0, TOKEN, 1.0)
    board.start(4, TOKEN, 1.0)
    board.start(1, TOKEN, 1.0)

    assert board.starts == (2, 1)


def test_another_process_sees_it(board):
    child = os.fork()
    if child == 0:
        board.start(0, TOKEN, 7.0)
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)

    assert [running.started_at for running in board.running()] == [7.0]
