"""One life of a process that is its producer, worker and supervisor, and may die at any failpoint.

The next life in the same folder takes up what is left: it repeats what was asked for, and rescues its
predecessor.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import traceback
from pathlib import Path

import msgspec

import cicely.engines.postgres.engine  # once, and not in every life
import cicely.engines.redis.engine
import cicely.engines.sqlite.engine  # noqa: F401  (likewise)
from cicely import Cicely
from cicely.core.job import Job
from cicely.engines.connect import connect
from cicely.engines.contract import Engine, Session
from cicely.worker import child
from cicely.worker.board import Board
from cicely.worker.clerk import Clerk
from cicely.worker.control import Begin, Cancel, Control, Joined, pair
from cicely.worker.handover import Handover
from cicely.worker.keeper import Keeper
from cicely.worker.processes import boottime, start_time, this_host

LEASE_S = 30.0
COROUTINES = 12
#: The longest that a life takes.
BOUND_S = 20.0


class Life:
    """One process: a child in its main thread, and threads that are its supervisor and its producer."""

    def __init__(self, folder: Path, app: Cicely) -> None:
        self.folder = folder
        self.app = app
        self.worker_id = os.urandom(12).hex()
        self.session_id = os.urandom(12).hex()
        self.board = Board.create(threads=1, coroutines=COROUTINES)
        self.board.deadline_at = boottime() + 3600
        ours, self.theirs = pair()
        self.control = Control(ours)
        self.engine = connect(app.url, role="worker")

    def close(self) -> None:
        """Give back what this process took; for who only looks at what the lives left."""
        self.app.close()
        self.engine.close()
        self.board.close()
        self.theirs.close()

    def note(self, name: str, text: str) -> None:
        file = os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(file, text.encode() + b"\n")
        os.close(file)

    def acknowledge(self, ids: list[str]) -> None:
        self.note("acked", "\n".join(ids))

    # --- what a scenario says ---
    def prepare(self) -> None:
        """Do what comes before the worker's first call."""

    def produce(self) -> None:
        """Enqueue, wait until all has come to rest, and let the worker drain."""
        raise NotImplementedError

    # --- the worker ---
    def live(self) -> None:
        """Live to the end, or die on the way."""
        threading.Thread(target=self.produce_or_end, daemon=True).start()
        self.work()

    def produce_or_end(self) -> None:
        try:
            self.produce()
        except BaseException:  # noqa: BLE001  (without it the worker would wait for ever)
            traceback.print_exc()
            os._exit(1)

    def work(self) -> None:
        self.engine.open()
        self.look_for_losses()
        self.prepare()
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
        child.main(self.app, msgspec.msgpack.encode(begin), fds, None)
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


def words(folder: Path, name: str) -> list[str]:
    """Return the whole lines of a file; the last one of a killed process may be torn."""
    file = folder / name
    return file.read_text().split("\n")[:-1] if file.exists() else []


def get(engine: Engine, ids: list[str]) -> list[Job | None]:
    return list(engine.get(ids)) if ids else []
