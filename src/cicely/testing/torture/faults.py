"""What happens to workers, their network and their server under torture, and whom it hit."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from cicely.testing.fleet import WorkerProcess, go_on, kill, stop
from cicely.testing.proxy import Loss
from cicely.testing.torture.networks import Network
from cicely.worker.processes import boottime, descendants

_SHAKEN_LEASES: Final = 5
_LONGEST_OUTAGE_S: Final = 10.0
#: A reply that is lost is one of so many that come next.
_REPLIES: Final = 20


class Crew(Protocol):
    """The workers under torture."""

    workers: list[WorkerProcess]

    def replace(self, worker: WorkerProcess) -> None:
        """Start another worker in the place of one that is gone or going."""

    def network_of(self, worker: WorkerProcess) -> Network | None:
        """Return what lies between this worker and the engine, if that can be disturbed."""


class Server(Protocol):
    """A server that may be killed."""

    def kill(self) -> None:
        """Kill it without a word."""

    def start(self) -> None:
        """Start it again on its data, and return when it answers."""


class Saboteur:
    """Kills and stops processes. `victims` are the pids whose jobs may run again because of it.

    `counts` says how often each fault was injected; a fault that found nobody to hit is not one. `journal`
    is the file where each is written down, with its instant on the clock of the ledger and its victims.
    """

    def __init__(
        self, crew: Crew, *, lease_s: float, seed: int, journal: Path, server: Server | None = None
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.victims: set[int] = set()
        self.lease_s = lease_s
        self._journal = journal
        self._crew = crew
        self._server = server
        self._starts_at: float | None = None
        self._cut_off: list[tuple[float, Network]] = []
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
                self._stop([child], self._random.uniform(0.3, 2) * self.lease_s)
                return

    def stop_supervisor(self) -> None:
        """SIGSTOP one supervisor for two leases."""
        worker = self._random.choice(self._crew.workers)
        self._hit("supervisor stopped", worker.tree())
        self._stop([worker.pid], 2 * self.lease_s)
        self._shake(worker)

    def stop_family(self) -> None:
        """SIGSTOP one supervisor, its zygote and its children for three leases."""
        worker = self._random.choice(self._crew.workers)
        self._hit("family stopped", worker.tree())
        self._stop([worker.pid, *descendants(worker.pid)], 3 * self.lease_s)
        self._shake(worker)

    def stop_guards(self) -> None:
        """SIGSTOP one supervisor and its zygote for three leases; its children run on."""
        worker = self._random.choice(self._crew.workers)
        zygote = worker.zygote()
        if zygote:
            self._hit("supervisor and zygote stopped", worker.tree())
            self._stop([worker.pid, zygote], 3 * self.lease_s)
            self._shake(worker)

    def terminate(self) -> None:
        """Ask one worker to stop, and replace it."""
        worker = self._random.choice(self._crew.workers)
        self._hit("worker told to stop", worker.tree())
        worker.terminate()
        # One that was just starting may have children only now.
        self._shake(worker)
        self._crew.replace(worker)

    # --- to the network -------------------------------------------------------------------------
    def reset_connections(self) -> None:
        """Reset all connections of one worker; no job may run again because of it."""
        network = self._network_of(self._random.choice(self._crew.workers))
        if network is not None:
            self._hit("connections reset", [])
            network.proxy.reset()

    def lose_reply(self) -> None:
        """Lose one reply to one worker; no job may run again because of it."""
        network = self._network_of(self._random.choice(self._crew.workers))
        if network is not None:
            self._hit("reply lost", [])
            network.proxy.lose_reply(self._random.randint(1, _REPLIES), loss=Loss.RESET)

    def silence_connections(self) -> None:
        """Leave all connections of one worker half-open; it may lose its lease before it notices."""
        worker = self._random.choice(self._crew.workers)
        network = self._network_of(worker)
        if network is not None:
            self._hit("connections left half-open", worker.tree())
            network.proxy.silence()
            self._shake(worker)

    def cut_off(self) -> None:
        """Cut one worker off from the engine for three leases."""
        worker = self._random.choice(self._crew.workers)
        network = self._network_of(worker)
        if network is not None:
            self._hit("worker cut off", worker.tree())
            network.cut()
            self._cut_off.append((boottime() + 3 * self.lease_s, network))
            self._shake(worker)

    def _network_of(self, worker: WorkerProcess) -> Network | None:
        """Return a worker's network, unless it is cut already."""
        network = self._crew.network_of(worker)
        return None if any(network is cut for _, cut in self._cut_off) else network

    # --- to the server --------------------------------------------------------------------------
    def kill_server(self, for_s: float | None = None) -> None:
        """SIGKILL the server; it is down for so long, or for up to ten seconds."""
        if self._server is not None and self._starts_at is None:
            down_s = self._random.uniform(0, _LONGEST_OUTAGE_S) if for_s is None else for_s
            self._hit("server killed", [])
            self._server.kill()
            self._starts_at = boottime() + down_s

    @property
    def is_server_down(self) -> bool:
        """Whether the server is dead now."""
        return self._starts_at is not None

    def _start_server(self) -> None:
        if self._server is not None and self._starts_at is not None:
            self._server.start()
            self._starts_at = None

    # --- one after the other --------------------------------------------------------------------
    def strike(self, faults: Faults) -> None:
        """Inject one of these faults, drawn by how often each is wanted."""
        [fault] = self._random.choices([fault for _, fault in faults], [often for often, _ in faults])
        fault(self)

    def relent(self) -> None:
        """Let those go on that were stopped, cut off or down for long enough."""
        now = boottime()
        if self._starts_at is not None and self._starts_at <= now:
            self._start_server()
        for until, network in self._cut_off:
            if until <= now:
                network.rejoin()
        self._cut_off = [(until, network) for until, network in self._cut_off if until > now]
        for until, pids in self._stopped:
            if until <= now:
                go_on(pids)
        self._stopped = [(until, pids) for until, pids in self._stopped if until > now]
        self._shaken = [(until, worker) for until, worker in self._shaken if until > now]
        for _, worker in self._shaken:
            self.victims.update(worker.tree())

    def end(self) -> None:
        """Let all go on."""
        self._start_server()
        for _, network in self._cut_off:
            network.rejoin()
        self._cut_off.clear()
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
        with self._journal.open("a") as journal:
            journal.write(f"{boottime():.3f} {fault} {' '.join(map(str, pids))}\n")

    def _shake(self, worker: WorkerProcess) -> None:
        """Note that a worker, once it goes on, may learn late that it was given up.

        It then starts over, and takes with it what it had started meanwhile.
        """
        self._shaken.append((boottime() + _SHAKEN_LEASES * self.lease_s, worker))

    def _stop(self, pids: list[int], for_s: float) -> None:
        stop(pids)
        self._stopped.append((boottime() + for_s, pids))


Faults = list[tuple[int, Callable[[Saboteur], None]]]

#: How often each fault to processes is wanted.
TO_PROCESSES: Final[Faults] = [
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

#: Those to the network, beside them, where there is one.
TO_NETWORKS: Final[Faults] = [
    (12, Saboteur.reset_connections),
    (12, Saboteur.lose_reply),
    (3, Saboteur.silence_connections),
    (4, Saboteur.cut_off),
]

#: What happens while the server is killed time and again.
DURING_OUTAGES: Final[Faults] = [(10, Saboteur.kill_child), (1, Saboteur.kill_supervisor)]
