"""Stop the executors, one and then both, and watch attempts move, wait, and succeed when one is back."""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from typing import Any

from cicely import Filter, State
from examples.code_evaluation.app import BACKOFF_VARIABLE, COOLDOWN_VARIABLE, NO_EXECUTORS, app, evaluate
from examples.code_evaluation.client import Client
from examples.code_evaluation.crew import Service
from examples.code_evaluation.stage import Promises, run_name, stage, tell, wait_for

COUNT = 20
LIVE = [state for state in State if not state.is_final]
#: How long both stay away.
WATCHED_S = 2.0


def main(options: argparse.Namespace) -> int:
    """Stop executor a, then both; start b again."""
    promises = Promises()
    # The minutes that the service has are long for an exercise.
    os.environ.setdefault(BACKOFF_VARIABLE, "1s")
    os.environ.setdefault(COOLDOWN_VARIABLE, "1s")
    with stage(options.keep) as folder, Service(folder) as service:
        client = Client(service.url)
        breaker = app.breaker(NO_EXECUTORS.name)
        first, second = service.executors
        first.stop()
        tell("executor a is stopped")
        ended = _evaluated(client, run_name())
        by_attempts = Counter(one["attempt"] for one in ended)
        promises.promise("with a stopped: succeeded", _succeeded(ended), wanted=COUNT)
        promises.promise("at the first attempt, at the second", by_attempts[1] + by_attempts[2], wanted=COUNT)
        promises.promise("some at the second", by_attempts[2] > 0, wanted=True)
        promises.promise("the breaker", breaker.phase, wanted="closed")
        second.stop()
        tell("both are stopped")
        run = run_name()
        client.submit_all((f"{run}-{number}", "print('late')") for number in range(COUNT))
        wait_for(lambda: breaker.phase != "closed", what="the breaker to open")
        time.sleep(WATCHED_S)
        promises.promise("with both stopped: the breaker opened", breaker.phase != "closed", wanted=True)
        promises.promise("failed", _count(run, State.FAILED), wanted=0)
        promises.promise("not ended", _count(run, *LIVE), wanted=COUNT)
        second.start()
        tell("executor b is back")
        ended = [client.await_end(f"{run}-{number}") for number in range(COUNT)]
        promises.promise("with b back: succeeded", _succeeded(ended), wanted=COUNT)
        promises.promise("the breaker in the end", breaker.phase, wanted="closed")
    return promises.report()


def _evaluated(client: Client, run: str) -> list[dict[str, Any]]:
    client.submit_all((f"{run}-{number}", "print('done')") for number in range(COUNT))
    return [client.await_end(f"{run}-{number}") for number in range(COUNT)]


def _succeeded(ended: list[dict[str, Any]]) -> int:
    return sum(one["state"] == State.SUCCEEDED for one in ended)


def _count(run: str, *states: State) -> int:
    records = app.records(Filter(task=evaluate.name, states=states))
    return sum(record.id.startswith(run) for record in records)
