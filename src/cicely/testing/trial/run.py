"""One trial: a provider, a worker with many processes, a user with ten thousand calls and one with one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import msgspec

from cicely.core.limits import Limit, Rate
from cicely.engines.connect import connect
from cicely.engines.contract import Engine
from cicely.testing.fleet import WorkerProcess, wait_for
from cicely.testing.trial.provider import Provider, used_share
from cicely.worker.options import WorkerOptions

MANY: Final = 10_000


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is tried."""

    url: str
    processes: int
    tokens: int
    period_s: float
    estimate: int
    latency_s: float
    seconds: float


class Result(msgspec.Struct, frozen=True):
    """What came out."""

    calls: int
    refused_share: float
    used_share: float
    second_user_waited_s: float

    @property
    def is_good(self) -> bool:
        """Whether every figure is within its bound."""
        return self.refused_share < 0.01 and self.used_share >= 0.95 and self.second_user_waited_s < 5.0  # noqa: PLR2004


def run(plan: Plan, folder: Path) -> Result:
    """Run one trial."""
    provider = Provider(tokens=plan.tokens, period_s=plan.period_s, latency_s=plan.latency_s)
    rate = f"{plan.tokens}/{plan.period_s:g}s"
    environment = {"CICELY_URL": plan.url, "CICELY_TRIAL_PORT": str(provider.port), "CICELY_TRIAL_RATE": rate}
    from cicely.testing.trial.app import app, complete

    engine = connect(plan.url, role="producer")
    engine.open()
    app.use(engine)
    engine.configure([Limit(key="provider", costs={"tokens": Rate(float(plan.tokens), plan.period_s)})])
    complete.delay_many([("many", plan.estimate)] * MANY)
    worker = WorkerProcess(
        WorkerOptions(target="cicely.testing.trial.app:app", url=plan.url, processes=plan.processes),
        log=folder / "worker.log",
        environment=environment,
    )
    try:
        wait_for(lambda: provider.calls, within_s=60, what=f"a call; the worker said: {worker.said}")
        time.sleep(plan.seconds / 2)
        waited_s = _wait_of_one(plan, engine)
        time.sleep(plan.seconds / 2)
    finally:
        worker.close()
        provider.close()
        app.use(None)
    calls = list(provider.calls)
    return Result(
        len(calls),
        sum(call.is_refused for call in calls) / len(calls),
        used_share(
            calls, tokens=plan.tokens, period_s=plan.period_s, skip_s=min(plan.period_s, plan.seconds / 6)
        ),
        waited_s,
    )


def _wait_of_one(plan: Plan, engine: Engine) -> float:
    from cicely.testing.trial.app import complete

    sent_at = time.time()
    job = complete.delay("one", plan.estimate)
    return job.get(timeout=plan.seconds) - sent_at
