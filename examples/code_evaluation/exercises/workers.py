"""Add workers, and measure what each brings: programs that mostly wait, one slot per worker."""

from __future__ import annotations

import argparse
import time
from itertools import pairwise

from examples.code_evaluation.app import app
from examples.code_evaluation.client import Client
from examples.code_evaluation.crew import Service
from examples.code_evaluation.stage import Promises, run_name, stage, wait_for

WORKERS = (1, 2, 4)
PROGRAM_S = 0.5
_PROGRAM = f"import time; time.sleep({PROGRAM_S})"
_PER_WORKER = 4
#: What twice the workers must bring at least, on a machine that has other things to do as well.
GAIN = 1.4


def main(options: argparse.Namespace) -> int:
    """Measure with one, two and four workers."""
    promises = Promises()
    wanted = 1 + (GAIN - 1) / options.lenient
    rates: list[float] = []
    with stage(options.keep) as folder, Service(folder, executors=1, processes=1, threads=1) as service:
        client = Client(service.url)
        for count in WORKERS:
            while len(service.workers) < count:
                service.hire()
            # What they need to start is not what they bring.
            wait_for(lambda count=count: _children() >= count, what=f"{count} workers")
            rates.append(_rate(client, _PER_WORKER * count))
            promises.note(f"evaluations per second, {count} workers", f"{rates[-1]:.1f}")
    for (fewer, less), (many, more) in pairwise(zip(WORKERS, rates, strict=True)):
        gain = more / less
        promises.promise(
            f"{many} workers bring {gain:.1f} times what {fewer} do", gain >= wanted, wanted=True
        )
    return promises.report()


def _children() -> int:
    """Return how many processes run jobs, one for each worker."""
    return sum(not record.session.is_supervisor for record in app.engine.sessions())


def _rate(client: Client, count: int) -> float:
    run = run_name()
    client.submit(f"{run}-first", "pass")
    client.await_end(f"{run}-first")
    began_at = time.monotonic()
    client.submit_all((f"{run}-{number}", _PROGRAM) for number in range(count))
    for number in range(count):
        client.await_end(f"{run}-{number}")
    return count / (time.monotonic() - began_at)
