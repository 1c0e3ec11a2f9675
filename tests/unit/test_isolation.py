"""The child's side of an attempt in a process of its own, where there is none."""

from __future__ import annotations

import select
import threading

import pytest

from cicely.core.codec import Codec
from cicely.core.intake import Turns
from cicely.core.job import Claim, Kind
from cicely.core.outcome import Deferred, Failed
from cicely.core.retry import Retry, Timeout
from cicely.core.task import Limits, Task, TaskOptions
from cicely.engines.memory import MemoryEngine
from cicely.values import Values
from cicely.worker.board import Board
from cicely.worker.exchange import Exchange
from cicely.worker.isolation import NO_PROCESS_AGAIN_S, Isolated
from cicely.worker.line import Fork, Line, Refused, pair
from cicely.worker.nursery import Nursery

VALUES = Values(Codec(), None)
CLAIM = Claim(
    token=bytes(16),
    job_id="job",
    task="t",
    kind=Kind.ISOLATED,
    queue="default",
    fence=1,
    body=VALUES.pack_call("job", (), kwargs={}, where="test"),
)


class RefusingZygote(Line):
    """The other end of a nursery: it has no process to give."""

    def answer(self) -> None:
        poller = select.poll()
        poller.register(self, select.POLLIN)
        poller.poll(5000)
        message, _ = self.receive()
        assert isinstance(message, Fork)
        self.send(Refused(message.request, "Resource temporarily unavailable"))


@pytest.fixture
def zygote_and_isolated():
    ours, theirs = pair()
    board = Board.create(threads=1, coroutines=0)
    exchange = Exchange(
        MemoryEngine(),
        "a",
        board=board,
        pools=(),
        turns=Turns(()),
        start_s=10.0,
        max_jobs=0,
        on_lost=print,
    )
    nursery = Nursery(ours)
    yield RefusingZygote(theirs), Isolated(nursery, board, VALUES, exchange=exchange, target="a:b"), board
    theirs.close()


def run(isolated: Isolated, options: TaskOptions):
    return isolated.run(CLAIM, Task("t", lambda: None, options), 0, is_ending=lambda: False)


def test_a_job_for_which_there_is_no_process_waits_a_moment_at_no_cost(zygote_and_isolated):
    zygote, isolated, board = zygote_and_isolated
    answering = threading.Thread(target=zygote.answer)
    answering.start()

    outcome = run(isolated, TaskOptions())

    answering.join(5)
    assert isinstance(outcome, Deferred)
    assert outcome.delay_s == NO_PROCESS_AGAIN_S
    assert "Resource temporarily unavailable" in outcome.reason
    assert board.running() == []


def test_a_job_whose_backoff_is_broken_fails_before_it_is_forked(zygote_and_isolated):
    _, isolated, board = zygote_and_isolated
    retry = Retry(on=Timeout, backoff=lambda attempt: 1 / 0)

    outcome = run(isolated, TaskOptions(retry=retry, limits=Limits(timeout_s=30)))

    assert isinstance(outcome, Failed)
    assert outcome.retry_in_s is None
    assert board.running() == []
