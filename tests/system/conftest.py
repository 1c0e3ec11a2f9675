"""Real workers on a file of their own, and a ledger of what ran."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jobs_app
import pytest

from cicely.core.job import Job as Record
from cicely.engines.connect import connect
from cicely.engines.contract import Engine
from cicely.testing.fleet import WorkerProcess, wait_for
from cicely.testing.ledger import Judgement, Ledger, judge
from cicely.worker.cgroups import VARIABLE
from cicely.worker.options import WorkerOptions

HERE = Path(__file__).parent

#: Real control groups need somebody who may make them; `tests/unit/test_cgroups.py` has injected ones.
collect_ignore = [] if VARIABLE in os.environ else ["test_worker_cgroups.py"]


class Site:
    """One database file, its workers, its ledger and a producer's view of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder}/jobs.db"
        self.ledger = Ledger(folder / "ledger")
        self.jobs = jobs_app.build(self.url)
        self.engine: Engine = connect(self.url, role="producer")
        self.engine.open()
        self.workers: list[WorkerProcess] = []

    def start(self, *, children: int | None = None, env: dict[str, str] | None = None, **options: Any):
        """Start a worker and return it once its children live."""
        defaults = {"target": "jobs_app:app", "processes": 2, "lease_s": 2.0, "grace_s": 5.0}
        options = defaults | options
        worker = WorkerProcess(
            WorkerOptions(url=self.url, python_path=(str(HERE),), **options),
            log=self.folder / f"worker-{len(self.workers)}.log",
            environment={
                "CICELY_LEDGER": str(self.ledger.folder),
                "CICELY_URL": self.url,
                **(env or {}),
            },
        )
        self.workers.append(worker)
        worker.await_children(options["processes"] if children is None else children)
        return worker

    def record(self, job: Any) -> Record:
        [record] = self.engine.get([job.id])
        assert record is not None
        return record

    def records(self, jobs: Iterable[Any]) -> list[Record]:
        found = self.engine.get([job.id for job in jobs])
        return [record for record in found if record is not None]

    def states(self, jobs: Iterable[Any]) -> list[str]:
        return [record.state.value for record in self.records(jobs)]

    def await_state(self, job: Any, state: str, *, within_s: float = 20.0) -> Record:
        wait_for(
            lambda: self.record(job).state == state,
            within_s=within_s,
            what=f"{state}; it stands so: {self.record(job)}",
        )
        return self.record(job)

    def await_ends(self, jobs: Iterable[Any], *, within_s: float = 60.0) -> list[Record]:
        """Return the jobs' records once all have ended."""
        waiting = list(jobs)
        wait_for(
            lambda: all(record.state.is_final for record in self.records(waiting)),
            within_s=within_s,
            what="all jobs at their ends",
        )
        return self.records(waiting)

    def await_start(self, job: Any, *, count: int = 1, within_s: float = 20.0) -> int:
        """Return the pid of the job's latest attempt once so many have started."""

        def started() -> list[int]:
            pids = [x.pid for x in self.ledger.lines() if x.job_id == job.id and x.what == "start"]
            return pids if len(pids) >= count else []

        return wait_for(started, within_s=within_s, what=f"start {count} of {job.id}")[-1]

    def starts(self, job: Any) -> int:
        return sum(1 for x in self.ledger.lines() if x.job_id == job.id and x.what == "start")

    def judge(self, jobs: Iterable[Any]) -> Judgement:
        """Judge what ran, after everything has come to rest."""
        ids = [job.id for job in jobs]
        records: dict[str, Record | None] = {}
        for start in range(0, len(ids), 200):
            page = ids[start : start + 200]
            records |= dict(zip(page, self.engine.get(page), strict=True))
        return judge(self.ledger, attempted=len(ids), acknowledged=ids, jobs=records)

    def words(self, name: str = "words") -> list[str]:
        """Return the lines that jobs wrote into this file; `path` names it."""
        file = self.folder / name
        return file.read_text().split() if file.exists() else []

    def path(self, name: str = "words") -> str:
        return str(self.folder / name)

    def await_words(self, count: int, name: str = "words", *, within_s: float = 20.0) -> list[str]:
        return wait_for(
            lambda: words if len(words := self.words(name)) >= count else [],
            within_s=within_s,
            what=f"{count} words",
        )

    def close(self) -> None:
        for worker in self.workers:
            worker.close()
        self.jobs.app.close()
        self.engine.close()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Return a folder in memory where there is one.

    A shared machine may take a second to synchronise a file, and some leases here are that short.
    """
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="cicely-test-", dir=memory))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def site(folder: Path) -> Iterator[Site]:
    """Return a site in memory."""
    site = Site(folder)
    yield site
    site.close()


@pytest.fixture
def site_on_disk(tmp_path: Path) -> Iterator[Site]:
    """Return a site whose commits are synchronised."""
    site = Site(tmp_path)
    yield site
    site.close()
