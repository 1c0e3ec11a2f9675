"""What happens to workers under torture, and whom it hit."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

from cicely.testing.fleet import WorkerProcess, go_on, kill, stop
from cicely.worker.processes import boottime, descendants

_SHAKEN_LEASES: Final = 5


class Crew(Protocol):
    """The workers under torture."""

    workers: list[WorkerProcess]

    def replace(self, worker: WorkerProcess) -> None:
        """Start another worker in the place of one that is gone or going."""


class Saboteur:
    """Kills and stops processes. `victims` are the pids whose jobs may run again because of it.

    `counts` says how often each fault was injected; a fault that found nobody to hit is not one.
    """

    def __init__(self, crew: Crew, *, lease_s: float, seed: int) -> None:
        self.counts: Counter[str] = Counter()
        self.victims: set[int] = set()
        self._crew = crew
        self._lease_s = lease_s
        self._random = random.Random(seed)  # noqa: S311  (repeatable by its seed)
        self._stopped: list[tuple[float, list[int]]] = []
        self._shaken: list[tuple[float, WorkerProcess]] = []

    # --- what can be done -----------------------------------------------------------------------
    def kill_child(self) -> None:
        """SIGKILL one child of one worker."""
        for worker in self._shuffled():
            children = worker.children()
            if children:
                child = self._random.choice(children)
                # Its attempts are the zygote's children, and die with it.
                self._hit("child killed", [child, *worker.attempts()])
                kill(child)
                return

    def kill_attempt(self) -> None:
        """SIGKILL one isolated attempt."""
        for worker in self._shuffled():
            attempts = worker.attempts()
            if attempts:
                attempt = self._random.choice(attempts)
                self._hit("attempt killed", [attempt])
                kill(attempt)
                return

    def kill_supervisor(self) -> None:
        """SIGKILL one supervisor; another worker takes its place."""
        worker = self._random.choice(self._crew.workers)
        self._hit("supervisor killed", worker.tree())
        worker.kill()
        self._crew.replace(worker)

    def kill_zygote(self) -> None:
        """SIGKILL one zygote."""
        for worker in self._shuffled():
            zygote = worker.zygote()
            if zygote:
                self._hit("zygote killed", worker.tree())
                kill(zygote)
                return

    def stop_child(self) -> None:
        """SIGSTOP one child for up to two leases; its supervisor beats for it all the while."""
        for worker in self._shuffled():
            children = worker.children()
            if children:
                child = self._random.choice(children)
                # It may have been stopped as it held the file's lock: whoever waits kills it then.
                self._hit("child stopped", [child, *worker.attempts()])
                self._stop([child], self._random.uniform(0.3, 2) * self._lease_s)
                return

    def stop_supervisor(self) -> None:
        """SIGSTOP one supervisor for two leases."""
        worker = self._random.choice(self._crew.workers)
        self._hit("supervisor stopped", worker.tree())
        self._stop([worker.pid], 2 * self._lease_s)
        self._shake(worker)

    def stop_family(self) -> None:
        """SIGSTOP one supervisor, its zygote and its children for three leases."""
        worker = self._random.choice(self._crew.workers)
        self._hit("family stopped", worker.tree())
        self._stop([worker.pid, *descendants(worker.pid)], 3 * self._lease_s)
        self._shake(worker)

    def stop_guards(self) -> None:
        """SIGSTOP one supervisor and its zygote for three leases; its children run on."""
        worker = self._random.choice(self._crew.workers)
        zygote = worker.zygote()
        if zygote:
            self._hit("supervisor and zygote stopped", worker.tree())
            self._stop([worker.pid, zygote], 3 * self._lease_s)
            self._shake(worker)

    def terminate(self) -> None:
        """Ask one worker to stop, and replace it."""
        worker = self._random.choice(self._crew.workers)
        self._hit("worker told to stop", worker.tree())
        worker.terminate()
        self._crew.replace(worker)

    # --- one after the other --------------------------------------------------------------------
    def strike(self) -> None:
        """Inject one fault, drawn by how often each is wanted."""
        [fault] = self._random.choices([fault for _, fault in FAULTS], [often for often, _ in FAULTS])
        fault(self)

    def relent(self) -> None:
        """Let those go on that were stopped for long enough."""
        now = boottime()
        for until, pids in self._stopped:
            if until <= now:
                go_on(pids)
        self._stopped = [(until, pids) for until, pids in self._stopped if until > now]
        self._shaken = [(until, worker) for until, worker in self._shaken if until > now]
        for _, worker in self._shaken:
            self.victims.update(worker.tree())

    def end(self) -> None:
        """Let all go on."""
        for _, pids in self._stopped:
            go_on(pids)
        self._stopped.clear()

    def _shuffled(self) -> list[WorkerProcess]:
        workers = list(self._crew.workers)
        self._random.shuffle(workers)
        return workers

    def _hit(self, fault: str, pids: list[int]) -> None:
        self.counts[fault] += 1
        self.victims.update(pids)

    def _shake(self, worker: WorkerProcess) -> None:
        """Note that a worker, once it goes on, may learn late that it was given up.

        It then starts over, and takes with it what it had started meanwhile.
        """
        self._shaken.append((boottime() + _SHAKEN_LEASES * self._lease_s, worker))

    def _stop(self, pids: list[int], for_s: float) -> None:
        stop(pids)
        self._stopped.append((boottime() + for_s, pids))


#: How often each fault is wanted.
FAULTS: Final[list[tuple[int, Callable[[Saboteur], None]]]] = [
    (56, Saboteur.kill_child),
    (6, Saboteur.kill_attempt),
    (9, Saboteur.kill_supervisor),
    (3, Saboteur.kill_zygote),
    (10, Saboteur.stop_child),
    (4, Saboteur.stop_supervisor),
    (3, Saboteur.stop_family),
    (3, Saboteur.stop_guards),
    (6, Saboteur.terminate),
]
