"""What takes part in a torture: producers, workers, their networks, and the judgement of it all."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from cicely.core.job import Job
from cicely.core.limits import Limit
from cicely.engines.connect import connect, redacted
from cicely.engines.contract import Engine
from cicely.patience import patiently
from cicely.testing.fleet import ELSEWHERE, WorkerProcess, can_be_elsewhere
from cicely.testing.ledger import Ledger, Line, judge
from cicely.testing.torture import app as jobs
from cicely.testing.torture import crowded
from cicely.testing.torture.crowding import Alone, Crowding, crowding_of
from cicely.testing.torture.faults import Saboteur, Server
from cicely.testing.torture.networks import (
    Network,
    can_pull_cables,
    impatient,
    namespace_before,
    network_before,
)
from cicely.testing.torture.producer import Order
from cicely.testing.torture.report import (
    Report,
    fences_out_of_order_in,
    late_s,
    retries_in,
    unexplained_in,
)
from cicely.worker.options import WorkerOptions

_PAGE: Final = 200
_REFUSED: Final = "an outcome came too late and was refused"
_STOP_S: Final = 15.0
#: Until a server that was started again answers.
_PATIENCE_S: Final = 15.0


class Campaign:
    """One engine under torture. Use as a context manager; everything it started ends with it.

    Each worker has a network of its own before the engine, where the URL has a host: for root, the first
    of them is a network namespace. `server` is killed, where it is given.
    """

    def __init__(
        self,
        url: str,
        *,
        seed: int,
        workers: int = 2,
        processes: int = 2,
        lease_s: float = 2.0,
        server: Server | None = None,
    ) -> None:
        self.url = url
        self.seed = seed
        self.folder = Path(tempfile.mkdtemp(prefix="cicely-torture-"))
        self.ledger = Ledger(self.folder / "ledger")
        self.workers: list[WorkerProcess] = []
        self.idle_jobs = 0
        self.idle_re_runs = 0
        self.due: dict[str, float] = {}
        self.saboteur = Saboteur(
            self, lease_s=lease_s, seed=seed, journal=self.folder / "faults", server=server
        )
        self.has_networks = False
        self.leaked = 0
        self._size = workers
        self._processes = processes
        self._networks: dict[WorkerProcess, Network] = {}
        self._began_at = time.monotonic()
        self._run = f"torture-{seed}-{os.urandom(4).hex()}"
        #: The key of the limit that all workers share.
        self.gate = f"{self._run}/gate"
        self._retired: list[WorkerProcess] = []
        self._started = 0
        self._producers: list[subprocess.Popen[bytes]] = []
        self._environment = {
            "CICELY_URL": url,
            jobs.LEDGER_VARIABLE: str(self.ledger.folder),
            jobs.QUEUE_VARIABLE: self._run,
        }
        self.engine: Engine = connect(url, role="producer")
        # An engine may still have to learn it.
        self._is_crowded = hasattr(self.engine, "surroundings")

    def __enter__(self) -> Campaign:
        """Open the engine and start the workers."""
        self.engine.open()
        self._start_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """End everything."""
        self.end_producers()
        self.saboteur.end()
        for worker in [*self.workers, *self._retired]:
            worker.close()
        for network in self._networks.values():
            network.close()
        self.engine.close()

    # --- workers --------------------------------------------------------------------------------
    def _start_all(self) -> None:
        # One of them behind a cable that can be pulled: what a proxy does is not all that a network does.
        first = namespace_before(self.url) if can_pull_cables() else network_before(self.url)
        others = [network_before(self.url) for _ in range(self._size - 1)]
        self.workers = [self._start(network) for network in (first, *others)]
        for worker in self.workers:
            worker.await_children(self._processes)

    def _start(self, network: Network | None = None, *, inside: Sequence[str] = ()) -> WorkerProcess:
        # The URL is in its environment: what stands in its arguments is everybody's to read.
        options = WorkerOptions(
            target=f"cicely.testing.torture.{'crowded' if self._is_crowded else 'app'}:app",
            groups=(((self._run, 1.0),),),
            processes=self._processes,
            lease_s=self.saboteur.lease_s,
            grace_s=1.0,
            offers=crowded.OFFERS if self._is_crowded else {},
        )
        self._started += 1
        log = self.folder / f"worker-{self._started}.log"
        environment = {**self._environment, crowded.WORKER_VARIABLE: str(self._started)}
        if network is not None:
            self.has_networks = True
            environment = environment | {"CICELY_URL": impatient(network.proxy.before(self.url))}
            inside = (*network.inside, *inside)
        worker = WorkerProcess(options, log=log, environment=environment, inside=inside)
        if network is not None:
            self._networks[worker] = network
        return worker

    def replace(self, worker: WorkerProcess) -> None:
        """Start another worker in the place, and the network, of one that is gone or going."""
        self._retired.append(worker)
        network = self._networks.pop(worker, None)
        self.workers[self.workers.index(worker)] = self._start(network)

    def replace_the_ended(self) -> None:
        """Start those again that gave up by themselves, as a service manager does.

        A worker that starts while its engine is away says so and ends.
        """
        for worker in list(self.workers):
            if not worker.is_running:
                self.replace(worker)

    def network_of(self, worker: WorkerProcess) -> Network | None:
        """Return what lies between this worker and the engine, if that can be disturbed."""
        return self._networks.get(worker)

    def begin_anew(self, *, lease_s: float) -> None:
        """Have all workers stop, and start them with another lease."""
        self.stop_workers()
        self.saboteur.lease_s = lease_s
        for worker in list(self.workers):
            worker.close()
            self.replace(worker)
        for worker in self.workers:
            worker.await_children(self._processes)

    # --- producers ------------------------------------------------------------------------------
    def start_producer(
        self, *, per_second: float = 60.0, count: int = 0, due: int = 0
    ) -> subprocess.Popen[bytes]:
        """Start another producer: without end, of `count` short jobs, or of `due` that are due later."""
        number = len(self._producers)
        order = Order(
            folder=str(self.folder),
            prefix=f"{self._run}-{number}",
            seed=self.seed + number,
            per_second=per_second,
            count=count,
            due=due,
            is_crowded=self._is_crowded,
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

    # --- jobs -----------------------------------------------------------------------------------
    def run_idle(self, count: int, *, within_s: float) -> None:
        """Run `count` short jobs while nothing is done to anybody, and count those that ran again.

        Where this is allowed, some of them run in a pid namespace of their own, whose worker nobody
        may take for dead.
        """
        if can_be_elsewhere():
            elsewhere = self._start(inside=ELSEWHERE)
            self._retired.append(elsewhere)
            elsewhere.await_children(self._processes)
        self._run_all(self.start_producer(count=count), within_s=within_s)
        for worker in self._retired:
            worker.close()
        starts = Counter(line.job_id for line in self.ledger.lines() if line.what == "start")
        self.idle_jobs = count
        self.idle_re_runs = sum(times - 1 for times in starts.values())

    def run_due(self, count: int, *, within_s: float) -> None:
        """Run `count` short jobs that are due one after the other, while nothing is done to anybody."""
        self._run_all(self.start_producer(due=count), within_s=within_s)
        noted = (line.split() for line in (self.folder / "due").read_text().splitlines())
        self.due = {job_id: float(due_at) for job_id, due_at in noted}

    def _run_all(self, producer: subprocess.Popen[bytes], *, within_s: float) -> None:
        """Wait until a producer has sent its jobs, and they have ended."""
        if producer.wait(within_s):
            raise RuntimeError((self.folder / "producers.log").read_text())
        self.await_rest(within_s=within_s)

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
            records = patiently(partial(self.engine.get, page), for_s=_PATIENCE_S)
            found.update(zip(page, records, strict=True))
        return found

    def await_rest(self, *, within_s: float) -> int:
        """Wait until every job has ended; return how many have not, when none did for `within_s`."""
        moving = self.acknowledged()
        give_up_at = time.monotonic() + within_s
        while moving and time.monotonic() < give_up_at:
            self.saboteur.relent()
            self.replace_the_ended()
            time.sleep(0.1)
            records = self.records(moving)
            left = [job_id for job_id in moving if not _is_over(records[job_id])]
            if len(left) < len(moving):
                give_up_at = time.monotonic() + within_s
            moving = left
        return len(moving)

    def take_stock(self, *, within_s: float) -> None:
        """Wait until nothing is held or taken any more, and keep how much is: `leaked`.

        To be called when all has come to rest and workers still run. What was not acknowledged may have been
        accepted, and still run.
        """
        give_up_at = time.monotonic() + within_s
        while self._is_crowded:
            self.leaked = patiently(self._held, for_s=_PATIENCE_S) + patiently(self._taken, for_s=_PATIENCE_S)
            if not self.leaked or time.monotonic() > give_up_at:
                return
            time.sleep(0.1)

    def _held(self) -> int:
        """Count what holds the limits of this run."""
        return sum(
            record.held
            for record in self.engine.settings("limit")
            if isinstance(record.setting, Limit) and record.setting.key.startswith(self._run)
        )

    def _taken(self) -> int:
        """Count the jobs that use units of workers, whosever they are."""
        around = [self.engine.surroundings(job_id) for job_id in self.acknowledged()[-1:]]
        return sum(len(users) for one in around if one is not None for users in one.taken.values())

    def stop_workers(self) -> None:
        """Ask the workers to stop, so that nothing moves while it is judged."""
        for worker in self.workers:
            worker.terminate()
        for worker in self.workers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(within_s=_STOP_S)

    def report(self, *, still_moving: int) -> Report:
        """Judge everything that happened."""
        attempted = self.attempted()
        records = self.records(attempted)
        lines = self.ledger.lines()
        logs = [worker.said for worker in [*self.workers, *self._retired]]
        unexplained = unexplained_in(lines, records, self.saboteur.victims)
        (self.folder / "unexplained").write_text("".join(f"{line}\n" for line in unexplained))
        states = Counter(job.state.value for job in records.values() if job is not None)
        return Report(
            url=redacted(self.url),
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
            unexplained=len(unexplained),
            fences_out_of_order=fences_out_of_order_in(lines),
            stale_refused=sum(log.count(_REFUSED) for log in logs),
            still_moving=still_moving,
            due_jobs=len(self.due),
            due_late_s=late_s(lines, self.due),
            crowding=self._crowding(lines) if self._is_crowded else None,
        )

    def _crowding(self, lines: Sequence[Line]) -> Crowding:
        file = self.folder / "alone"
        noted = [line.split() for line in file.read_text().split("\n")[:-1]] if file.exists() else []
        alone = [Alone(job_id, user, float(at)) for job_id, user, at in noted]
        return crowding_of(lines, alone=alone, gate=self.gate, leaked=self.leaked)


def _is_over(job: Job | None) -> bool:
    """Whether nothing more is to come; what is not there at all is judged later."""
    return job is None or job.state.is_final
