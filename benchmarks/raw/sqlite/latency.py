"""A bare wake-up: `python -m benchmarks.raw.sqlite.latency send|start FILE COUNT LIMIT_S`.

`send` enqueues one job and rings a datagram socket, again and again; `start` wakes up, claims it
and notes when it could start. Each prints its instants (CLOCK_BOOTTIME), oldest first.
"""

from __future__ import annotations

import random
import socket
import sys
import time
from pathlib import Path

from benchmarks.clock import boottime
from benchmarks.raw.sqlite.store import Held, Store
from benchmarks.runs import answer, wait_for_go

BODY = b"\x92\x90\x80"


def main() -> None:
    """Run one side."""
    side, path, count, limit_s = sys.argv[1:]
    work = send if side == "send" else start
    answer(work(Path(path), int(count), float(limit_s)))


def send(path: Path, count: int, limit_s: float) -> list[float]:
    """Enqueue and ring `count` times, with pauses in between."""
    store = Store(path)
    bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    wait_for_go()
    until = boottime() + limit_s
    instants: list[float] = []
    while len(instants) < count and boottime() < until:
        time.sleep(random.uniform(0.002, 0.012))
        instants.append(boottime())
        store.enqueue([BODY])
        bell.sendto(b"!", f"{path}.bell")
    return instants


def start(path: Path, count: int, limit_s: float) -> list[float]:
    """Claim and settle one job per ring."""
    store = Store(path)
    bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    Path(f"{path}.bell").unlink(missing_ok=True)
    bell.bind(f"{path}.bell")
    wait_for_go()
    until = boottime() + limit_s
    instants: list[float] = []
    bell.settimeout(limit_s)
    while len(instants) < count and boottime() < until:
        bell.recv(16)
        ended: list[Held] = []
        while claims := store.exchange(ended, 1):
            instants.append(boottime())
            ended = [held for held, _ in claims]
    return instants


if __name__ == "__main__":
    main()
