"""A demand that an idle child leaves with its clerk is claimed for once, when the bell rings."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Iterator

import pytest

from cicely.core.intake import Turns
from cicely.core.job import Kind, NewJob
from cicely.core.outcome import Succeeded
from cicely.engines.contract import Ask, Bell, Demand, Intake, Session
from cicely.engines.memory import MemoryEngine
from cicely.errors import EngineError, EngineUnavailable, SessionClosed
from cicely.testing.fleet import wait_for
from cicely.worker.board import Board
from cicely.worker.clerk import Clerk
from cicely.worker.desk import Desk
from cicely.worker.errands import Brought, Join, Joined, decode_answer, receive_frame
from cicely.worker.exchange import Exchange
from cicely.worker.handover import Handover
from cicely.worker.pool import Pool
from cicely.worker.processes import boottime
from cicely.worker.standing import Standing

SESSION = Session(id="a", worker="a", tasks=frozenset({"t"}))
DEMAND = Demand(b"unmet567", ("default",), (Ask((Kind.SYNC,), 1),))


class Engine(MemoryEngine):
    """Notes every claim; the answer to the first so many gets lost."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[bytes] = []
        self.answers_to_lose = 0

    def claim(self, session_id: str, demand: Demand) -> Intake:
        intake = super().claim(session_id, demand)
        self.requests.append(demand.request)
        if self.answers_to_lose:
            self.answers_to_lose -= 1
            raise EngineUnavailable("the answer got lost")
        return intake

    def put(self, job_id: str) -> None:
        self.enqueue([NewJob(id=job_id, task="t", kind=Kind.SYNC, queue="default", body=b"")])


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def desk(engine) -> Iterator[Desk]:
    ours, theirs = socket.socketpair()
    ring_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    clerk = Clerk(engine, "a", theirs, os.dup(ring_fd))
    clerk.start()
    desk = Desk(ours, ring_fd)
    desk.join(SESSION)
    yield desk
    ours.close()
    clerk.finish(5.0)
    os.close(ring_fd)


def test_a_call_that_fails_as_no_engine_should_is_refused_and_the_line_holds(desk, engine, monkeypatch):
    def settle(*_: object) -> None:
        raise OverflowError("too large a number")

    monkeypatch.setattr(engine, "settle", settle)

    with pytest.raises(EngineError, match="OverflowError: too large"):
        desk.settle("a", [Succeeded(b"")])
    assert desk.save("a", []) == []


def test_a_line_that_was_cut_ends_the_session_and_is_not_tried_again(engine):
    ours, theirs = socket.socketpair()
    desk = Desk(ours, os.eventfd(0))
    theirs.close()

    with pytest.raises(SessionClosed):
        desk.save("a", [])
    ours.close()


def leave(desk: Desk) -> None:
    """Leave a demand; returns when the clerk has it."""
    desk.doorbell("a").arm()
    desk.leave(DEMAND)
    desk.save("a", [])


def await_answer(desk: Desk) -> None:
    wait_for(lambda: is_readable(desk), within_s=5)


def is_readable(what: Desk | Bell) -> bool:
    poller = select.poll()
    poller.register(what, select.POLLIN)
    return bool(poller.poll(0))


def test_the_clerk_claims_in_the_instant_of_the_ring_and_says_when_it_sent(desk, engine):
    leave(desk)
    before = boottime()

    engine.put("j1")
    await_answer(desk)
    brought = desk.collect()

    assert [claim.job_id for claim in brought.intake.claims] == ["j1"]
    assert brought.has_rung
    assert before <= brought.sent_at <= boottime()


def test_each_demand_that_is_left_is_a_request_of_its_own(desk, engine):
    for job_id in ("j1", "j2"):
        leave(desk)
        engine.put(job_id)
        await_answer(desk)
        desk.collect()

    assert len({DEMAND.request, *engine.requests}) == 3


def test_a_second_ring_is_passed_on_and_claimed_for_by_nobody(desk, engine):
    leave(desk)
    engine.put("j1")
    await_answer(desk)
    bell = desk.doorbell("a")
    bell.arm()

    def rings():
        engine.put(os.urandom(4).hex())
        return is_readable(bell)

    assert wait_for(rings, within_s=5)
    assert [claim.job_id for claim in desk.collect().intake.claims] == ["j1"]
    assert len(engine.requests) == 1


def test_a_demand_that_was_taken_back_is_claimed_for_no_more(desk, engine):
    leave(desk)

    assert desk.collect() == Brought(has_rung=False)
    engine.put("j1")

    assert wait_for(lambda: is_readable(desk.doorbell("a")), within_s=5)
    assert engine.requests == []


def test_claims_that_cross_with_taking_back_arrive_and_the_line_stays_in_step(desk, engine, monkeypatch):
    leave(desk)
    engine.put("j1")
    await_answer(desk)
    monkeypatch.setattr("cicely.worker.desk._is_readable", lambda end: False)

    brought = desk.collect()

    assert [claim.job_id for claim in brought.intake.claims] == ["j1"]
    assert desk.claim("a", DEMAND).claims == ()


def test_a_claim_whose_answer_was_lost_is_repeated_as_it_was(desk, engine):
    engine.answers_to_lose = 2
    leave(desk)

    engine.put("j1")
    await_answer(desk)
    brought = desk.collect()

    assert [claim.job_id for claim in brought.intake.claims] == ["j1"]
    assert len(engine.requests) == 3
    assert len(set(engine.requests)) == 1


# --- the child ----------------------------------------------------------------------------------
@pytest.fixture
def board() -> Iterator[Board]:
    board = Board.create(threads=1, coroutines=0)
    board.deadline_at = boottime() + 60
    yield board
    board.close()


def exchange_over(desk: Desk, board: Board, pool: Pool) -> Exchange:
    return Exchange(
        desk,
        "a",
        board=board,
        pools=(pool,),
        turns=Turns([[("default", 1.0)]]),
        start_s=10.0,
        max_jobs=0,
        on_lost=print,
        desk=desk,
    )


@pytest.fixture
def exchange(desk, board) -> Iterator[Exchange]:
    exchange = exchange_over(desk, board, Pool((Kind.SYNC,), 1, Handover(*os.pipe2(os.O_NONBLOCK))))
    thread = threading.Thread(target=exchange.run, daemon=True)
    thread.start()
    yield exchange
    exchange.drain()
    exchange.give_back("the test is over")
    thread.join(5)
    assert not thread.is_alive()


def is_standing(desk: Desk) -> bool:
    return desk.standing is not None


def test_an_idle_child_takes_over_what_its_clerk_has_claimed(exchange, desk, engine):
    wait_for(lambda: is_standing(desk), within_s=5)
    asked = len(engine.requests)
    [pool] = exchange._pools

    engine.put("j1")

    token = wait_for(pool.handover.take, within_s=5)
    assert engine.requests[asked:] == [token[:8]]
    assert exchange.begin(pool, token, 0).job_id == "j1"
    exchange.finish(pool, 0, Succeeded(token))


def test_a_child_that_is_drained_takes_its_demand_back(exchange, desk, engine):
    wait_for(lambda: is_standing(desk), within_s=5)
    asked = len(engine.requests)

    exchange.drain()
    wait_for(lambda: not is_standing(desk), within_s=5)
    engine.put("j1")

    assert len(engine.requests) == asked
    assert engine.get(["j1"])[0].state == "ready"


# --- a thread that runs jobs listens for itself ---------------------------------------------------
class Listener:
    """Waits for an answer as the one thread that runs jobs does, and notes what was brought."""

    def __init__(self, desk: Desk) -> None:
        self.brought: list[Brought] = []
        self.passes = 0
        self.standing = Standing(desk, self.brought.append)
        self.handover = Handover(*os.pipe2(os.O_NONBLOCK))
        self.wait = self.standing.ear(self.handover.read_fd, then=self._pass)

    def _pass(self) -> None:
        self.passes += 1


@pytest.fixture
def listener(desk) -> Iterator[Listener]:
    listener = Listener(desk)
    yield listener
    listener.handover.close()


def leave_to(listener: Listener, desk: Desk) -> None:
    """Leave a demand that is listened for; returns when the clerk has it."""
    desk.doorbell("a").arm()
    listener.standing.leave(DEMAND)
    desk.save("a", [])


def test_the_thread_that_runs_jobs_takes_what_the_clerk_has_claimed(listener, desk, engine):
    leave_to(listener, desk)
    assert listener.standing.fileno() == -1

    engine.put("j1")
    listener.wait()

    assert [claim.job_id for claim in listener.brought[0].intake.claims] == ["j1"]
    assert listener.passes == 1


def test_what_a_listener_took_is_taken_by_nobody_else(listener, desk, engine):
    leave_to(listener, desk)
    engine.put("j1")
    listener.wait()

    listener.standing.collect()

    assert listener.brought[1:] == [Brought(has_rung=False)]


def test_a_listener_leaves_alone_what_is_no_demand_that_stands(listener, desk, engine):
    leave_to(listener, desk)
    listener.standing.collect()
    listener.handover.put([b"a" * 16])
    desk._send(Join(SESSION))
    await_answer(desk)

    listener.wait()

    assert listener.brought == [Brought(has_rung=False)]
    assert isinstance(decode_answer(receive_frame(desk._end)), Joined)


def test_a_listener_that_was_woken_by_an_earlier_answer_goes_on_listening(
    listener, desk, engine, monkeypatch
):
    looks = [False]
    monkeypatch.setattr(
        Desk, "is_answered", property(lambda self: looks.pop() if looks else is_readable(self))
    )
    leave_to(listener, desk)
    engine.put("j1")

    listener.wait()
    assert listener.brought == []
    listener.wait()

    assert [claim.job_id for claim in listener.brought[0].intake.claims] == ["j1"]


def test_a_line_that_is_cut_while_somebody_listens_ends_the_thread_that_talks_to_the_engine():
    ours, theirs = socket.socketpair()
    desk = Desk(ours, os.eventfd(0))
    listener = Listener(desk)
    listener.standing.leave(DEMAND)
    theirs.close()

    listener.wait()

    with pytest.raises(SessionClosed):
        listener.standing.collect()
    ours.close()
    listener.handover.close()


def test_a_child_of_one_thread_starts_a_job_although_its_other_thread_sleeps(board, desk, engine):
    pool = Pool((Kind.SYNC,), 1, Handover(*os.pipe2(os.O_NONBLOCK)))
    exchange = exchange_over(desk, board, pool)
    wait = exchange.ear(pool)
    thread = threading.Thread(target=exchange.run, daemon=True)
    thread.start()
    wait_for(lambda: is_standing(desk), within_s=5)

    engine.put("j1")
    wait()
    token = pool.handover.take()

    assert token is not None
    assert exchange.begin(pool, token, 0).job_id == "j1"
    exchange.finish(pool, 0, Succeeded(token))
    exchange.drain()
    thread.join(5)
    assert engine.get(["j1"])[0].state == "succeeded"
