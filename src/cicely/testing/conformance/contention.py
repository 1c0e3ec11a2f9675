"""Many claim at once what only some may have: no limit is exceeded for an instant, no unit given twice."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from cicely.core.breaker import BreakerRule
from cicely.core.flow import Flow, Use
from cicely.core.job import Claim
from cicely.core.limits import Limit, Rate
from cicely.core.outcome import Failed, HandedBack, Outcome, Succeeded
from cicely.core.states import State
from cicely.engines.contract import Engine
from cicely.testing.conformance.bench import (
    QUEUE,
    counts,
    demand,
    held_of,
    job,
    session,
    settle,
    start,
    take,
    using,
    wanting,
)
from cicely.testing.conformance.harness import Capability, Harness

REQUIRES = frozenset({Capability.FLOW, Capability.THREADS})

CROWD = 6
JOBS = 60
Answer = TypeVar("Answer")

GPUS = {"gpu": {"0": 1.0, "1": 1.0}}
#: Jobs take so long in real time, so that some run at once.
RUN_S = 0.001
#: No test here may last longer, whatever the engine does.
PATIENCE_S = 30.0


def test_a_limit_is_exact_while_many_claim(harness: Harness) -> None:
    engine = harness.engine()
    engine.configure([Limit(key="api", concurrency=3)])
    engine.enqueue([job(id=f"j{n}", flow=using("api")) for n in range(JOBS)])

    most = _crowd(harness, lambda claim: ["api"])

    assert most["api"] <= 3
    assert held_of(engine) == 0
    assert counts(engine) == {State.SUCCEEDED: JOBS}


def test_several_limits_are_exact_while_many_claim_in_many_lanes(harness: Harness) -> None:
    engine = harness.engine()
    engine.configure([Limit(key="api", concurrency=3), Limit(key="disk", concurrency=1)])
    flows = [using("api"), using("api", "disk"), using("disk")]
    engine.enqueue([job(id=f"j{n}", lane=f"l{n % 7}", flow=flows[n % 3]) for n in range(JOBS)])

    most = _crowd(harness, lambda claim: list(claim.keys))

    assert most["api"] <= 3
    assert most["disk"] <= 1
    assert (held_of(engine, "api"), held_of(engine, "disk")) == (0, 0)
    assert counts(engine) == {State.SUCCEEDED: JOBS}


def test_no_unit_is_given_twice_while_many_claim(harness: Harness) -> None:
    engine = harness.engine()
    flows = [wanting(gpu=1), wanting(gpu=2), wanting(gpu=1)]
    engine.enqueue([job(id=f"j{n}", flow=flows[n % 3]) for n in range(JOBS)])

    most = _crowd(harness, lambda claim: list(claim.units["gpu"]))

    assert max(most.values()) == 1
    assert counts(engine) == {State.SUCCEEDED: JOBS}


def test_a_limit_is_exact_while_claims_come_back(harness: Harness) -> None:
    engine = harness.engine()
    engine.configure([Limit(key="api", concurrency=3)])
    engine.enqueue([job(id=f"j{n}", flow=using("api")) for n in range(JOBS)])

    most = _crowd(harness, lambda claim: ["api"], end=_with_trouble)

    assert most["api"] <= 3
    assert held_of(engine) == 0
    assert counts(engine) == {State.SUCCEEDED: JOBS}


def test_a_rate_lets_no_more_pass_while_many_claim(harness: Harness) -> None:
    engine = harness.engine()
    engine.configure([Limit(key="api", rate=Rate(500, 60.0))])
    engine.enqueue([job(id=f"j{n}", flow=using("api")) for n in range(JOBS)])

    taken = _at_once(harness, lambda engine, name: len(take(engine, 10, by=name)))

    assert sum(taken) == 15


def test_one_job_probes_while_many_claim(harness: Harness) -> None:
    engine = harness.engine()
    engine.configure([BreakerRule("db", failures=1, cooldown_s=10.0)])
    guarded = Flow(breakers=("db",))
    claim = start(engine, job(id="a", flow=guarded))
    settle(engine, Failed(claim.token, "error", blames=("db",)))
    engine.enqueue([job(id=f"j{n}", flow=guarded) for n in range(JOBS)])
    harness.advance(10.1)

    taken = _at_once(harness, lambda engine, name: len(take(engine, 10, by=name)))

    assert sum(taken) == 1


def test_what_many_acquire_is_exact(harness: Harness) -> None:
    engine = harness.engine()
    engine.configure([Limit(key="api", concurrency=3)])
    engine.enqueue([job(id=f"j{n}") for n in range(CROWD)])

    def acquire(engine: Engine, name: str) -> int:
        [claim] = take(engine, by=name)
        asks = [engine.acquire(name, claim.token, os.urandom(8), [Use("api")]) for _ in range(3)]
        return sum(grant.given for grant in asks)

    assert sum(_at_once(harness, acquire)) == 3
    assert held_of(engine) == 3


class _Watch:
    """How many hold each thing, and the most that ever did at one instant."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: Counter[str] = Counter()
        self.most: Counter[str] = Counter()

    def begin(self, things: list[str]) -> None:
        with self._lock:
            self._held.update(things)
            self.most |= self._held

    def end(self, things: list[str]) -> None:
        with self._lock:
            self._held.subtract(things)


def _succeed(claim: Claim) -> Outcome:
    return Succeeded(claim.token)


def _with_trouble(claim: Claim) -> Outcome:
    """Return a hand-back for a first claim, a failure for a second, then success."""
    match claim.fence:
        case 1:
            return HandedBack(claim.token)
        case 2:
            return Failed(claim.token, "error", retry_in_s=0.0)
        case _:
            return Succeeded(claim.token)


def _crowd(
    harness: Harness, held_by: Callable[[Claim], list[str]], end: Callable[[Claim], Outcome] = _succeed
) -> Counter[str]:
    """Let many claim and run until all is done; return how many held each thing at most at one instant."""
    watch = _Watch()

    def run(engine: Engine, name: str) -> None:
        patience_ends_at = time.monotonic() + PATIENCE_S
        while time.monotonic() < patience_ends_at:
            claims = engine.claim(name, demand(2)).claims
            for claim in claims:
                watch.begin(held_by(claim))
            time.sleep(RUN_S)
            for claim in claims:
                # Let go before it is told: what is seen is never more than what was given out.
                watch.end(held_by(claim))
                settle(engine, end(claim), by=name)
            if not claims and set(counts(engine)) == {State.SUCCEEDED}:
                return
        raise AssertionError("the jobs did not end in time")

    _at_once(harness, run)
    return watch.most


def _at_once(harness: Harness, act: Callable[[Engine, str], Answer]) -> list[Answer]:
    """Let several threads act at once, each on a connection and in a session of its own."""
    engines = [harness.engine() for _ in range(CROWD)]
    for number, engine in enumerate(engines):
        engine.join(session(id=f"s{number}", queues=(QUEUE,), offers=GPUS))
    with ThreadPoolExecutor(CROWD) as pool:
        acts = [pool.submit(act, engine, f"s{n}") for n, engine in enumerate(engines)]
        return [each.result(PATIENCE_S) for each in acts]
