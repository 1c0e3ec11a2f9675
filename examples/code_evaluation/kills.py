"""Kill gateways, workers and executors at random under load: what was accepted ends, and none ends twice."""

from __future__ import annotations

import argparse
import os
import random
import time
from collections import Counter

from cicely import Job, State
from cicely.core.rollup import Word, minute_of
from cicely.observe.rollups import cells
from examples.code_evaluation.app import BACKOFF_VARIABLE, app, evaluate
from examples.code_evaluation.crew import Service
from examples.code_evaluation.load import Load
from examples.code_evaluation.stage import Promises, run_name, stage, tell, wait_for

_PAUSE_S = (0.5, 2.0)
_SINCE_S = 3_600.0


def main(options: argparse.Namespace) -> int:
    """Kill for a time; return 0 where every promise was kept."""
    os.environ.setdefault(BACKOFF_VARIABLE, "500ms")
    run = run_name()
    with stage(options.keep) as folder, Service(folder, gateways=2, workers=2) as service:
        urls = [one.url for one in service.gateways]
        counted = _successes()
        with Load(urls, run=run, rate=options.rate) as load:
            kills = _kill_for(service, options.seconds, seed=options.seed)
        tell(f"{load.sent} evaluations sent, {load.retries} requests repeated, {kills.total()} kills")
        jobs = [app.job(eval_id) for eval_id in load.acknowledged]
        _await_ends(list(jobs))
        return _report(load, kills, jobs, counted=_successes() - counted)


def _kill_for(service: Service, seconds: float, *, seed: int) -> Counter[str]:
    """Kill something every second or so, start it again, and return how often what was killed."""
    chance = random.Random(seed)
    kills: Counter[str] = Counter()
    give_up_at = time.monotonic() + seconds
    while time.monotonic() < give_up_at:
        # Each kind in turn, so that a short run has all of them.
        for kind in chance.sample(["gateway", "executor", "worker"], 3):
            time.sleep(chance.uniform(*_PAUSE_S))
            _kill(service, kind, chance)
            kills[kind] += 1
    return kills


def _kill(service: Service, kind: str, chance: random.Random) -> None:
    if kind == "worker":
        service.workers.pop(chance.randrange(len(service.workers))).kill()
        service.hire()
        return
    server = chance.choice(service.gateways if kind == "gateway" else service.executors)
    server.kill()
    server.start()


def _await_ends(jobs: list[Job[object]]) -> None:
    def are_ended() -> bool:
        while jobs and jobs[-1].state.is_final:
            jobs.pop()
        return not jobs

    wait_for(are_ended, what="the end of all", within_s=300)


def _successes() -> int:
    """Return how many successes the engine has counted: each that it accepted, exactly."""
    counted = cells(app.engine, minute_of(time.time() - _SINCE_S), minute_of(time.time() + _SINCE_S))
    return sum(cell.count for cell in counted if cell.word is Word.SUCCEEDED and cell.task == evaluate.name)


def _report(load: Load, kills: Counter[str], jobs: list[Job[object]], *, counted: int) -> int:
    promises = Promises()
    promises.note("kills", ", ".join(f"{count} x {name}" for name, count in sorted(kills.items())))
    ends = Counter(str(job.state) for job in jobs)
    attempts = [[one["reason"] for one in job.info()["attempts"]] for job in jobs]
    promises.promise("accepted", len(jobs), wanted=load.sent)
    promises.promise("finished", ends[State.SUCCEEDED], wanted=load.sent)
    promises.promise("ends that the engine counted", counted, wanted=load.sent)
    promises.promise("finished twice", sum(one.count("succeeded") > 1 for one in attempts), wanted=0)
    promises.note("run again after a kill", sum(len(one) > 1 for one in attempts))
    return promises.report()
