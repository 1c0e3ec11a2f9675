"""The run: enqueue everything, kill a worker half-way, wait for the end, and look at what happened."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import msgspec

from cicely.cli.demonstration.app import app, grade
from cicely.cli.demonstration.crew import PROCESSES, Crew, Stage
from cicely.cli.demonstration.plan import Candidate
from cicely.cli.demonstration.report import Kill, Report, faults, outcome_of, re_runs_after_kill, table
from cicely.cli.demonstration.variants import Variant
from cicely.core.job import Job
from cicely.core.states import FINAL, State
from cicely.engines.connect import connect
from cicely.engines.contract import Engine
from cicely.testing.ledger import Ledger, judge

WORKERS: Final = 2
SLOTS: Final = WORKERS * PROCESSES

_LOOK_S: Final = 0.2
_PAGE: Final = 200
#: Well beyond what the endless loops take on a slow machine.
_PATIENCE_S: Final = 60.0
_PATIENCE_PER_JOB_S: Final = 1.0


class Standing(msgspec.Struct, frozen=True):
    """How far the demo is."""

    done: int
    total: int
    running: int
    ran_s: float

    @property
    def rate(self) -> float:
        """Jobs per second so far."""
        return self.done / self.ran_s if self.ran_s > 0 else 0.0


class Audience(Protocol):
    """Who watches."""

    def see(self, standing: Standing) -> None:
        """Look at how far it is."""

    def hear(self, line: str) -> None:
        """Be told that something happened."""


def play(candidates: Sequence[Candidate], stage: Stage, audience: Audience) -> Report:
    """Grade all of `candidates` and return what came of them. Raises EngineError at the start."""
    began_at = time.monotonic()
    app.use(connect(stage.url, role="producer"))
    try:
        _enqueue(candidates)
        performance = _Performance(stage, audience, total=len(candidates), began_at=began_at)
        try:
            performance.run()
        finally:
            performance.end()
        jobs = _records(app.engine, [candidate.job_id for candidate in candidates])
        return _report(candidates, jobs, performance)
    finally:
        app.use(None)


def _enqueue(candidates: Sequence[Candidate]) -> None:
    for start in range(0, len(candidates), _PAGE):
        with app.batch():
            for one in candidates[start : start + _PAGE]:
                # A tag for those who look at the jobs: it is not part of what a worker is given.
                asked = grade.options(id=one.job_id, tags=[str(one.variant)])
                asked.delay(one.source, one.test, one.entry_point)


class _Performance:
    """The workers at work."""

    def __init__(self, stage: Stage, audience: Audience, *, total: int, began_at: float) -> None:
        self.stage = stage
        self.began_at = began_at
        self.kill: Kill | None = None
        self.mishaps: list[str] = []
        self._audience = audience
        self._total = total
        self._crew = Crew(stage)

    def run(self) -> None:
        """Return when all jobs have ended, or when there is no hope that they will."""
        for _ in range(WORKERS):
            self._crew.hire()
        give_up_at = time.monotonic() + _PATIENCE_S + _PATIENCE_PER_JOB_S * self._total
        while (standing := self._standing()).done < self._total:
            self._audience.see(standing)
            self._look_after_the_crew()
            if not self._crew.working:
                return
            if time.monotonic() > give_up_at:
                self.mishaps.append(f"gave up after {standing.ran_s:.0f} s")
                return
            if self.kill is None and 2 * standing.done >= self._total:
                self._kill_one(standing)
            time.sleep(_LOOK_S)
        self._audience.see(standing)

    def _standing(self) -> Standing:
        counts = [queue.counts for queue in app.engine.queues()]
        return Standing(
            done=sum(count.get(state, 0) for count in counts for state in FINAL),
            total=self._total,
            running=sum(count.get(State.RUNNING, 0) for count in counts),
            ran_s=time.monotonic() - self.began_at,
        )

    def _look_after_the_crew(self) -> None:
        for sentence in self._crew.deserted():
            self.mishaps.append(sentence)
            self._audience.hear(sentence)

    def _kill_one(self, standing: Standing) -> None:
        number = min(self._crew.working)
        pid = self._crew.kill(number)
        self.kill = Kill(pid=pid, at_s=standing.ran_s, done=standing.done)
        successor = self._crew.hire()
        self._audience.hear(
            f"half-way: killed worker {number} (pid {pid}) with SIGKILL; worker {successor} replaces it"
        )

    def end(self) -> None:
        """Stop the workers."""
        self._crew.dismiss()


def _records(engine: Engine, ids: Sequence[str]) -> dict[str, Job | None]:
    records: dict[str, Job | None] = {}
    for start in range(0, len(ids), _PAGE):
        page = ids[start : start + _PAGE]
        records.update(zip(page, engine.get(page), strict=True))
    return records


def _report(
    candidates: Sequence[Candidate], jobs: Mapping[str, Job | None], performance: _Performance
) -> Report:
    judgement = judge(
        Ledger(performance.stage.ledger),
        attempted=len(candidates),
        acknowledged=[candidate.job_id for candidate in candidates],
        jobs=jobs,
    )
    outcomes = table(candidates, _outcomes(jobs))
    rights = [candidate for candidate in candidates if candidate.variant is Variant.RIGHT]
    return Report(
        problems=len({candidate.task_id for candidate in candidates}),
        jobs=len(candidates),
        outcomes=outcomes,
        right=len(rights),
        right_passed=outcomes.get("passed", {}).get(Variant.RIGHT, 0),
        attempts=judgement.started,
        re_runs_after_kill=re_runs_after_kill(judgement, jobs),
        kill=performance.kill,
        judgement=judgement,
        wall_s=time.monotonic() - performance.began_at,
        faults=performance.mishaps + faults(outcomes, judgement, kill=performance.kill),
    )


def _outcomes(jobs: Mapping[str, Job | None]) -> dict[str, str]:
    values = app.values_without_engine()
    return {
        job_id: outcome_of(job, values.unpack(job_id, job.result) if job and job.result else None)
        for job_id, job in jobs.items()
    }
