"""What a real worker leaves of the past: hooks of failed jobs, counts, events, lines that name the job."""

from __future__ import annotations

import json

import pytest

from cicely import Cicely
from cicely.core.rollup import Word
from cicely.observe.rollups import cells
from cicely.testing.conformance.embedded import SqliteHarness
from cicely.testing.conformance.harness import Capability
from cicely.testing.fleet import WorkerProcess, wait_for
from cicely.worker.options import WorkerOptions

APP = """
import logging, os, signal, time
from cicely import Cicely, Retry, current

app = Cicely("past", os.environ["PAST_URL"])
log = logging.getLogger("past")

@app.task(name="past.work", log_fields=["eval_id"], retry=Retry(attempts=2, backoff=0.1))
def work(eval_id, how):
    log.warning("begun")
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "fail":
        raise ValueError(f"no {eval_id}")
    time.sleep(1.05 if how == "long" else 0)

@app.on_failed(task=work)
def tell(letter):
    with open(os.environ["PAST_LOG"], "a") as file:
        file.write(f"{letter.job_id} {letter.reason} {letter.error.type_name} {current().job_id}\\n")
"""


class Past:
    """A worker with that app, and a producer beside it."""

    def __init__(self, folder) -> None:
        (folder / "past_app.py").write_text(APP)
        self.log = folder / "told.log"
        self.url = f"sqlite:///{folder}/past.db"
        self.worker = WorkerProcess(
            WorkerOptions(target="past_app:app", url=self.url, processes=2, python_path=(str(folder),)),
            log=folder / "worker.log",
            environment={"PAST_LOG": str(self.log), "PAST_URL": self.url, "CICELY_LOG": "json"},
        )
        self.worker.await_children(2)
        self.app = Cicely("past", self.url)

        @self.app.task(name="past.work")
        def work(eval_id, how):
            """What the worker has in full."""

        self.work = work

    def told(self):
        return [line.split() for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def close(self):
        self.app.close()
        self.worker.close()


@pytest.fixture
def past(tmp_path):
    past = Past(tmp_path)
    yield past
    past.close()


def test_each_failure_is_told_once_whoever_saw_it(past):
    # First the one that kills its process: what runs beside it, a hook as well, runs again.
    dead = past.work.delay("eval-9", "die")
    wait_for(past.told, within_s=30, what="the death told")
    failed = [past.work.delay(f"eval-{n}", "fail") for n in range(5)]
    fine = past.work.delay("eval-10", "work")

    wait_for(lambda: len(past.told()) >= 6, within_s=30, what="six failures told")
    assert fine.get(timeout=10) is None

    told = {job_id: (reason, error) for job_id, reason, error, _ in past.told()}
    assert told == {job.id: ("error", "ValueError") for job in failed} | {dead.id: ("poison", "Poison")}
    assert len(past.told()) == 6
    assert all(own_id.startswith("failed:past_app.tell:") for *_, own_id in past.told())


def test_what_happened_is_counted_and_told(past):
    past.work.delay("eval-1", "fail")
    long = past.work.delay("eval-2", "long")
    past.work.delay("eval-3", "short")
    wait_for(past.told, within_s=30, what="the failure told")
    long.get(timeout=10)

    events = [(event.kind, event.job_id) for event in past.app.events("job", task="past.work")]
    counted = {}
    for cell in cells(past.app.engine, 0, 1 << 40):
        if cell.task == "past.work":
            counted[cell.word] = counted.get(cell.word, 0) + cell.count

    assert [kind for kind, _ in events] == ["job.retried", "job.failed", "job.succeeded"]
    assert events[-1] == ("job.succeeded", long.id)
    assert counted == {Word.ENQUEUED: 3, Word.RETRIED: 1, Word.FAILED: 1, Word.SUCCEEDED: 2}
    [group] = past.app.dead_letters()
    assert (group.count, group.message) == (1, "no eval-<n>")


def test_a_worker_tells_when_it_comes_and_goes_and_when_it_was_up(past):
    joined = [event.kind for event in past.app.events("worker")]
    past.worker.terminate()
    past.worker.wait(within_s=20)

    assert joined == ["worker.joined"]
    assert [event.kind for event in past.app.events("worker")] == ["worker.joined", "worker.left"]
    assert any(cell.word is Word.BEATS for cell in cells(past.app.engine, 0, 1 << 40))


def test_every_line_of_a_job_names_it(past):
    job = past.work.delay("eval-7", "fail")

    def own_lines():
        lines = past.worker.said.splitlines()
        read = [json.loads(line) for line in lines if line.startswith("{")]
        return [line for line in read if line["message"] == "begun"]

    own = wait_for(lambda: found if len(found := own_lines()) == 2 else [], within_s=30, what="two lines")

    assert [(line["task_id"], line["eval_id"], line["retry_count"]) for line in own] == [
        (job.id, "eval-7", 0),
        (job.id, "eval-7", 1),
    ]


if not {Capability.EVENTS, Capability.ROLLUPS} <= SqliteHarness.capabilities:
    # As in the conformance suite: what is not promised is not asked for.
    del test_each_failure_is_told_once_whoever_saw_it
    del test_what_happened_is_counted_and_told
    del test_a_worker_tells_when_it_comes_and_goes_and_when_it_was_up
