"""What a child's exchange does with the hand-over when its worker stops."""

import os
import threading

from cicely.core.intake import Turns
from cicely.core.job import Kind
from cicely.engines.contract import Demand, Intake, Session
from cicely.engines.memory import MemoryEngine
from cicely.errors import EngineUnavailable
from cicely.worker.board import Board
from cicely.worker.exchange import Exchange
from cicely.worker.handover import STOP, Handover
from cicely.worker.pool import Pool
from cicely.worker.processes import boottime


class Away(MemoryEngine):
    """An engine that answers no claim, and says when it was asked for one."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()

    def claim(self, session_id: str, demand: Demand) -> Intake:
        self.asked.set()
        raise EngineUnavailable("it is away")


def _pool() -> Pool:
    return Pool((Kind.SYNC,), 1, Handover(*os.pipe2(os.O_NONBLOCK)))


def _exchange(engine: MemoryEngine, pool: Pool) -> Exchange:
    board = Board.create(threads=1, coroutines=0)
    board.deadline_at = boottime() + 60.0
    return Exchange(
        engine,
        "a",
        board=board,
        pools=(pool,),
        turns=Turns(((("main", 1),),)),
        start_s=10.0,
        max_jobs=0,
        on_lost=print,
    )


def test_who_is_to_stop_does_not_insist_on_a_claim():
    engine = Away()
    engine.join(Session(id="a", worker="a", tasks=frozenset({"work"})))
    exchange = _exchange(engine, _pool())
    thread = threading.Thread(target=exchange.run, daemon=True)
    thread.start()
    assert engine.asked.wait(5)

    exchange.drain()
    thread.join(5)

    assert not thread.is_alive()


def test_giving_back_what_waits_leaves_the_word_to_stop():
    pool = _pool()
    exchange = _exchange(MemoryEngine(), pool)
    pool.handover.put([STOP])

    exchange.give_back("its worker stops")

    assert pool.handover.take() == STOP
