"""What a child's exchange does with the hand-over when its worker stops."""

import os

from cicely.core.intake import Turns
from cicely.core.job import Kind
from cicely.engines.memory import MemoryEngine
from cicely.worker.board import Board
from cicely.worker.exchange import Exchange
from cicely.worker.handover import STOP, Handover
from cicely.worker.pool import Pool


def test_giving_back_what_waits_leaves_the_word_to_stop():
    pool = Pool((Kind.SYNC,), 1, Handover(*os.pipe2(os.O_NONBLOCK)))
    exchange = Exchange(
        MemoryEngine(),
        "a",
        board=Board.create(threads=1, coroutines=0),
        pools=(pool,),
        turns=Turns(()),
        start_s=10.0,
        max_jobs=0,
        on_lost=print,
    )
    pool.handover.put([STOP])

    exchange.give_back("its worker stops")

    assert pool.handover.take() == STOP
