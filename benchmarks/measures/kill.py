"""How soon the job of a killed child runs again."""

from __future__ import annotations

import os
import select
import signal
import time
from statistics import median

from benchmarks.apps import app, hold
from benchmarks.bench import Bench, Figure
from benchmarks.clock import boottime
from benchmarks.raw import loops
from benchmarks.worker import Worker

PROCESSES = 2
WAIT_S = 20.0


def kill(bench: Bench) -> list[Figure]:
    """Measure from the SIGKILL of a child to the start of its job's next attempt."""
    raw = loops.respawns_s(loops.filled(bench.raw_place, ready=100), count=bench.sizes.kills)
    bench.clear()
    fifo = bench.folder / "fifo"
    fifo.unlink(missing_ok=True)
    os.mkfifo(fifo)
    os.environ["CICELY_URL"] = bench.url
    meter = os.open(fifo, os.O_RDWR)
    try:
        with Worker(bench.url, processes=PROCESSES):
            bench.produce("warm", 200)
            taken = [_rerun_s(str(fifo), meter) for _ in range(bench.sizes.kills)]
    finally:
        os.close(meter)
        app.close()
    return [Figure("rerun", median(taken) * 1000, median(raw) * 1000)]


def _rerun_s(fifo: str, meter: int) -> float:
    job = hold.delay(fifo)
    pid, _ = _line_of(meter)
    time.sleep(0.2)
    killed_at = boottime()
    os.kill(int(pid), signal.SIGKILL)
    _, started_at = _line_of(meter)
    job.get(timeout=WAIT_S)
    return started_at - killed_at


def _line_of(meter: int) -> tuple[float, float]:
    if not select.select([meter], [], [], WAIT_S)[0]:
        raise TimeoutError(f"no attempt started within {WAIT_S:g} s")
    pid, started_at = os.read(meter, 4096).split()
    return int(pid), float(started_at)
