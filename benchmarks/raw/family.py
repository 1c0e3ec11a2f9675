"""Bare children of one parent: `python -m benchmarks.raw.family CHILDREN`, their place by the environment.

Forked after the imports, each with a connection; one that dies is replaced at once, and the new
one prints when it was ready (CLOCK_BOOTTIME). Ends with its standard input.
"""

from __future__ import annotations

import os
import select
import signal
import sys

from benchmarks.clock import boottime
from benchmarks.raw.stores import store_here


def main() -> None:
    """Keep so many children alive until the standard input ends."""
    children = int(sys.argv[1])
    told, tells = os.pipe2(os.O_NONBLOCK)
    signal.set_wakeup_fd(tells)
    signal.signal(signal.SIGCHLD, lambda _signum, _frame: None)
    alive = {_fork() for _ in range(children)}
    print("ready", flush=True)
    while sys.stdin not in select.select([sys.stdin, told], [], [])[0]:
        os.read(told, 64)
        pid, _ = os.waitpid(-1, os.WNOHANG)
        if pid:
            alive.remove(pid)
            alive.add(_fork())
    for pid in alive:
        os.kill(pid, signal.SIGKILL)


def _fork() -> int:
    pid = os.fork()
    if pid:
        return pid
    store = store_here()
    store.exchange([], 1)
    os.write(1, f"{boottime()}\n".encode())
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
