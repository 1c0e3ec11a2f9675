"""The Redis engine keeps the engine contract through a fail-over that sentinels decide.

A share of the suite, all of it with CICELY_FULL=1: every other case of it on the first master, the rest on
the one that took over after the first was killed while jobs were enqueued.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from functools import cache
from typing import NamedTuple, TypeVar

import pytest
from redis_harness import SentinelHarness

from cicely.core.outcome import Succeeded
from cicely.engines.contract import Engine, Verdict
from cicely.errors import EngineUnavailable
from cicely.testing.conformance import Case, cases
from cicely.testing.conformance.bench import job, session, take_one
from redis_server import shared_sentinels

T = TypeVar("T")

SHARE = 1 if os.environ.get("CICELY_FULL") == "1" else 4
CASES = cases(SentinelHarness)[::SHARE]
PATIENCE_S = 30.0
ENQUEUED_S = 0.5


class FailOver(NamedTuple):
    """What a fail-over did to jobs: when each was accepted, which were lost, and what became of a claim."""

    accepted: dict[str, float]
    lost: list[str]
    took_s: float
    verdicts: list[Verdict]

    @property
    def oldest_s(self) -> float:
        """How long before the last acknowledgement the oldest of the lost was accepted."""
        last_at = max(self.accepted.values())
        return last_at - min((self.accepted[job_id] for job_id in self.lost), default=last_at)


@pytest.mark.parametrize("case", CASES[::2], ids=str)
def test_the_redis_engine_keeps_its_promise_before_a_fail_over(case: Case) -> None:
    case.keep()


@pytest.mark.parametrize("case", CASES[1::2], ids=str)
def test_the_redis_engine_keeps_its_promise_after_a_fail_over(case: Case) -> None:
    fail_over()
    case.keep()


def test_a_fail_over_loses_only_its_last_moments_and_keeps_claims(capsys: pytest.CaptureFixture[str]) -> None:
    done = fail_over()

    with capsys.disabled():
        print(
            f"\nthe suite's fail-over took {done.took_s:.1f} s and lost {len(done.lost)} of "
            f"{len(done.accepted)} jobs, the oldest {done.oldest_s * 1000:.0f} ms before its master died"
        )
    assert len(done.accepted) > 10
    assert done.oldest_s < 1.0
    assert done.verdicts == [Verdict.ACCEPTED, Verdict.ALREADY, Verdict.STALE]


@cache
def fail_over() -> FailOver:
    """Kill the master among calls, once in a run, and wait for the next one."""
    sentinels = shared_sentinels()
    harness = SentinelHarness()
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="held")])
    claim = take_one(engine)
    sentinels.await_replica()

    accepted = _enqueued_until_killed(engine, sentinels.kill_master)
    killed_at = time.monotonic()
    sentinels.await_new_master(PATIENCE_S)
    _repeated(lambda: engine.enqueue([job(id="after")]))

    took_s = time.monotonic() - killed_at
    lost = [job_id for job_id in accepted if engine.get([job_id]) == [None]]
    outcomes = [Succeeded(claim.token), Succeeded(claim.token), Succeeded(b"\0" * len(claim.token))]
    verdicts = [engine.settle("s", [outcome]).verdicts[0] for outcome in outcomes]
    harness.destroy()
    return FailOver(accepted, lost, took_s, verdicts)


def _enqueued_until_killed(engine: Engine, kill: Callable[[], None]) -> dict[str, float]:
    """Enqueue job after job, kill the master among them, and return when which was accepted."""
    accepted: dict[str, float] = {}
    killer = threading.Timer(ENQUEUED_S, kill)
    killer.start()
    with contextlib.suppress(EngineUnavailable):
        while not killer.finished.is_set() or killer.is_alive():
            job_id = f"j{len(accepted)}"
            engine.enqueue([job(id=job_id)])
            accepted[job_id] = time.monotonic()
    killer.join()
    return accepted


def _repeated(call: Callable[[], T]) -> T:
    """Repeat a call until the engine answers it, as the contract allows."""
    give_up_at = time.monotonic() + PATIENCE_S
    while True:
        try:
            return call()
        except EngineUnavailable:
            assert time.monotonic() < give_up_at, f"no answer within {PATIENCE_S} s"
            time.sleep(0.05)
