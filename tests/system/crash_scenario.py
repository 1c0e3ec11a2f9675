"""A scenario of 200 jobs or fewer of all kinds, for the crash loop.

Each life repeats every enqueue and every cancellation by id.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from crash_life import BOUND_S, Life, get, words

import cicely
from cicely import Cicely, Retry
from cicely.core.job import Job
from cicely.engines.connect import connect
from cicely.testing.fleet import wait_for
from cicely.testing.ledger import Ledger, judge
from cicely.testing.torture.report import fences_out_of_order_in, unexplained_in
from cicely.worker.control import Drain

KINDS = {
    "plain": 100,
    "fails_once": 30,
    "fails": 10,
    "late": 20,
    "walks": 15,
    "together": 5,
    "never": 5,
    "endless": 5,
    "message": 10,
}
ENDS = {"fails": "failed", "never": "cancelled", "endless": "cancelled"}


class Scenario:
    """The jobs, by kind, on the engine at `url`; `share` of 200, and one of each kind at least."""

    def __init__(self, url: str, share: float = 1.0) -> None:
        self.url = url
        self.share = share
        self.ids = {
            kind: [f"{kind}-{number:03d}" for number in range(max(1, int(share * count)))]
            for kind, count in KINDS.items()
        }
        self.all = [job_id for ids in self.ids.values() for job_id in ids]
        self.states = {
            job_id: ENDS.get(kind, "succeeded") for kind, ids in self.ids.items() for job_id in ids
        }

    def life(self, folder: Path) -> Life:
        """Return a life on its engine."""
        return LifeOfJobs(folder, self)

    def faults(self, folder: Path, dead: set[int]) -> list[str]:
        """Return what is wrong after the last life; `dead` are the pids that died."""
        return faults_in(folder, self, dead)


class Jobs:
    """The functions of the scenario; each attempt is noted in the ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def noted(self):
        context = cicely.current()
        return self.ledger.attempt(context.job_id, context.fence)

    def plain(self) -> None:
        with self.noted():
            pass

    def fails_once(self) -> None:
        with self.noted():
            if cicely.current().attempt == 1:
                raise ConnectionError

    def fails(self) -> None:
        with self.noted():
            raise ValueError

    def walks(self) -> None:
        with self.noted():
            context = cicely.current()
            if context.restored != "half":
                context.progress(1, 2)
                context.checkpoint("half")
                raise ConnectionError

    async def together(self) -> None:
        with self.noted():
            await asyncio.sleep(0.01)

    async def endless(self) -> None:
        with self.noted():
            await asyncio.sleep(600)


# --- one life -----------------------------------------------------------------------------------
class LifeOfJobs(Life):
    """A life with the jobs of the scenario; the ledger lies in `folder`."""

    def __init__(self, folder: Path, scenario: Scenario) -> None:
        app = Cicely("crash", scenario.url, functions_from=[])
        super().__init__(folder, app)
        self.scenario = scenario
        self.ids = scenario.ids
        jobs = Jobs(Ledger(folder / "ledger"))
        again = Retry(attempts=3, backoff=0.01)
        options = {"fails_once": {"retry": again}, "walks": {"retry": again}}
        self.tasks = {
            name: app.task(name=name, **options.get(name, {}))(getattr(jobs, name))
            for name in ("plain", "fails_once", "fails", "walks", "together", "endless")
        }
        self.queue = app.queue("post")

    def produce(self) -> None:
        tasks = self.tasks
        for name in ("plain", "fails_once", "fails", "walks", "together", "endless"):
            self.enqueue(tasks[name], self.ids[name])
        self.enqueue(tasks["plain"].options(countdown=0.03), self.ids["late"])
        with self.app.batch():
            for job_id in self.ids["never"]:
                tasks["plain"].options(id=job_id, countdown=600).delay()
        self.acknowledge(self.ids["never"])
        for job_id in self.ids["message"]:
            self.queue.send(job_id, id=job_id)
            self.acknowledge([job_id])
        for job_id in [*self.ids["never"], *self.ids["endless"]]:
            self.cancel(job_id)
        self.consume()
        self.await_rest()
        self.control.say(Drain())

    def enqueue(self, task, ids: list[str]) -> None:
        unused = iter(ids)
        task.delay_many((() for _ in ids), ids=lambda row: next(unused))
        self.acknowledge(ids)

    def cancel(self, job_id: str) -> None:
        if job_id in self.ids["endless"]:
            running = ("running", "cancelled")
            wait_for(
                lambda: self.app.job(job_id).state in running,
                within_s=BOUND_S,
                what=f"{job_id} running",
            )
        self.app.cancel(job_id)

    def consume(self) -> None:
        """Receive until every message is done with; each third is given back the first time."""
        while not all(record.state.is_final for record in get(self.app.engine, self.ids["message"])):
            for message in self.queue.receive(max=3, wait=0.02):
                self.note("received", message.id)
                if message.attempt == 1 and int(message.id[-3:]) % 3 == 0:
                    message.nack()
                elif message.ack():
                    self.note("received", f"ack:{message.id}")

    def await_rest(self) -> None:
        def moving() -> list[Job]:
            return [job for job in get(self.app.engine, self.scenario.all) if not job.state.is_final]

        try:
            wait_for(lambda: not moving(), within_s=BOUND_S)
        except AssertionError as late:
            raise AssertionError(f"still moving: {moving()}") from late


# --- what is left of it -------------------------------------------------------------------------
def faults_in(folder: Path, scenario: Scenario, dead: set[int]) -> list[str]:
    """Return what is wrong after the last life has come to its end; `dead` are the pids that died."""
    engine = connect(scenario.url, role="producer")
    engine.open()
    records = dict(zip(scenario.all, engine.get(scenario.all), strict=True))
    engine.close()
    ledger = Ledger(folder / "ledger")
    lines = ledger.lines()
    judgement = judge(ledger, attempted=len(scenario.all), acknowledged=scenario.all, jobs=records)
    wrong = {
        job_id: record.state.value
        for job_id, record in records.items()
        if record is not None and record.state != scenario.states[job_id]
    }
    found = [f"lost: {job_id}" for job_id in words(folder, "lost")]
    found += [f"{job_id} ended as {state}" for job_id, state in wrong.items()]
    found += [] if judgement.is_clean else [repr(judgement)]
    found += [f"ran again for no reason: {line}" for line in unexplained_in(lines, records, dead)]
    found += ["fences out of order"] * fences_out_of_order_in(lines)
    return found + received_after_ack(words(folder, "received"))


def received_after_ack(received: list[str]) -> list[str]:
    acked = set()
    found = []
    for word in received:
        if word.startswith("ack:"):
            acked.add(word[4:])
        elif word in acked:
            found.append(f"{word} was received after it was acknowledged")
    return found
