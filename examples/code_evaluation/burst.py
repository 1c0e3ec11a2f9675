"""From 100 to 10,000 evaluations in a minute: how long the queue takes, and how long premium ones do."""

from __future__ import annotations

import argparse
import threading
import time

from cicely import State
from examples.code_evaluation.app import app
from examples.code_evaluation.client import Client
from examples.code_evaluation.crew import Service
from examples.code_evaluation.stage import Promises, run_name, stage, tell, wait_for

FIRST = 100
PREMIUM_S = 2.0
_STEPS = 30
_PREMIUM_EVERY_S = 0.25


def main(options: argparse.Namespace) -> int:
    """Let it come, and drain it."""
    run = run_name()
    with (
        stage(options.keep) as folder,
        Service(folder, executors=0, processes=options.processes, threads=2) as service,
    ):
        began_at = time.monotonic()
        premium = Premium(Client(service.url), run)
        _upload(Client(service.url), run, peak=options.peak, seconds=options.seconds)
        uploaded_s = time.monotonic() - began_at
        depth = _left()
        tell(f"{options.peak} evaluations in {uploaded_s:.0f} s, {depth} of them wait")
        wait_for(lambda: _left() == 0, what="the end of all", within_s=1_200)
        drained_s = time.monotonic() - began_at
        times_s = premium.stop()
    promises = Promises()
    promises.note("processes", options.processes)
    promises.note("evaluations", options.peak)
    promises.note("waiting when the last came", depth)
    promises.note("drained after", f"{drained_s:.1f} s, {options.peak / drained_s:.0f} per second")
    promises.note("premium evaluations meanwhile", len(times_s))
    promises.bound(
        "p99 of premium, from request to end", _p99(times_s), most=PREMIUM_S * options.lenient, unit="s"
    )
    return promises.report()


class Premium:
    """A caller that submits a premium evaluation now and then, and notes how long each took."""

    def __init__(self, client: Client, run: str) -> None:
        self._client = client
        self._run = run
        self._times_s: list[float] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self) -> None:
        while not self._is_over.wait(_PREMIUM_EVERY_S):
            eval_id = f"{self._run}-premium-{len(self._times_s)}"
            began_at = time.monotonic()
            self._client.submit(eval_id, "pass", tier="premium")
            self._client.await_end(eval_id)
            self._times_s.append(time.monotonic() - began_at)

    def stop(self) -> list[float]:
        """Return the times."""
        self._is_over.set()
        self._thread.join()
        return self._times_s


def _upload(client: Client, run: str, *, peak: int, seconds: float) -> None:
    """Upload so many in all, each step so much more than the one before that it begins with 100."""
    sent = 0
    for step in range(1, _STEPS + 1):
        wanted = round(FIRST * (peak / FIRST) ** (step / _STEPS)) if peak > FIRST else peak
        client.submit_all((f"{run}-{number}", "pass") for number in range(sent, wanted))
        sent = wanted
        time.sleep(seconds / _STEPS)


def _left() -> int:
    counts = {queue.name: queue.counts for queue in app.engine.queues()}.get("batch", {})
    return sum(count for state, count in counts.items() if not State(state).is_final)


def _p99(times_s: list[float]) -> float:
    ordered = sorted(times_s)
    return ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))] if ordered else 0.0
