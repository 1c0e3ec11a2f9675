"""A real worker ticks the schedules of its app, without the app's code in its supervisor."""

from __future__ import annotations

from datetime import datetime

import pytest

from cicely.testing.fleet import WorkerProcess, wait_for
from cicely.worker.options import WorkerOptions

APP = """
import os, time
import cicely
from cicely import Cicely, cron, every

app = Cicely("clock", "memory://", keys=[b"k" * 32])

@app.task(name="note")
def note(word):
    with open(os.environ["CLOCK_LOG"], "a") as log:
        log.write(f"{cicely.current().job_id} {time.time()} {word}\\n")

app.schedule("interval", note.s("plain"), every("1s"))
app.schedule("fields", note.s("wall"), cron("*/2 * * * * *", tz="Europe/Berlin"), overlap="skip")
"""


@pytest.fixture
def lines(tmp_path):
    (tmp_path / "clock_app.py").write_text(APP)
    log = tmp_path / "clock.log"
    worker = WorkerProcess(
        WorkerOptions(target="clock_app:app", processes=1, python_path=(str(tmp_path),)),
        log=tmp_path / "worker.log",
        environment={"CLOCK_LOG": str(log)},
    )

    def read():
        return [line.split() for line in log.read_text().splitlines()] if log.exists() else []

    worker.await_children(1)
    yield read
    worker.close()


def test_the_schedules_of_an_app_run_from_the_start_of_a_worker(lines):
    def both_ran():
        names = [job_id.partition("@")[0] for job_id, _, _ in lines()]
        return names.count("interval") >= 3 and names.count("fields") >= 2

    wait_for(both_ran, within_s=30, what="ticks of both schedules")

    late = []
    for job_id, ran_at, word in lines():
        name, _, tick = job_id.partition("@")
        assert word == {"interval": "plain", "fields": "wall"}[name]
        late.append(float(ran_at) - datetime.fromisoformat(tick).timestamp())
    assert len({job_id for job_id, _, _ in lines()}) == len(lines())
    assert min(late) >= 0
    # This machine runs other tests; alone it takes milliseconds.
    assert sorted(late)[len(late) // 2] < 1.0, late
