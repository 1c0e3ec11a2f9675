"""Who asks for jobs, who reads messages, and who breaks things."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from cicely.core.job import Enqueued, Kind, NewJob
from cicely.core.outcome import Succeeded
from cicely.engines.contract import Ask, Beat, Demand, Intake, Session, Settled
from cicely.errors import EngineError, SessionClosed
from cicely.testing.cluster.jobs import KEEP_S, QUEUES, make
from cicely.testing.cluster.server import Network
from cicely.testing.cluster.world import LEASE_S, World

if TYPE_CHECKING:
    from cicely.testing.cluster.run import Cluster

T = TypeVar("T")

ASK_EVERY_S: Final = 900.0
FAULT_EVERY_S: Final = LEASE_S / 3
#: Clocks step by up to an hour, and sometimes by up to a day.
STEPS_S: Final = (3_600.0, 3_600.0, 86_400.0)


class Person:
    """A process outside the workers, which is never stopped nor cut off."""

    is_dead = False
    away_s = 0.0
    is_cut_off = False


class Producer(Person):
    """Enqueues, cancels and pauses; repeats each call until it is answered."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._world: World = cluster.world
        self._network: Network = cluster.network
        self._number = 0
        self._named: list[NewJob] = []
        self._turn()

    def _turn(self) -> None:
        world = self._world
        if self._cluster.is_quiet:
            return
        match world.random.randrange(12):
            case 0:
                self._cancel()
            case 1:
                self._pause()
            case 2:
                self._send()
            case 3 if self._named:
                self._enqueue([world.random.choice(self._named)])
            case _:
                self._enqueue([self._new() for _ in range(world.random.choice((1, 1, 2, 4)))])
        world.after(world.random.expovariate(1 / ASK_EVERY_S), self._turn)

    def _new(self) -> NewJob:
        self._number += 1
        job, plan = make(self._number, self._world.random)
        self._cluster.plans[job.id] = plan
        if job.id.startswith("named"):
            self._named.append(job)
        return job

    def _enqueue(self, jobs: Sequence[NewJob]) -> None:
        server = self._network.server

        def answered(answers: list[Enqueued]) -> None:
            self._world.note("enqueued " + ", ".join(answer.id for answer in answers))
            server.ledger.acknowledged.update(answer.id for answer in answers)

        self._insist(lambda: server.enqueue(jobs), answered)

    def _send(self) -> None:
        self._number += 1
        message = NewJob(
            id=f"m{self._number}",
            task="",
            kind=Kind.MESSAGE,
            queue="mail",
            keep_s=KEEP_S,
            keep_failed_s=KEEP_S,
            max_receives=3,
        )
        self._enqueue([message])

    def _cancel(self) -> None:
        ids = [key for key in self._network.server.rows() if not key.startswith("m")]
        if ids:
            job_id = self._world.random.choice(ids)
            self._world.note(f"somebody cancels {job_id}")
            self._insist(lambda: self._network.server.steer("cancel", [job_id]), lambda _: None)

    def _pause(self) -> None:
        server, queue = self._network.server, self._world.random.choice(QUEUES)

        def paused(_: None) -> None:
            self._world.after(
                self._world.between(0, 2 * LEASE_S),
                lambda: self._insist(lambda: server.resume(queue), lambda _: None),
            )

        self._world.note(f"{queue} is paused")
        self._insist(lambda: server.pause(queue), paused)

    def _insist(self, verb: Callable[[], T], then: Callable[[T], None]) -> None:
        def fails(_: EngineError) -> None:
            self._world.after(60.0, lambda: self._insist(verb, then))

        self._network.call(self, verb, then=then, fails=fails)


class Reader(Person):
    """Receives messages, and acknowledges most of them in time."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._world: World = cluster.world
        self._network: Network = cluster.network
        self._held: set[bytes] = set()
        self._beats = 0
        self._id = ""
        self._join()
        self._world.after(LEASE_S / 3, self._beat)

    def _join(self) -> None:
        self._id = f"reader-{self._world.random.randbytes(3).hex()}"
        self._held.clear()
        session = Session(id=self._id, worker=self._id, tasks=frozenset({""}), lease_s=LEASE_S)
        self._call(lambda: self._network.server.join(session), lambda _: self._receive())

    def _receive(self) -> None:
        session_id, request = self._id, self._world.random.randbytes(8)
        demand = Demand(request, ("mail",), (Ask((Kind.MESSAGE,), 2),), visibility_s=LEASE_S)

        def received(intake: Intake) -> None:
            for claim in intake.claims:
                self._held.add(claim.token)
                if self._world.happens(0.8):
                    self._world.after(self._world.between(0, LEASE_S), partial(self._ack, claim.token))
            self._world.after(LEASE_S / 2, self._receive)

        self._call(lambda: self._network.server.claim(session_id, demand), received)

    def _ack(self, token: bytes) -> None:
        session_id = self._id

        def acknowledged(_: Settled) -> None:
            self._held.discard(token)

        outcome = Succeeded(token, b"")
        self._call(lambda: self._network.server.settle(session_id, [outcome]), acknowledged)

    def _beat(self) -> None:
        session_id, held, number = self._id, set(self._held), self._beats + 1
        # As the product's receiver does.
        self._beats = number + 1

        def heard(beats: list[Beat]) -> None:
            if self._beats == number + 1:
                self._beats = number
            self._held.difference_update(beats[0].lost)

        self._call(lambda: self._network.server.beat({session_id: held}, number), heard)
        self._world.after(LEASE_S / 3, self._beat)

    def _call(self, verb: Callable[[], T], then: Callable[[T], None]) -> None:
        session_id = self._id

        def fails(error: EngineError) -> None:
            if not isinstance(error, SessionClosed):
                self._world.after(60.0, lambda: self._call(verb, then))
            elif session_id == self._id:
                self._join()

        self._network.call(self, verb, then=then, fails=fails)


class Saboteur:
    """Breaks something now and then, with the probability of this seed."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._world: World = cluster.world
        self._turn()

    def _turn(self) -> None:
        if self._cluster.is_quiet:
            return
        if self._world.happens(self._cluster.faults):
            fault = self._world.random.choice(
                (
                    self._kill_child,
                    self._kill_child,
                    self._kill,
                    self._stop,
                    self._cut,
                    self._outage,
                    self._step,
                )
            )
            fault()
        self._world.after(
            self._world.random.expovariate(len(self._cluster.supervisors) / FAULT_EVERY_S), self._turn
        )

    def _kill_child(self) -> None:
        children = [c for s in self._cluster.supervisors for c in s.children.values() if c.is_alive]
        if children:
            self._world.random.choice(children).die(-9)

    def _kill(self) -> None:
        victim = self._world.random.choice(self._cluster.supervisors)
        self._world.note(f"{victim.name} is killed")
        self._cluster.replace(victim, after_s=self._world.between(60, LEASE_S))

    def _stop(self) -> None:
        victim, seconds = (
            self._world.random.choice(self._cluster.supervisors),
            self._world.between(60, 3 * LEASE_S),
        )
        self._world.note(f"{victim.name} is stopped for {seconds:.0f} s")
        victim.stop(seconds)

    def _cut(self) -> None:
        victim, seconds = (
            self._world.random.choice(self._cluster.supervisors),
            self._world.between(60, 3 * LEASE_S),
        )
        self._world.note(f"{victim.name} is cut off for {seconds:.0f} s")
        victim.cut_off_until = self._world.now + seconds

    def _outage(self) -> None:
        seconds = self._world.between(10, 1.5 * LEASE_S)
        self._world.note(f"the engine is away for {seconds:.0f} s")
        self._cluster.network.down_until = self._world.now + seconds

    def _step(self) -> None:
        world = self._world
        most_s = world.random.choice(STEPS_S)
        world.wall_step_s += world.between(-most_s, most_s)
        step_s = world.between(-most_s, most_s)
        world.note(f"the engine's clock steps by {step_s:.0f} s")
        self._cluster.server.step(step_s)
