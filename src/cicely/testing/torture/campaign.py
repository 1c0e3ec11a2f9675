"""A torture from beginning to end: producers, workers, faults, and the judgement of it all."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from cicely.core.job import Job
from cicely.engines.connect import connect
from cicely.engines.contract import Engine
from cicely.testing.fleet import ELSEWHERE, WorkerProcess, can_be_elsewhere
from cicely.testing.ledger import Ledger, judge
from cicely.testing.torture import app as jobs
from cicely.testing.torture.faults import Saboteur
from cicely.testing.torture.producer import Order
from cicely.testing.torture.report import (
    Report,
    fences_out_of_order_in,
    retries_in,
    unexplained_in,
)
from cicely.worker.supervisor import WorkerOptions

_PAGE: Final = 200
_REFUSED: Final = "an outcome came too late and was refused"
_SAY_EVERY_S: Final = 10.0
#: The share of faults that hit a producer instead of a worker.
_PRODUCER_KILLS: Final = 0.04


class Campaign:
    """One engine under torture. Use as a context manager; everything it started ends with it."""

    def __init__(
        self, url: str, *, seed: int, workers: int = 2, processes: int = 2, lease_s: float = 2.0
    ) -> None:
        self.url = url
        self.seed = seed
        self.folder = Path(tempfile.mkdtemp(prefix="cicely-torture-"))
        self.ledger = Ledger(self.folder / "ledger")
        self.workers: list[WorkerProcess] = []
        self.idle_jobs = 0
        self.idle_re_runs = 0
        self.saboteur = Saboteur(self, lease_s=lease_s, seed=seed)
        self._size = workers
        self._processes = processes
        self._lease_s = lease_s
        self._began_at = time.monotonic()
        self._run = f"torture-{seed}-{os.urandom(4).hex()}"
        self._retired: list[WorkerProcess] = []
        self._producers: list[subprocess.Popen[bytes]] = []
        self._random = random.Random(seed)  # noqa: S311  (repeatable by its seed)
        self._environment = {
            "CICELY_URL": url,
            jobs.LEDGER_VARIABLE: str(self.ledger.folder),
            jobs.QUEUE_VARIABLE: self._run,
        }
        self.engine: Engine = connect(url, role="producer")

    def __enter__(self) -> Campaign:
        """Open the engine and start the workers."""
        self.engine.open()
        self.workers = [self._start() for _ in range(self._size)]
        for worker in self.workers:
            worker.await_children(self._processes)
        return self

    def __exit__(self, *exc_info: object) -> None:
        """End everything."""
        self.end_producers()
        self.saboteur.end()
        for worker in [*self.workers, *self._retired]:
            worker.close()
        self.engine.close()

    # --- workers --------------------------------------------------------------------------------
    def _start(self, *, inside: Sequence[str] = ()) -> WorkerProcess:
        options = WorkerOptions(
            target="cicely.testing.torture.app:app",
            url=self.url,
            groups=(((self._run, 1.0),),),
            processes=self._processes,
            lease_s=self._lease_s,
            grace_s=1.0,
        )
        number = len(self.workers) + len(self._retired)
        log = self.folder / f"worker-{number}.log"
        return WorkerProcess(options, log=log, environment=self._environment, inside=inside)

    def replace(self, worker: WorkerProcess) -> None:
        """Start another worker in the place of one that is gone or going."""
        self._retired.append(worker)
        self.workers[self.workers.index(worker)] = self._start()

    # --- producers ------------------------------------------------------------------------------
    def start_producer(self, *, per_second: float = 120.0, count: int = 0) -> subprocess.Popen[bytes]:
        """Start another producer: without end, or of `count` short jobs."""
        number = len(self._producers)
        order = Order(
            folder=str(self.folder),
            prefix=f"{self._run}-{number}",
            seed=self.seed + number,
            per_second=per_second,
            count=count,
        )
        program = [sys.executable, "-m", "cicely.testing.torture.producer"]
        with (self.folder / "producers.log").open("ab") as log:
            producer = subprocess.Popen(
                [*program, msgspec.json.encode(order).decode()],
                env={**os.environ, **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._producers.append(producer)
        return producer

    def kill_producer(self) -> None:
        """SIGKILL the producers, wherever they are, and start another."""
        self.end_producers()
        self.saboteur.counts["producer killed"] += 1
        self.start_producer()

    def end_producers(self) -> None:
        """Kill those that still live."""
        for producer in self._producers:
            if producer.poll() is None:
                producer.kill()
                producer.wait()

    # --- phases ---------------------------------------------------------------------------------
    def run_idle(self, count: int, *, within_s: float) -> None:
        """Run `count` short jobs while nothing is done to anybody, and count those that ran again.

        Where this is allowed, some of them run in a pid namespace of their own, whose worker nobody
        may take for dead.
        """
        if can_be_elsewhere():
            elsewhere = self._start(inside=ELSEWHERE)
            self._retired.append(elsewhere)
            elsewhere.await_children(self._processes)
        producer = self.start_producer(count=count)
        if producer.wait(within_s):
            raise RuntimeError((self.folder / "producers.log").read_text())
        self.await_rest(within_s=within_s)
        for worker in self._retired:
            worker.close()
        starts = Counter(line.job_id for line in self.ledger.lines() if line.what == "start")
        self.idle_jobs = count
        self.idle_re_runs = sum(times - 1 for times in starts.values())

    def torment(self, *, for_s: float, announce: Callable[[str], None]) -> None:
        """Inject faults at random instants while a producer goes on."""
        self.start_producer()
        over_at = time.monotonic() + for_s
        say_at = time.monotonic() + _SAY_EVERY_S
        strike_at = time.monotonic() + 0.5
        while (now := time.monotonic()) < over_at:
            self.saboteur.relent()
            if now >= strike_at:
                self._strike()
                strike_at = time.monotonic() + self._random.uniform(0.02, 0.45)
            if now >= say_at:
                say_at = now + _SAY_EVERY_S
                announce(self._standing(over_at - now))
            time.sleep(0.02)
        self.saboteur.end()
        self.end_producers()

    def _strike(self) -> None:
        if self._random.random() < _PRODUCER_KILLS:
            self.kill_producer()
        else:
            self.saboteur.strike()

    def _standing(self, left_s: float) -> str:
        faults = sum(self.saboteur.counts.values())
        return f"{left_s:4.0f} s to go: {len(self.acknowledged()):,} jobs accepted, {faults} faults injected"

    # --- judging --------------------------------------------------------------------------------
    def attempted(self) -> list[str]:
        """Return the ids whose enqueue was sent."""
        return self._ids("attempted")

    def acknowledged(self) -> list[str]:
        """Return the ids whose enqueue was answered."""
        return self._ids("acknowledged")

    def _ids(self, name: str) -> list[str]:
        file = self.folder / name
        if not file.exists():
            return []
        # The last line of a killed producer may be torn.
        return [line for line in file.read_text().split("\n")[:-1] if line.startswith(self._run)]

    def records(self, ids: Iterable[str]) -> dict[str, Job | None]:
        """Return the engine's record of each job."""
        wanted = list(ids)
        found: dict[str, Job | None] = {}
        for start in range(0, len(wanted), _PAGE):
            page = wanted[start : start + _PAGE]
            found.update(zip(page, self.engine.get(page), strict=True))
        return found

    def await_rest(self, *, within_s: float) -> int:
        """Wait until every job has ended; return how many have not, after `within_s`."""
        moving = self.acknowledged()
        give_up_at = time.monotonic() + within_s
        while moving and time.monotonic() < give_up_at:
            self.saboteur.relent()
            time.sleep(0.1)
            at = {job_id: job for job_id, job in self.records(moving).items() if job is not None}
            moving = [job_id for job_id in moving if job_id in at and not at[job_id].state.is_final]
        return len(moving)

    def stop_workers(self) -> None:
        """Ask the workers to stop, so that nothing moves while it is judged."""
        for worker in self.workers:
            worker.terminate()
        for worker in self.workers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(within_s=15.0)

    def report(self, *, still_moving: int) -> Report:
        """Judge everything that happened."""
        attempted = self.attempted()
        records = self.records(attempted)
        lines = self.ledger.lines()
        logs = [worker.said for worker in [*self.workers, *self._retired]]
        states = Counter(job.state.value for job in records.values() if job is not None)
        return Report(
            url=self.url,
            seed=self.seed,
            seconds=time.monotonic() - self._began_at,
            judgement=judge(
                self.ledger,
                attempted=len(attempted),
                acknowledged=self.acknowledged(),
                jobs=records,
            ),
            faults=dict(self.saboteur.counts),
            states=dict(states),
            idle_jobs=self.idle_jobs,
            idle_re_runs=self.idle_re_runs,
            retries=retries_in(records.values()),
            unexplained=len(unexplained_in(lines, records, self.saboteur.victims)),
            fences_out_of_order=fences_out_of_order_in(lines),
            stale_refused=sum(log.count(_REFUSED) for log in logs),
            still_moving=still_moving,
        )


def run(
    url: str,
    *,
    minutes: float = 2.0,
    seed: int | None = None,
    idle_jobs: int = 10_000,
    announce: Callable[[str], None] = lambda line: None,
) -> Report:
    """Torture the engine at `url` with real processes for so many minutes, and judge it.

    What the workers said and the ledger stay in a folder that is named where a promise was broken,
    and are deleted otherwise.
    """
    chosen = random.SystemRandom().randrange(1 << 31) if seed is None else seed
    with Campaign(url, seed=chosen) as campaign:
        announce(f"seed {chosen}; {len(campaign.workers)} workers on {url}")
        if idle_jobs:
            announce(f"first {idle_jobs:,} jobs while nothing is done to anybody")
            campaign.run_idle(idle_jobs, within_s=120.0)
        announce(f"now {minutes:g} minutes of faults")
        campaign.torment(for_s=minutes * 60, announce=announce)
        announce("no more faults; waiting until every job has ended")
        still_moving = campaign.await_rest(within_s=120.0)
        campaign.stop_workers()
        report = campaign.report(still_moving=still_moving)
    if report.is_clean:
        shutil.rmtree(campaign.folder)
    else:
        announce(f"what was said and done is in {campaign.folder}")
    return report
