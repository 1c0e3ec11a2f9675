"""One process of a raw loop: `python -m benchmarks.raw LOOP COUNT LIMIT_S`, its place by the environment.

A loop ends after LIMIT_S seconds at the latest.
"""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable

import msgspec

from benchmarks.clock import boottime
from benchmarks.raw.stores import Held, Store, store_here
from benchmarks.runs import answer, timed, wait_for_go

BODY = msgspec.msgpack.encode([[], {}])
BATCH = 200
PAGE = 1000
#: Batches of the prototype that are under way: one runs while the other one is exchanged.
IN_FLIGHT = 2

Loop = Callable[[Store, int, float], int]


def main() -> None:
    """Run one loop and print what it did."""
    loop, count, limit_s = sys.argv[1:]
    store = store_here()
    wait_for_go()
    until = boottime() + float(limit_s)
    answer(timed(lambda: LOOPS[loop](store, int(count), until)))


def drain(store: Store, count: int, until: float) -> int:
    """Claim and settle, `BATCH` in one transaction, until nothing is left or `count` have ended."""
    ended: list[Held] = []
    moved = 0
    while moved < count and boottime() < until:
        claims = store.exchange(ended, BATCH)
        moved += len(ended)
        ended = [held for held, _ in claims]
        if not ended:
            break
    store.exchange(ended, 0)
    return moved + len(ended)


def prototype(store: Store, count: int, until: float) -> int:
    """Be a bare child: one thread settles and claims, the main thread decodes, calls and encodes."""
    claims: queue.SimpleQueue[list[tuple[Held, bytes]]] = queue.SimpleQueue()
    outcomes: queue.SimpleQueue[list[Held]] = queue.SimpleQueue()
    moved = 0

    def talk() -> None:
        nonlocal moved
        batches = IN_FLIGHT
        while batches:
            ended = outcomes.get()
            moved += len(ended)
            is_over = moved >= count or boottime() >= until
            taken = store.exchange(ended, 0 if is_over else BATCH)
            claims.put(taken)
            batches -= not taken

    for _ in range(IN_FLIGHT):
        outcomes.put([])
    engine = threading.Thread(target=talk)
    engine.start()
    decode, encode = msgspec.msgpack.Decoder().decode, msgspec.msgpack.Encoder().encode
    batches = IN_FLIGHT
    while batches:
        ended: list[Held] = []
        for held, body in claims.get():
            args, kwargs = decode(body)
            encode(_nothing(*args, **kwargs))
            ended.append(held)
        if ended:
            outcomes.put(ended)
        batches -= not ended
    engine.join()
    return moved


def _nothing() -> object:
    return None


def single(store: Store, count: int, until: float) -> int:
    """Enqueue one job per transaction."""
    for moved in range(count):
        if boottime() >= until:
            return moved
        store.enqueue([BODY])
    return count


def bulk(store: Store, count: int, until: float) -> int:
    """Enqueue `PAGE` jobs per transaction."""
    for moved in range(0, count, PAGE):
        if boottime() >= until:
            return moved
        store.enqueue([BODY] * min(PAGE, count - moved))
    return count


LOOPS: dict[str, Loop] = {"drain": drain, "prototype": prototype, "single": single, "bulk": bulk}

if __name__ == "__main__":
    main()
