"""One system on one server: its producers, its workers, and what its jobs wrote down."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import psutil

from benchmarks.compare.environments import ROOT, Environment
from benchmarks.compare.servers import Server
from benchmarks.peers import ledger
from benchmarks.peers.catalogue import Launch, Peer
from benchmarks.processes import tree_of
from benchmarks.runs import Moved, Run, results

_STOP_S: Final = 3.0
_LOOK_S: Final = 0.005
#: How long a worker may take until its first job runs.
_START_S: Final = 30.0


class NotOffered(RuntimeError):
    """The system has no such thing."""


class Failed(RuntimeError):
    """The system did not do what it was asked; says what it said last."""


class Crew:
    """The processes of one worker, seen from outside."""

    def __init__(self, started: Sequence[subprocess.Popen[bytes]]) -> None:
        self._started = started
        self._orphans: list[psutil.Process] = []

    @property
    def pids(self) -> list[int]:
        """The ids of the processes that were started, without those that they started."""
        return [one.pid for one in self._started]

    @property
    def members(self) -> list[int]:
        """The ids of all its processes."""
        return [member for one in self._started if one.poll() is None for member in tree_of(one.pid)]

    @property
    def is_alive(self) -> bool:
        """Whether any of the processes that were started runs."""
        return any(one.poll() is None for one in self._started)

    def stop(self) -> None:
        """Ask it to stop, and kill what does not."""
        left = self._everyone()
        for one in self._started:
            one.send_signal(signal.SIGTERM)
        give_up_at = time.monotonic() + _STOP_S
        for one in self._started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                one.wait(max(0.0, give_up_at - time.monotonic()))
        _kill(left)
        for one in self._started:
            one.wait()

    def kill(self) -> None:
        """Kill all of it at once."""
        _kill(self._everyone())
        for one in self._started:
            one.wait()

    def kill_one(self, pid: int) -> None:
        """Kill one process of it, and remember the others: whom it started nobody finds any more."""
        self._orphans = [process for process in self._everyone() if process.pid != pid]
        os.kill(pid, signal.SIGKILL)

    def _everyone(self) -> list[psutil.Process]:
        found = list(self._orphans)
        for pid in self.members:
            with contextlib.suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(pid))
        return found


def _kill(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        # It knows its process by its start as well: a number that was given again is safe.
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


class Contestant:
    """A system that is asked for jobs and runs them; `folder` is for its logs and the ledger."""

    def __init__(self, peer: Peer, environment: Environment, server: Server, folder: Path) -> None:
        self.peer = peer
        self.server = server
        self.versions = environment.versions
        self._programs = environment.programs
        self._python = environment.python
        self._log = folder / f"{peer.name}.log"
        # In memory: writing down is no part of what is measured, and asks no disk.
        self.ledger = Path("/dev/shm") / f"{folder.parent.name}-{peer.name}.ledger"

    @property
    def name(self) -> str:
        """What it is called."""
        return self.peer.name

    def clear(self) -> None:
        """Forget all jobs, and what they wrote."""
        self.server.clear()
        self.forget()

    def forget(self) -> None:
        """Forget what jobs wrote."""
        self.ledger.write_bytes(b"")

    def close(self) -> None:
        """Leave nothing behind."""
        self.ledger.unlink(missing_ok=True)

    # --- asking -----------------------------------------------------------------------------------
    def ask(self, work: str, count: int, *, limit_s: float) -> Any:
        """Have a producer do one piece of work, and return its answer."""
        with self._log.open("a") as log:
            run = Run(
                "benchmarks.peers.producer",
                self.peer.module,
                work,
                count,
                limit_s,
                environment=self._environment({}),
                python=self._python,
                log=log,
            )
        try:
            [answer] = results([run], limit_s=limit_s)
        except (RuntimeError, subprocess.TimeoutExpired, ValueError) as error:
            raise Failed(f"{work}: {self._last_words() or error}") from error
        if isinstance(answer, dict) and "not_offered" in answer:
            raise NotOffered(answer["not_offered"])
        return answer

    def moved(self, work: str, count: int, *, limit_s: float) -> Moved:
        """Have a producer enqueue, and return how many it could in time."""
        return msgspec.convert(self.ask(work, count, limit_s=limit_s), Moved)

    # --- working ----------------------------------------------------------------------------------
    @contextmanager
    def working(self, processes: int) -> Iterator[Crew]:
        """Run a worker of so many processes; yields its processes."""
        with self._launched(self.peer.worker, processes) as crew:
            yield crew

    @contextmanager
    def sleeping(self) -> Iterator[Crew]:
        """Run one process with room for a thousand waiting jobs."""
        if self.peer.sleeper is None:
            raise NotOffered("a process runs one job at a time")
        with self._launched(self.peer.sleeper, 1) as crew:
            yield crew

    @contextmanager
    def _launched(self, launch: Launch, processes: int) -> Iterator[Crew]:
        copies = processes if launch.per_process else 1
        crew = Crew([self._started(launch, processes, index=index) for index in range(copies)])
        try:
            yield crew
        finally:
            crew.stop()

    def _started(self, launch: Launch, processes: int, *, index: int) -> subprocess.Popen[bytes]:
        blanks = {"processes": str(processes), "url": self.server.url, "index": str(index)}
        program, *words = [word.format_map(blanks) for word in launch.words]
        own = {name: value.format_map(blanks) for name, value in launch.environment.items()}
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [str(self._programs / program), *words],
                env={**os.environ, **self._environment(own)},
                cwd=self._log.parent,
                stdout=log,
                stderr=log,
            )

    def _environment(self, own: dict[str, str]) -> dict[str, str]:
        return {
            "BENCH_URL": self.server.url,
            ledger.FILE_VARIABLE: str(self.ledger),
            "PYTHONPATH": str(ROOT),
            "CICELY_URL": self.server.url,
            **own,
        }

    # --- watching ---------------------------------------------------------------------------------
    @property
    def ran(self) -> int:
        """How many jobs wrote something down since it was last forgotten."""
        return ledger.count(self.ledger)

    def await_first(self, crew: Crew) -> Moved:
        """Return when a first job ran, with how many had by then."""
        give_up_at = ledger.now() + _START_S
        while not (done := ledger.count(self.ledger)):
            if ledger.now() > give_up_at or not crew.is_alive:
                raise Failed(f"no job ran: {self._last_words()}")
            time.sleep(_LOOK_S)
        now = ledger.now()
        return Moved(done, now, now)

    def watch(self, count: int, *, since: Moved, limit_s: float) -> Moved:
        """Look on until `count` jobs ran, or `limit_s` later; return those that ran `since` the first."""
        while (done := ledger.count(self.ledger)) < count and ledger.now() < since.ended_at + limit_s:
            time.sleep(_LOOK_S)
        return Moved(done - since.jobs, since.ended_at, ledger.now())

    def await_entries(self, count: int, *, limit_s: float) -> list[ledger.Entry]:
        """Return what jobs wrote down when it is so many entries, or what there is `limit_s` later."""
        give_up_at = ledger.now() + limit_s
        while ledger.count(self.ledger) < count and ledger.now() < give_up_at:
            time.sleep(_LOOK_S)
        return ledger.entries(self.ledger)

    def _last_words(self) -> str:
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1][:200] if lines else ""
