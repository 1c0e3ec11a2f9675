"""Claims in a hand-over, raced for by two real processes: who starts them and who takes them back."""

from __future__ import annotations

import os
import random
import select
import time
from typing import Final

import msgspec

from cicely.worker.handover import RECORD_BYTES, STOP, Handover

_BATCH: Final = 16
#: Up to so long the other process may start claims before they are taken back; every second time, no time
#: at all, so that both sides win some where they share one core.
_DAWDLE_S: Final = 0.0001
_PATIENCE_S: Final = 60.0


class Race(msgspec.Struct, frozen=True):
    """How a race ended. `doubled` went to both sides, `missing` to neither; both should be 0."""

    put: int
    started: int
    taken_back: int
    doubled: int
    missing: int


def race_take_backs_against_starts(*, take_backs: int, starts: int) -> Race:
    """Put claims into a hand-over and take them back while another process starts them.

    Ends when at least `take_backs` claims were taken back and `starts` started, however the machine shares
    its cores between the two; after a minute it ends with the counts that it has.
    """
    handover = Handover.create()
    started = os.memfd_create("cicely-race")
    starter = os.fork()
    if starter == 0:
        _start_what_comes(handover, started)
    draw = random.Random(take_backs)  # noqa: S311  (only spreads the instants)
    taken: list[bytes] = []
    number = 0
    ends_at = time.monotonic() + _PATIENCE_S
    while (len(taken) < take_backs or _count(started) < starts) and time.monotonic() < ends_at:
        tokens = [(number + i + 1).to_bytes(RECORD_BYTES, "big") for i in range(_BATCH)]
        number += _BATCH
        handover.put(tokens)
        _dawdle(draw.choice((0.0, draw.uniform(0, _DAWDLE_S))))
        taken += handover.take_all()
    handover.put([STOP])
    os.waitpid(starter, 0)
    handover.close()
    return _judge(number, taken, _read(started))


def _dawdle(seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        os.sched_yield()


def _start_what_comes(handover: Handover, started: int) -> None:
    poller = select.poll()
    poller.register(handover.read_fd, select.POLLIN)
    while (token := handover.take()) != STOP:
        if token is None:
            poller.poll()
        else:
            os.write(started, token)
    os._exit(0)


def _count(started: int) -> int:
    return os.fstat(started).st_size // RECORD_BYTES


def _read(started: int) -> list[bytes]:
    data = os.pread(started, _count(started) * RECORD_BYTES, 0)
    os.close(started)
    return [data[start : start + RECORD_BYTES] for start in range(0, len(data), RECORD_BYTES)]


def _judge(put: int, taken: list[bytes], started: list[bytes]) -> Race:
    all_of_them = taken + started
    return Race(
        put=put,
        started=len(started),
        taken_back=len(taken),
        doubled=len(all_of_them) - len(set(all_of_them)),
        missing=put - len(set(all_of_them)),
    )
