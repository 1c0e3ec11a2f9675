"""The service, until Ctrl-C: a gateway, executors and a worker."""

from __future__ import annotations

import argparse
import os
import signal
import time

from examples.code_evaluation.crew import APP, Service
from examples.code_evaluation.stage import stage


def main(options: argparse.Namespace) -> int:
    """Serve, and say where."""
    with (
        stage(options.keep) as folder,
        Service(folder, workers=options.workers, port=options.port) as service,
    ):
        print(f"gateway    {service.url}")
        for executor in service.executors:
            print(f"executor   {executor.url}")
        print(f"jobs       cicely jobs --url {os.environ['CICELY_URL']}")
        print(f"one more   CICELY_URL={os.environ['CICELY_URL']} cicely worker {APP}", flush=True)
        stopped: list[int] = []
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda given, _: stopped.append(given))
        while not stopped:
            time.sleep(0.1)
    return 0
