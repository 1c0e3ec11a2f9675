"""The app that is measured: tasks that do nothing, and tasks that say when they ran."""

from __future__ import annotations

import os
import time

from benchmarks import counting
from benchmarks.clock import boottime
from cicely import Cicely, current

app = Cicely("bench")

#: One that holds nobody back, so that what is measured is the counting; and one that lets one job a day pass.
app.limit("open", concurrency=100_000)
app.limit("shut", rate="1/d")

# Children get the app from here; their supervisor installs the counter itself.
counting.install_if_asked()


@app.task
def noop() -> None:
    """Do nothing."""


@app.task(lane=str, limits="open")
def limited(user: int) -> None:
    """Do nothing, under a limit, in the lane of a user."""


@app.task(limits="shut")
def shut() -> None:
    """Do nothing, once a day."""


@app.task
def burn() -> None:
    """Keep the processor busy for a millisecond."""
    until = time.thread_time() + 0.001
    while time.thread_time() < until:
        pass


@app.task
def stamp() -> float:
    """Return when it started."""
    return boottime()


@app.task
def stamps(starts: list[float]) -> list[float]:
    """Add when it started to those of the jobs before it."""
    return [*starts, boottime()]


@app.task
def hold(fifo: str) -> None:
    """Say where and when it started; the first attempt then waits for its end."""
    started_at = boottime()
    with open(fifo, "w") as meter:
        meter.write(f"{os.getpid()} {started_at}\n")
    if current().attempt == 1:
        time.sleep(60)
