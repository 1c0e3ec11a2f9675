"""Submit evaluations of low and high priority, the low ones first, and see who started first."""

from __future__ import annotations

import argparse
from itertools import groupby

from cicely import Filter
from examples.code_evaluation.app import app, clean_up, evaluate
from examples.code_evaluation.client import Client
from examples.code_evaluation.crew import Service
from examples.code_evaluation.stage import Promises, run_name, stage

WANTED = "5 x high_priority, 5 x evaluation, 10 x batch, 1 x maintenance"


def main(options: argparse.Namespace) -> int:
    """Fill all queues while no worker is up, then start one with a single slot."""
    promises = Promises()
    run = run_name()
    with (
        stage(options.keep) as folder,
        Service(folder, workers=0, executors=0, processes=1, threads=1) as service,
    ):
        client = Client(service.url)
        clean = clean_up.delay()
        client.submit_all((f"{run}-batch-{number}", "pass") for number in range(10))
        for number in range(5):
            client.submit(f"{run}-single-{number}", "pass")
        for number in range(5):
            client.submit(f"{run}-premium-{number}", "pass", tier="premium")
        service.hire()
        clean.get(60)
        started = [record for record in app.records(Filter(task=evaluate.name)) if record.id.startswith(run)]
        started += [record for record in app.records(Filter(task=clean_up.name)) if record.id == clean.id]
    started.sort(key=lambda record: record.started_at or 0.0)
    groups = [(queue, len(list(records))) for queue, records in groupby(started, key=lambda one: one.queue)]
    promises.promise(
        "started in this order", ", ".join(f"{count} x {queue}" for queue, count in groups), wanted=WANTED
    )
    return promises.report()
