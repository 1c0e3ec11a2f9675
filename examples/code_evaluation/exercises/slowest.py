"""Find what is slow: which task takes how long, and which evaluations took longest."""

from __future__ import annotations

import argparse
from collections import defaultdict

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
        by_task, longest = _run_times()
    for task, times_s in sorted(by_task.items(), key=lambda item: -max(item[1])):
        name = task.rpartition(".")[2]
        promises.note(
            name,
            f"{len(times_s)} jobs, mean {sum(times_s) / len(times_s):.3f} s, longest {max(times_s):.3f} s",
        )
    for ran_s, job_id in longest:
        promises.note(f"  {job_id.partition('-')[2] or job_id}", f"{ran_s:.3f} s")
    promises.promise(
        "the slowest task",
        max(by_task, key=lambda task: max(by_task[task])).rpartition(".")[2],
        wanted="evaluate",
    )
    promises.promise("the slowest evaluation", longest[0][1].partition("-")[2], wanted="slow")
    return promises.report()


def _run_times() -> tuple[dict[str, list[float]], list[tuple[float, str]]]:
    """Return the run times of each task, and the longest runs with their jobs."""
    by_task: dict[str, list[float]] = defaultdict(list)
    runs = []
    for record in app.records(Filter(states=(State.SUCCEEDED,)), limit=1_000):
        if record.started_at and record.ended_at:
            ran_s = record.ended_at - record.started_at
            by_task[record.task].append(ran_s)
            runs.append((ran_s, record.id))
    return by_task, sorted(runs, reverse=True)[:_SHOWN]
