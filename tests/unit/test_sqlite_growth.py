"""The file does not grow for ever: months of jobs of every sort in virtual time, swept in bounded steps."""

import random
from pathlib import Path

import pytest
from sqlite_bench import engine, rows

from cicely.core.edge import Edge
from cicely.core.job import DAY_S, Claim
from cicely.core.outcome import Failed, Outcome, Step, Succeeded
from cicely.core.rollup import Count, Word
from cicely.engines.contract import Save
from cicely.engines.sqlite import forgetting
from cicely.engines.sqlite.engine import SqliteEngine
from cicely.testing.clock import VirtualClock
from cicely.testing.conformance.bench import demand, job, session, using

__all__ = ["engine"]

#: Sessions are known for 90 days, nothing for longer: from then on each day forgets as much as it writes.
THIRD_DAYS = 50
PAGE_BYTES = 4_096
#: Which pages are half full is chance: ids are random.
SLACK_PAGES = 2

#: What is kept for longer than its job: of each there is something when the test ends.
TABLES = ("tomb", "blob", "blob_watch", "event", "rollup", "history", "session", "lane")


class Months:
    """One worker and its callers, a round of jobs of every sort each day."""

    def __init__(self, engine: SqliteEngine, clock: VirtualClock) -> None:
        self._engine = engine
        self._clock = clock
        self._chance = random.Random(1)
        self._path = Path(engine.facts().address)
        self._day = 0

    def live(self, days: int) -> tuple[int, int]:
        """Let so many days pass; return the most pages that the file, and its log, had at the end of one."""
        sizes = [self._live_a_day() for _ in range(days)]
        return max(file for file, _ in sizes), max(log for _, log in sizes)

    def _live_a_day(self) -> tuple[int, int]:
        engine, worker = self._engine, self._id()
        self._day += 1
        engine.join(session(id=worker, worker=worker))
        failing, retried = self._send()
        while claims := engine.claim(worker, demand(50)).claims:
            self._save(worker, claims[:3])
            self._clock.advance(2.0)
            ends = [self._end_of(claim, failing, retried) for claim in claims]
            engine.settle(worker, ends)
        engine.report([Count(Word.BEATS)])
        engine.retire(worker)
        self._clock.advance(DAY_S)
        while engine.sweep(100).more:
            pass
        log = self._path.with_name(f"{self._path.name}-wal")
        return self._path.stat().st_size // PAGE_BYTES, log.stat().st_size // PAGE_BYTES

    def _id(self) -> str:
        return self._chance.randbytes(16).hex()

    def _send(self) -> tuple[set[str], set[str]]:
        """Enqueue what a day brings; return which jobs fail, and which do so once."""
        engine, day, some_bytes = self._engine, self._day, self._chance.randbytes(60_000)
        plain = [job(id=self._id(), body=some_bytes[:300], tags=(f"day-{day}",)) for _ in range(40)]
        named = [job(id=f"{day}/{n}", remember_s=30 * DAY_S, unique=f"{n}") for n in range(8)]
        keyed = [
            job(id=self._id(), lane=f"{day}/{n}", flow=using(f"user/{self._id()}"), body=some_bytes[:3_000])
            for n in range(4)
        ]
        late = [job(id=self._id(), expires_s=1.0, delay_s=2.0) for _ in range(3)]
        flows = [job(id=self._id(), workflow=f"flow {day}") for _ in range(5)]
        for one in plain[:3]:
            engine.put_blob(one.id, "digest", some_bytes)
        engine.put_blob(self._id(), "of nobody", some_bytes)
        engine.enqueue(
            [*plain, *named, *keyed, *late, *flows], [Edge(flows[0].id, flow.id) for flow in flows[1:]]
        )
        engine.signal(self._id(), "approved", f"{day}", some_bytes[:500])
        return {plain[3].id, plain[4].id}, {plain[5].id, plain[6].id}

    def _save(self, worker: str, claims: tuple[Claim, ...]) -> None:
        steps = (Step("first", b"value"),)
        self._engine.save(
            worker, [Save(claim.token, progress=b"half", checkpoint=b"some", steps=steps) for claim in claims]
        )

    def _end_of(self, claim: Claim, failing: set[str], retried: set[str]) -> Outcome:
        if claim.job_id in failing:
            return Failed(claim.token, "error", b"why " * 200)
        if claim.job_id in retried and claim.attempt == 1:
            return Failed(claim.token, "error", b"why " * 200, retry_in_s=0.0)
        return Succeeded(claim.token, b"result " * 20)


@pytest.mark.timeout(600)  # some five seconds of one core, which a crowded machine may take minutes for
def test_the_file_and_its_log_do_not_grow_for_ever(engine, clock, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(forgetting, "_MOST_LANES", 100)
    months = Months(engine, clock)

    months.live(THIRD_DAYS)
    second = months.live(THIRD_DAYS)
    third = months.live(THIRD_DAYS)

    kept = {table: rows(engine, f"SELECT count(*) FROM {table}")[0][0] for table in TABLES}
    assert all(kept.values()), kept
    assert third[0] <= second[0] + SLACK_PAGES, (second, third, kept)
    assert third[1] <= second[1] + SLACK_PAGES, (second, third, kept)
