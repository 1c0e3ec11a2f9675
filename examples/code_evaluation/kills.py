"""Kill gateways, workers and executors at random under load: what was accepted ends, and none ends twice."""

from __future__ import annotations

import argparse
import os
import random
import time
from collections import Counter

from cicely import Job, State
from examples.code_evaluation.app import BACKOFF_VARIABLE, app
from examples.code_evaluation.crew import Service
from examples.code_evaluation.load import Load
from examples.code_evaluation.stage import Promises, run_name, stage, tell, wait_for

_PAUSE_S = (0.5, 2.0)


def main(options: argparse.Namespace) -> int:
    """Kill for a time; return 0 where every promise was kept."""
    os.environ.setdefault(BACKOFF_VARIABLE, "500ms")
    run = run_name()
    with stage(options.keep) as folder, Service(folder, gateways=2, workers=2) as service:
        urls = [one.url for one in service.gateways]
        with Load(urls, run=run, rate=options.rate) as load:
            kills = _kill_for(service, options.seconds, seed=options.seed)
        tell(f"{load.sent} evaluations sent, {load.retries} requests repeated, {kills.total()} kills")
        jobs = [app.job(eval_id) for eval_id in load.acknowledged]
        wait_for(lambda: all(job.state.is_final for job in jobs), what="the end of all", within_s=300)
        return _report(load, kills, jobs)


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


def _report(load: Load, kills: Counter[str], jobs: list[Job[object]]) -> int:
    promises = Promises()
    promises.note("kills", ", ".join(f"{count} x {name}" for name, count in sorted(kills.items())))
    ends = Counter(str(job.state) for job in jobs)
    attempts = [[one["reason"] for one in job.info()["attempts"]] for job in jobs]
    promises.promise("accepted", len(jobs), wanted=load.sent)
    promises.promise("finished", ends[State.SUCCEEDED], wanted=load.sent)
    promises.promise("finished twice", sum(one.count("succeeded") > 1 for one in attempts), wanted=0)
    promises.note("run again after a kill", sum(len(one) > 1 for one in attempts))
    return promises.report()
