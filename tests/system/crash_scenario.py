"""A scenario of 200 jobs, lived through by one process that is its producer, worker and supervisor.

The process may die at any failpoint. Another life of the same scenario in the same folder takes up
what is left: it repeats every enqueue and every cancellation by id, and rescues its predecessor.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import msgspec

import cicely
import cicely.engines.sqlite.engine  # once, and not in every life
from cicely import Cicely, Retry
from cicely.core.failpoints import Fuse, install
from cicely.core.job import Job
from cicely.engines.connect import connect
from cicely.engines.contract import Engine, Session
from cicely.testing.fleet import wait_for
from cicely.testing.ledger import Ledger, judge
from cicely.testing.torture.report import fences_out_of_order_in, unexplained_in
from cicely.worker import child
from cicely.worker.board import Board
from cicely.worker.clerk import Clerk
from cicely.worker.control import Begin, Cancel, Control, Drain, Joined, pair
from cicely.worker.handover import Handover
from cicely.worker.keeper import Keeper
from cicely.worker.processes import boottime, start_time, this_host

LEASE_S = 30.0
COROUTINES = 12
BOUND_S = 20.0


def named(kind: str, count: int) -> list[str]:
    return [f"{kind}-{number:03d}" for number in range(count)]


IDS = {
    "plain": named("plain", 100),
    "fails_once": named("fails_once", 30),
    "fails": named("fails", 10),
    "late": named("late", 20),
    "walks": named("walks", 15),
    "together": named("together", 5),
    "never": named("never", 5),
    "endless": named("endless", 5),
    "message": named("message", 10),
}
ALL = [job_id for ids in IDS.values() for job_id in ids]
STATES = {
    **dict.fromkeys(ALL, "succeeded"),
    **dict.fromkeys(IDS["fails"], "failed"),
    **dict.fromkeys([*IDS["never"], *IDS["endless"]], "cancelled"),
}


class Jobs:
    """The functions of the scenario; each attempt is noted in the ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def noted(self):
        context = cicely.current()
        return self.ledger.attempt(context.job_id, context.fence)

    def plain(self) -> None:
        with self.noted():
            pass

    def fails_once(self) -> None:
        with self.noted():
            if cicely.current().attempt == 1:
                raise ConnectionError

    def fails(self) -> None:
        with self.noted():
            raise ValueError

    def walks(self) -> None:
        with self.noted():
            context = cicely.current()
            if context.restored != "half":
                context.progress(1, 2)
                context.checkpoint("half")
                raise ConnectionError

    async def together(self) -> None:
        with self.noted():
            await asyncio.sleep(0.01)

    async def endless(self) -> None:
        with self.noted():
            await asyncio.sleep(600)


def build(folder: Path) -> SimpleNamespace:
    """Return the app and its tasks; `folder` holds the database and the ledger."""
    app = Cicely("crash", f"sqlite:///{folder}/jobs.db", functions_from=[])
    jobs = Jobs(Ledger(folder / "ledger"))
    again = Retry(attempts=3, backoff=0.01)
    options = {"fails_once": {"retry": again}, "walks": {"retry": again}}
    tasks = {
        name: app.task(name=name, **options.get(name, {}))(getattr(jobs, name))
        for name in ("plain", "fails_once", "fails", "walks", "together", "endless")
    }
    return SimpleNamespace(app=app, queue=app.queue("post"), tasks=tasks)


# --- one life -----------------------------------------------------------------------------------
def live(folder: Path, hook: Callable[[str], None] | None) -> None:
    """Live through the scenario to its end, or die on the way."""
    install(hook)
    site = build(folder)
    life = Life(folder, site)
    threading.Thread(target=life.produce, daemon=True).start()
    life.work()
    install(None)


class Life:
    """One process: a child in its main thread, and threads that are its supervisor and its producer."""

    def __init__(self, folder: Path, site: SimpleNamespace) -> None:
        self.folder = folder
        self.site = site
        self.worker_id = os.urandom(12).hex()
        self.session_id = os.urandom(12).hex()
        self.board = Board.create(threads=1, coroutines=COROUTINES)
        self.board.deadline_at = boottime() + 3600
        ours, self.theirs = pair()
        self.control = Control(ours)
        self.engine = connect(site.app.url, role="worker")

    def note(self, name: str, text: str) -> None:
        file = os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(file, text.encode() + b"\n")
        os.close(file)

    # --- the worker ---
    def work(self) -> None:
        self.engine.open()
        self.look_for_losses()
        self.engine.join(
            Session(
                id=self.worker_id,
                worker=self.worker_id,
                lease_s=LEASE_S,
                host=this_host(),
                pid=os.getpid(),
                start_time=start_time(os.getpid()) or 0,
            )
        )
        self.keeper = Keeper(self.engine, self.worker_id, lease_s=LEASE_S)
        self.keeper.start()
        threading.Thread(target=self.supervise, daemon=True).start()
        begin = Begin(
            session_id=self.session_id,
            worker_id=self.worker_id,
            name="",
            mark="",
            lease_s=LEASE_S,
            groups=((("default", 1.0),),),
            threads=1,
            coroutines=COROUTINES,
            max_jobs=0,
            target="",
        )
        plain, loop = Handover.create(), Handover.create()
        clerks, desk = socket.socketpair()
        ring_fd = os.eventfd(0, os.EFD_NONBLOCK)
        fds = [
            os.dup(self.board.fd),
            plain.read_fd,
            plain.write_fd,
            loop.read_fd,
            loop.write_fd,
            os.dup(self.theirs.fileno()),
            desk.detach(),
            ring_fd,
        ]
        Clerk(self.engine, self.session_id, clerks, os.dup(ring_fd)).start()
        child.main(self.site.app, msgspec.msgpack.encode(begin), fds, None)
        session_id = self.session_id
        self.keeper.post(lambda: self.engine.retire(session_id))
        self.keeper.finish(timeout_s=5)
        self.engine.retire(self.worker_id)
        self.engine.close()

    def look_for_losses(self) -> None:
        """Note what was acknowledged to the life before, and is not there."""
        acked = words(self.folder, "acked")
        for job_id, record in zip(acked, get(self.engine, acked), strict=True):
            if record is None:
                self.note("lost", job_id)

    def supervise(self) -> None:
        """Do what a supervisor does with the keeper's news."""
        told: set[bytes] = set()
        while True:
            time.sleep(0.002)
            if any(isinstance(word, Joined) for word in self.control.heard()):
                self.keeper.beat_for({self.session_id: self.board})
            for news in self.keeper.news():
                for beat in news.beats:
                    new = [token for token in beat.cancelled if token not in told]
                    if new and beat.session_id == self.session_id:
                        self.control.say(Cancel(tuple(new)))
                        told.update(new)

    # --- the producer ---
    def produce(self) -> None:
        tasks = self.site.tasks
        for name in ("plain", "fails_once", "fails", "walks", "together", "endless"):
            self.enqueue(tasks[name], IDS[name])
        self.enqueue(tasks["plain"].options(countdown=0.03), IDS["late"])
        with self.site.app.batch():
            for job_id in IDS["never"]:
                tasks["plain"].options(id=job_id, countdown=600).delay()
        self.acknowledge(IDS["never"])
        for job_id in IDS["message"]:
            self.site.queue.send(job_id, id=job_id)
            self.acknowledge([job_id])
        for job_id in [*IDS["never"], *IDS["endless"]]:
            self.cancel(job_id)
        self.consume()
        self.await_rest()
        self.control.say(Drain())

    def enqueue(self, task, ids: list[str]) -> None:
        unused = iter(ids)
        task.delay_many((() for _ in ids), ids=lambda row: next(unused))
        self.acknowledge(ids)

    def acknowledge(self, ids: list[str]) -> None:
        self.note("acked", "\n".join(ids))

    def cancel(self, job_id: str) -> None:
        if job_id in IDS["endless"]:
            running = ("running", "cancelled")
            wait_for(
                lambda: self.site.app.job(job_id).state in running,
                within_s=BOUND_S,
                what=f"{job_id} running",
            )
        self.site.app.cancel(job_id)

    def consume(self) -> None:
        """Receive until every message is done with; each third is given back the first time."""
        while not all(record.state.is_final for record in get(self.site.app.engine, IDS["message"])):
            for message in self.site.queue.receive(max=3, wait=0.02):
                self.note("received", message.id)
                if message.attempt == 1 and message.id[-1] in "369":
                    message.nack()
                elif message.ack():
                    self.note("received", f"ack:{message.id}")

    def await_rest(self) -> None:
        def moving() -> list[Job]:
            return [job for job in get(self.site.app.engine, ALL) if not job.state.is_final]

        try:
            wait_for(lambda: not moving(), within_s=BOUND_S)
        except AssertionError as late:
            raise AssertionError(f"still moving: {moving()}") from late


def words(folder: Path, name: str) -> list[str]:
    """Return the whole lines of a file; the last one of a killed process may be torn."""
    file = folder / name
    return file.read_text().split("\n")[:-1] if file.exists() else []


def get(engine: Engine, ids: list[str]) -> list[Job | None]:
    return list(engine.get(ids)) if ids else []


# --- what is left of it -------------------------------------------------------------------------
def faults_in(folder: Path, dead: set[int]) -> list[str]:
    """Return what is wrong after the last life has come to its end; `dead` are the pids that died."""
    engine = connect(f"sqlite:///{folder}/jobs.db", role="producer")
    engine.open()
    records = dict(zip(ALL, engine.get(ALL), strict=True))
    engine.close()
    ledger = Ledger(folder / "ledger")
    lines = ledger.lines()
    judgement = judge(ledger, attempted=len(ALL), acknowledged=ALL, jobs=records)
    wrong = {
        job_id: record.state.value
        for job_id, record in records.items()
        if record is not None and record.state != STATES[job_id]
    }
    found = [f"lost: {job_id}" for job_id in words(folder, "lost")]
    found += [f"{job_id} ended as {state}" for job_id, state in wrong.items()]
    found += [] if judgement.is_clean else [repr(judgement)]
    found += [f"ran again for no reason: {line}" for line in unexplained_in(lines, records, dead)]
    found += ["fences out of order"] * fences_out_of_order_in(lines)
    return found + received_after_ack(words(folder, "received"))


def received_after_ack(received: list[str]) -> list[str]:
    acked = set()
    found = []
    for word in received:
        if word.startswith("ack:"):
            acked.add(word[4:])
        elif word in acked:
            found.append(f"{word} was received after it was acknowledged")
    return found


# --- lives in processes of their own ------------------------------------------------------------
def in_a_process(folder: Path, hook: Callable[[str], None] | None) -> tuple[int, int]:
    """Live once in a forked process; return its pid and how it ended, as `waitstatus_to_exitcode`."""
    output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.dup2(output, 1)
            os.dup2(output, 2)
            threading.Timer(BOUND_S + 10, os._exit, (9,)).start()
            live(folder, hook)
            status = 0
        except BaseException:  # noqa: BLE001  (told by the parent)
            os.write(output, traceback.format_exc().encode())
        finally:
            os._exit(status)
    os.close(output)
    return pid, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Count:
    """A hook that writes down every name that is passed."""

    def __init__(self, file: Path) -> None:
        self._fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def __call__(self, name: str) -> None:
        os.write(self._fd, name.encode() + b"\n")


def count_hits(folder: Path) -> Counter[str]:
    """Live once, to the end, and return how often each failpoint was passed."""
    _, status = in_a_process(folder, Count(folder / "hits"))
    assert status == 0, (folder / "output").read_text()
    assert faults_in(folder, set()) == []
    return Counter(words(folder, "hits"))


class Crash(msgspec.Struct, frozen=True):
    """One crash: where, whether it happened, and what was wrong in the end."""

    name: str
    hit: int
    happened: bool
    faults: list[str]


def crash_at(folder: Path, name: str, hit: int) -> Crash:
    """Die at this passing of a failpoint, live again, and judge."""
    folder.mkdir()
    pid, status = in_a_process(folder, Fuse(name, hit))
    happened = status == -9
    lives = 1
    while status != 0 and lives < 3:
        lives += 1
        _, status = in_a_process(folder, None)
    faults = faults_in(folder, {pid}) if status == 0 else [(folder / "output").read_text()]
    return Crash(name, hit, happened, faults)
