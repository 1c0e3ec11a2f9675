"""Bells of the memory engine: idle sessions do not wake each other for what none of them may take."""

from __future__ import annotations

from cicely.core.job import Kind, NewJob
from cicely.engines.contract import Ask, Demand, Session
from cicely.engines.memory import MemoryEngine


def test_sessions_that_look_in_vain_into_a_paused_queue_let_each_other_sleep():
    engine = MemoryEngine()
    bells = []
    for name in ("s", "t"):
        engine.join(Session(id=name, worker="w", tasks=frozenset({"work"})))
        bells.append(engine.doorbell(name))
    engine.pause("main")
    engine.enqueue([NewJob(id="a", task="work", kind=Kind.SYNC, queue="main")])

    bells[1].arm()
    engine.claim("s", Demand(b"request.", ("main",), (Ask((Kind.SYNC,), 1),)))

    assert bells[1].is_armed
    for bell in bells:
        bell.close()
