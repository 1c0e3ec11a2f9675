"""Find the slowest task, and the evaluation that took longest."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from typing import Any

from cicely import Filter, State
from examples.code_evaluation.app import app, clean_up
from examples.code_evaluation.client import Client
from examples.code_evaluation.crew import Service
from examples.code_evaluation.stage import Promises, run_name, stage

SLOW_S = 0.8
_SHOWN = 3


def main(options: argparse.Namespace) -> int:
    """Run quick evaluations and a slow one, and look for it."""
    promises = Promises()
    run = run_name()
    with stage(options.keep) as folder, Service(folder, executors=0) as service:
        client = Client(service.url)
        client.submit_all((f"{run}-quick-{number}", "print(1)") for number in range(20))
        client.submit(f"{run}-slow", f"import time; time.sleep({SLOW_S})")
        clean_up.delay().get(30)
        for eval_id in (f"{run}-slow", *(f"{run}-quick-{number}" for number in range(20))):
            client.await_end(eval_id)
        tasks = _slowest_first()
        longest = _longest()
    for task in tasks:
        said = f"{task['runs']} runs, mean {task['mean_s']:.3f} s, p95 {task['p95_s']:.3f} s"
        promises.note(task["task"].rpartition(".")[2], said)
    for ran_s, job_id in longest:
        promises.note(f"  {job_id.partition('-')[2] or job_id}", f"{ran_s:.3f} s")
    promises.promise("the slowest task", tasks[0]["task"].rpartition(".")[2], wanted="evaluate")
    promises.promise("the slowest evaluation", longest[0][1].partition("-")[2], wanted="slow")
    return promises.report()


def _slowest_first() -> list[dict[str, Any]]:
    """Ask as a person would."""
    words = ["tasks", "--slowest", "--json", "--url", os.environ["CICELY_URL"]]
    said = subprocess.run(
        [sys.executable, "-m", "cicely", *words], check=True, capture_output=True, text=True
    )
    return [json.loads(line) for line in said.stdout.splitlines()]


def _longest() -> list[tuple[float, str]]:
    """Return the longest runs among the last 1,000 that succeeded, with their jobs."""
    records = app.records(Filter(states=(State.SUCCEEDED,)), limit=1_000)
    runs = [(one.ended_at - one.started_at, one.id) for one in records if one.started_at and one.ended_at]
    return sorted(runs, reverse=True)[:_SHOWN]
