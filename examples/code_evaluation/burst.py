"""A bulk queue that grows from 100 to 10,000 in a minute, holds them, and is drained; premium passes by."""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cicely import State
from examples.code_evaluation.app import app
from examples.code_evaluation.client import Client
from examples.code_evaluation.crew import Service
from examples.code_evaluation.stage import Promises, run_name, stage, tell, wait_for

FIRST = 100
PREMIUM_S = 2.0
_STEPS = 30
#: So many more than it is to hold are uploaded: workers take some while nobody looks.
_SPARE, _LEAST_SPARE = 0.05, 100
_PREMIUM_EVERY_S = 0.1
_COUNT_EVERY_S = 0.5
_DRAINED_WITHIN_S = 1_200


def main(options: argparse.Namespace) -> int:
    """Let it come, hold it, and drain it."""
    with (
        stage(options.keep) as folder,
        Service(folder, executors=0, processes=options.processes, threads=2) as service,
    ):
        burst = Burst(service, peak=options.peak, seconds=options.seconds)
        burst.play()
    return burst.report(options.processes, lenient=options.lenient)


class Burst:
    """Its three phases, and what was seen in them."""

    def __init__(self, service: Service, *, peak: int, seconds: float) -> None:
        self._peak = peak
        self._seconds = seconds
        self._run = run_name()
        self._bulk = Client(service.url)
        self._premium = Premium(Client(service.url), self._run)
        self._sent = 0
        self._most_processes = 0
        self._depths: list[int] = []
        self._drained = (0, 0.0)
        #: By phase, how long premium evaluations took.
        self._taken_s: dict[str, list[float]] = {}

    def play(self) -> None:
        """Play them."""
        with _repeated(self._premium.ask, every_s=_PREMIUM_EVERY_S):
            self._grow()
            self._taken_s["grows"] = self._premium.taken_s()
            tell(f"{self._sent} evaluations in {self._seconds:g} s, {_depth()} of them wait")
            self._hold()
            self._taken_s[f"holds {self._peak}"] = self._premium.taken_s()
            tell(f"held for {self._seconds / 2:g} s; {self._sent} evaluations by now")
            self._drain()
            self._taken_s["is drained"] = self._premium.taken_s()

    def _grow(self) -> None:
        """Let the queue be so much longer with each step that it grows from 100 to its peak."""
        began_at = time.monotonic()
        for step in range(_STEPS + 1):
            time.sleep(max(0.0, began_at + self._seconds * step / _STEPS - time.monotonic()))
            self._fill_up_to(round(FIRST * (self._peak / FIRST) ** (step / _STEPS)))

    def _hold(self) -> None:
        """Upload what workers take, so that the queue stays above its peak."""
        wanted = self._peak + max(_LEAST_SPARE, round(_SPARE * self._peak))
        self._fill_up_to(wanted)
        end_at = time.monotonic() + self._seconds / 2
        while time.monotonic() < end_at:
            time.sleep(self._seconds / (2 * _STEPS))
            self._depths.append(self._fill_up_to(wanted))

    def _drain(self) -> None:
        """Upload no more, and wait for the end."""
        began_at, left = time.monotonic(), _depth()
        # Counting is work for the engine as well.
        wait_for(
            lambda: _depth() == 0, what="the end of all", within_s=_DRAINED_WITHIN_S, look_s=_COUNT_EVERY_S
        )
        self._drained = (left, time.monotonic() - began_at)

    def _fill_up_to(self, wanted: int) -> int:
        """Upload what is missing to so many that wait; return how many did."""
        depth = _depth()
        missing = range(self._sent, self._sent + wanted - depth)
        if missing:
            self._bulk.submit_all((f"{self._run}-{number}", "pass") for number in missing)
        self._sent += len(missing)
        self._most_processes = max(self._most_processes, _processes())
        return depth

    def report(self, processes: str, *, lenient: float) -> int:
        """Print what came of it; return 0 where every promise was kept."""
        promises = Promises()
        promises.note("processes", f"{processes}, at most {self._most_processes} at once")
        promises.note("evaluations", self._sent)
        held = f"{min(self._depths)} to {max(self._depths)}"
        promises.note("the queue held, while it was to", held)
        promises.promise(f"never less than {self._peak}", min(self._depths) >= self._peak, wanted=True)
        left, seconds = self._drained
        promises.note("drained after", f"{seconds:.1f} s, {left / seconds:.0f} per second")
        for phase, times_s in self._taken_s.items():
            what = f"p99 of {len(times_s)} premium while it {phase}"
            promises.bound(what, _p99(times_s), most=PREMIUM_S * lenient, unit="s")
        return promises.report()


class Premium:
    """A caller of premium evaluations, one after the other, who notes how long each took."""

    def __init__(self, client: Client, run: str) -> None:
        self._client = client
        self._run = run
        self._asked = 0
        self._times_s: list[float] = []

    def ask(self) -> None:
        """Submit one, and wait for its end."""
        eval_id = f"{self._run}-premium-{self._asked}"
        self._asked += 1
        began_at = time.monotonic()
        self._client.submit(eval_id, "pass", tier="premium")
        self._client.await_end(eval_id)
        self._times_s.append(time.monotonic() - began_at)

    def taken_s(self) -> list[float]:
        """Return the times since this was asked last."""
        times_s, self._times_s = self._times_s, []
        return times_s


@contextmanager
def _repeated(act: Callable[[], None], *, every_s: float) -> Iterator[None]:
    """Do it every so often, in a thread, while the block runs."""
    is_over = threading.Event()

    def run() -> None:
        while not is_over.wait(every_s):
            act()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _depth() -> int:
    """Return how many bulk evaluations have not ended."""
    counts = {queue.name: queue.counts for queue in app.engine.queues()}.get("batch", {})
    return sum(count for state, count in counts.items() if not State(state).is_final)


def _processes() -> int:
    """Return how many processes of workers take evaluations now."""
    sessions = [record.session for record in app.engine.sessions()]
    return sum(one.worker != one.id for one in sessions)


def _p99(times_s: list[float]) -> float:
    ordered = sorted(times_s)
    return ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))] if ordered else 0.0
