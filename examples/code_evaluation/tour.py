"""The service at work: HumanEval in bulk, premium evaluations past it, wild programs, an executor away."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from cicely import Filter, State
from examples.code_evaluation import programs
from examples.code_evaluation.app import app, evaluate
from examples.code_evaluation.client import Client
from examples.code_evaluation.crew import Service
from examples.code_evaluation.stage import Promises, run_name, stage, tell, wait_for
from examples.code_evaluation.verdicts import TIMEOUT_S

#: How soon a premium evaluation has ended while the batch queue is full.
PREMIUM_S = 2.0
_PREMIUMS = 20


def main(options: argparse.Namespace) -> int:
    """Play it; return 0 where every promise was kept."""
    with stage(options.keep) as folder:
        return _play(folder, programs.humaneval()[: options.problems], premium_s=PREMIUM_S * options.lenient)


def _play(folder: Path, problems: list[tuple[str, str, str]], *, premium_s: float) -> int:
    run = run_name()
    promises = Promises()
    with Service(folder) as service:
        client = Client(service.url)
        service.executors[0].stop()
        tell("executor a is stopped: what it would have run goes to b with the next attempt")
        began_at = time.monotonic()
        batch = [(f"{run}-{name}-right", right) for name, right, _ in problems]
        batch += [(f"{run}-{name}-wrong", wrong) for name, _, wrong in problems]
        tell(f"{client.submit_all(batch)} evaluations in the queue batch")
        slowest_s = _premium_ones(client, run)
        service.executors[0].start()
        tell("executor a is back")
        _wild_ones(client, run)
        _await_all(run, len(batch) + _PREMIUMS + 4)
        seconds = time.monotonic() - began_at
        ended = {name: client.await_end(f"{run}-{name}") for name in ("endless", "hog", "large", "bomb")}
        results = _results(run)
    right = sum(results.get(eval_id, False) for eval_id, _ in batch if eval_id.endswith("-right"))
    wrong = sum(results.get(eval_id, False) for eval_id, _ in batch if eval_id.endswith("-wrong"))
    promises.promise(
        "right solutions that passed", f"{right}/{len(problems)}", wanted=f"{len(problems)}/{len(problems)}"
    )
    promises.promise("wrong ones that passed", wrong, wanted=0)
    _wild_promises(promises, ended)
    promises.bound("slowest premium evaluation", slowest_s, most=premium_s, unit="s")
    promises.note("evaluations per second", f"{(len(batch) + _PREMIUMS + 4) / seconds:.0f}")
    return promises.report()


def _wild_ones(client: Client, run: str) -> None:
    client.submit(f"{run}-endless", programs.ENDLESS)
    client.submit(f"{run}-hog", programs.HOG)
    client.submit(f"{run}-large", programs.LARGE)
    client.submit(f"{run}-bomb", programs.BOMB, language="bash")


def _premium_ones(client: Client, run: str) -> float:
    """Return how long the slowest of some premium evaluations took, one after the other."""
    slowest_s = 0.0
    for number in range(_PREMIUMS):
        began_at = time.monotonic()
        client.submit(f"{run}-premium-{number}", "print('first')", tier="premium")
        client.await_end(f"{run}-premium-{number}")
        slowest_s = max(slowest_s, time.monotonic() - began_at)
    return slowest_s


def _await_all(run: str, count: int) -> None:
    def ended() -> bool:
        records = app.records(Filter(task=evaluate.name))
        return sum(record.state.is_final for record in records if record.id.startswith(run)) == count

    wait_for(ended, what=f"the end of {count} evaluations")


def _results(run: str) -> dict[str, bool]:
    """Return of each evaluation that succeeded whether its program passed."""
    jobs = app.jobs(task=evaluate.name, state=State.SUCCEEDED)
    return {job.id: job.result["passed"] for job in jobs if job.id.startswith(run)}


def _wild_promises(promises: Promises, ended: dict[str, dict[str, Any]]) -> None:
    def end(name: str) -> str:
        one = ended[name]
        return f"{one['state']} after {one['attempt']}: {one['error'] or one['result']['output'].strip()}"

    endless, hog, large, bomb = (ended[name] for name in ("endless", "hog", "large", "bomb"))
    promises.promise(
        "an endless loop",
        f"{end('endless')}",
        wanted=f"failed after 1: CodeTimeout: not done after {TIMEOUT_S:g} s",
    )
    promises.note("a program that takes all memory", end("hog"))
    promises.note(
        "one that needs a little more",
        f"{large['state']} after {large['attempt']}: {_report_of(large)}",
    )
    promises.note("a fork bomb", end("bomb"))
    attempts = ", ".join(str(one["attempt"]) for one in (endless, hog, large, bomb))
    promises.promise("their attempts", attempts, wanted="1, 2, 2, 1")
    states = [one["state"] for one in (endless, hog, large, bomb)]
    promises.promise("their ends", ", ".join(states), wanted="failed, failed, succeeded, failed")


def _report_of(one: dict[str, Any]) -> str:
    return str(one["result"]["report"] if one["result"] else one["error"])
