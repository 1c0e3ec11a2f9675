"""Processes that claim jobs under limits and resources, and see by the kernel's locks if one is exceeded.

Whoever holds a unit holds a lock on its file, taken after the claim and let go before the outcome is
told: so what the files show at any instant is at most what the engine has given out. The kernel lets the
locks of a killed process go; only then is its session retired.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cicely.core.flow import Flow, Use
from cicely.core.job import Claim, Kind, NewJob
from cicely.core.limits import Limit
from cicely.core.outcome import Deferred, Failed, HandedBack, Outcome, Succeeded
from cicely.core.reservations import EVERYTHING
from cicely.engines.connect import connect
from cicely.engines.contract import Ask, Demand, Engine, Session, Silent
from cicely.errors import SessionClosed

#: Who holds a key at once, at most; and the devices of the one worker that all sessions belong to.
LIMITS: Final = {"api": 3, "disk": 2}
OFFERS: Final = {"gpu": {"0": 1.0, "1": 1.0}}
FLOWS: Final = (
    Flow(uses=(Use("api"),)),
    Flow(uses=(Use("api"), Use("disk"))),
    Flow(resources=(("gpu", 1.0),)),
    Flow(resources=(("gpu", 2.0),)),
    Flow(uses=(Use("disk"),), resources=(("gpu", 1.0),)),
    None,
)
#: No process lives longer, whatever becomes of its parent.
BOUND_S: Final = 60.0


@contextlib.contextmanager
def opened(url: str) -> Iterator[Engine]:
    """Connect, and let go again: no connection is open when a process is forked."""
    engine = connect(url)
    engine.open()
    try:
        yield engine
    finally:
        engine.close()


class Crew:
    """Sessions of one worker, each in a process of its own, and who looks after them."""

    def __init__(self, url: str, folder: Path, draw: random.Random) -> None:
        self.url = url
        self.folder = folder
        self.draw = draw
        self.jobs = 0
        self.members: dict[int, str] = {}
        self._hired = 0

    def prepare(self) -> None:
        with opened(self.url) as engine:
            engine.configure([Limit(key=key, concurrency=most) for key, most in LIMITS.items()])

    def send(self, count: int) -> None:
        """Enqueue jobs of every kind."""
        numbers = range(self.jobs, self.jobs + count)
        self.jobs += count
        with opened(self.url) as engine:
            engine.enqueue([job(number) for number in numbers])

    def hire(self) -> None:
        """Start another process that claims."""
        name = f"s{self._hired}"
        self._hired += 1
        seed = self.draw.random()
        pid = os.fork()
        if pid == 0:
            _live(self.url, self.folder, name, random.Random(seed))
        self.members[pid] = name

    def kill(self) -> None:
        """Kill one in whatever it does, and give back what it held, as its worker or as another would."""
        pid = self.draw.choice(list(self.members))
        name = self.members.pop(pid)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with opened(self.url) as engine:
            if self.draw.random() < 0.5:
                engine.retire(name)
            else:
                engine.sweep(1000, [Silent(name, beat=0)])

    def dismiss(self) -> list[int]:
        """Let all end after what they do now; return how they ended."""
        (self.folder / "over").touch()
        return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in list(self.members)]

    def excesses(self) -> list[str]:
        """Return what was seen to be held more often than it may be."""
        file = self.folder / "excesses"
        return file.read_text().splitlines() if file.exists() else []


def job(number: int) -> NewJob:
    return NewJob(
        id=f"j{number}",
        task="work",
        kind=Kind.SYNC,
        queue="main",
        lane=f"lane {number % 5}",
        flow=FLOWS[number % len(FLOWS)],
        workflow=f"w{number % 7}" if number % 3 else "",
    )


# --- in the process -----------------------------------------------------------------------
def _live(url: str, folder: Path, name: str, draw: random.Random) -> None:
    status = 1
    try:
        threading.Timer(BOUND_S, os._exit, (9,)).start()
        with opened(url) as engine:
            _claim_and_run(engine, folder, name, draw)
        status = 0
    except BaseException:  # noqa: BLE001  (a fork must not go on as a test)
        traceback.print_exc()
    finally:
        os._exit(status)


def _claim_and_run(engine: Engine, folder: Path, name: str, draw: random.Random) -> None:
    engine.join(Session(id=name, worker="boss", tasks=frozenset({"work"}), queues=("main",), offers=OFFERS))
    outcomes: list[Outcome] = []
    while not (folder / "over").exists() or outcomes:
        ask = Ask((Kind.SYNC,), 0 if (folder / "over").exists() else draw.randint(1, 3))
        settled = engine.settle(name, outcomes, Demand(os.urandom(8), ("main",), (ask,)))
        outcomes = [_run(engine, folder, name, claim, draw) for claim in settled.intake.claims]
        if not outcomes:
            time.sleep(0.005)
    engine.retire(name)


def _run(engine: Engine, folder: Path, name: str, claim: Claim, draw: random.Random) -> Outcome:
    units = [f"{resource}-{unit}" for resource, given in claim.units.items() for unit in given]
    with contextlib.ExitStack() as held:
        for unit in units:
            held.enter_context(_locked(folder, unit, 1))
        for key in claim.keys:
            held.enter_context(_locked(folder, key, LIMITS[key]))
        if "disk" not in claim.keys and draw.random() < 0.2:
            _use_disk(engine, folder, name, claim)
        time.sleep(draw.expovariate(200))
    return _outcome(claim, draw)


def _use_disk(engine: Engine, folder: Path, name: str, claim: Claim) -> None:
    request = os.urandom(8)
    with contextlib.suppress(SessionClosed):
        if engine.acquire(name, claim.token, request, [Use("disk")]).given:
            with _locked(folder, "disk", LIMITS["disk"]):
                time.sleep(0.002)
            engine.release(name, claim.token, request, {})


def _outcome(claim: Claim, draw: random.Random) -> Outcome:
    kinds = (
        Succeeded(claim.token, frees=(EVERYTHING,) * draw.randint(0, 1)),
        Succeeded(claim.token, keeps=tuple(claim.units) * draw.randint(0, 1)),
        Failed(claim.token, "error", retry_in_s=0.01),
        HandedBack(claim.token),
        Deferred(claim.token, 0.01, slows=("api",) * draw.randint(0, 1)),
    )
    return draw.choice(kinds)


@contextlib.contextmanager
def _locked(folder: Path, name: str, most: int) -> Iterator[None]:
    """Hold one of the locks of a key; where none is free, write that down."""
    files = [os.open(folder / f"{name}.{n}", os.O_CREAT | os.O_RDWR, 0o600) for n in range(most)]
    try:
        if not any(_is_locked(file) for file in files):
            with (folder / "excesses").open("a") as excesses:
                excesses.write(f"more than {most} hold {name}\n")
        yield
    finally:
        for file in files:
            os.close(file)


def _is_locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
