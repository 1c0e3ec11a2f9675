"""A bare wake-up: `python -m benchmarks.raw.latency send|start COUNT LIMIT_S`.

`send` enqueues one job and rings, again and again; `start` wakes up, claims it
and notes when it could start. Each prints its instants (CLOCK_BOOTTIME), oldest first.
"""

from __future__ import annotations

import random
import sys
import time

from benchmarks.clock import boottime
from benchmarks.raw.stores import Held, store_here
from benchmarks.runs import answer, wait_for_go

BODY = b"\x92\x90\x80"


def main() -> None:
    """Run one side."""
    side, count, limit_s = sys.argv[1:]
    work = send if side == "send" else start
    answer(work(int(count), float(limit_s)))


def send(count: int, limit_s: float) -> list[float]:
    """Enqueue and ring `count` times, with pauses in between."""
    store = store_here()
    wait_for_go()
    until = boottime() + limit_s
    instants: list[float] = []
    while len(instants) < count and boottime() < until:
        time.sleep(random.uniform(0.002, 0.012))
        instants.append(boottime())
        store.enqueue([BODY])
        store.ring()
    return instants


def start(count: int, limit_s: float) -> list[float]:
    """Claim and settle one job per ring."""
    store = store_here()
    store.listen()
    wait_for_go()
    until = boottime() + limit_s
    instants: list[float] = []
    while len(instants) < count and boottime() < until:
        store.wait(limit_s)
        ended: list[Held] = []
        while claims := store.exchange(ended, 1):
            instants.append(boottime())
            ended = [held for held, _ in claims]
    return instants


if __name__ == "__main__":
    main()
