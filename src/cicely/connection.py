"""How an app reaches its engine: opened at first use, anew in a forked process, patient for 5 s."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count
from typing import Final, Protocol, TypeVar
from urllib.parse import urlsplit

import msgspec

from cicely.core.codec import Codec
from cicely.core.edge import Edge
from cicely.core.job import Enqueued, NewJob
from cicely.core.task import Registry, Task
from cicely.engines.contract import Engine
from cicely.engines.within import Enclosed, Transactional
from cicely.errors import ConfigError, EngineUnavailable, Unsupported, UsageError
from cicely.outages import Outages
from cicely.patience import PATIENCE_S, patiently
from cicely.receiver import Receiver
from cicely.values import Store, Values

T = TypeVar("T")

MAX_BATCH: Final = 1_000


class Places(Protocol):
    """What an app says of where its jobs and values are kept."""

    name: str
    shared_folders: bool

    @property
    def url(self) -> str:
        """The engine's URL."""

    def resolve(self, task_name: str) -> Task | None:
        """Return the task of this name, or None."""


class Handle(Protocol):
    """What stands for an enqueued job, and learns its id when the engine has answered."""

    id: str


#: The engines that only processes of one machine use.
EMBEDDED: Final = ("memory", "sqlite")

Entry = tuple[NewJob, Handle]


class Way(Protocol):
    """A way to the engine: its own, or by a transaction of the caller's."""

    @property
    def values(self) -> Values:
        """How values are packed on this way."""

    def send(self, new: NewJob, handle: Handle) -> None:
        """Enqueue one job."""

    def send_all(self, entries: Sequence[Entry], edges: Sequence[Edge] = ()) -> None:
        """Enqueue all of `entries` with their edges, or none."""

    def publish(self, workflow: str) -> None:
        """Let the held jobs of a workflow go."""


class Batch(msgspec.Struct):
    """What is enqueued together when the block is left."""

    entries: list[Entry] = []
    edges: list[Edge] = []


class Enclosure:
    """The way by an open transaction of the caller's: nothing is repeated there, and no batch collected."""

    def __init__(self, enclosed: Enclosed, values: Values) -> None:
        self._enclosed = enclosed
        self.values = values

    def send(self, new: NewJob, handle: Handle) -> None:
        """Store one job in the transaction."""
        self.send_all([(new, handle)])

    def send_all(self, entries: Sequence[Entry], edges: Sequence[Edge] = ()) -> None:
        """Store all of `entries` in the transaction, or none. Raises Unsupported for edges."""
        if edges:
            raise _no_workflow_inside()
        if entries:
            _answer(entries, self._enclosed.enqueue([new for new, _ in entries]))

    def publish(self, workflow: str) -> None:
        """Nothing is held in a transaction: its jobs begin with its commit."""
        raise _no_workflow_inside()


class Connection:
    """One app's way to its engine, shared by its tasks, queues and handles."""

    def __init__(
        self, places: Places, registry: Registry, *, codec: Codec, blobs: Store | None, results: Store | None
    ) -> None:
        self.registry = registry
        self.codec = codec
        self._places = places
        self._blobs = blobs
        self._results = results
        self._chosen: Engine | None = None
        self._engine: Engine | None = None
        self._values: Values | None = None
        self._receiver: Receiver | None = None
        self._outages = Outages(lambda: self.engine)
        self._inherited: list[object] = []
        self._lock = threading.RLock()
        self._batch: ContextVar[Batch | None] = ContextVar("cicely_batch", default=None)
        self.number = next(_numbers)
        _connections.add(self)

    # --- the engine ---------------------------------------------------------------------------
    @property
    def engine(self) -> Engine:
        """This process's engine, open."""
        return self._engine or self._opened()

    def _opened(self) -> Engine:
        with self._lock:
            if self._engine is None:
                self._engine = self._open()
            return self._engine

    def _open(self) -> Engine:
        engine = self._chosen
        if engine is None:
            from cicely.engines.connect import connect

            engine = connect(self._places.url, role="producer")
        patiently(engine.open, for_s=PATIENCE_S)
        return engine

    def _refuse_folders_of_one_machine(self) -> None:
        """Raise ConfigError where a server keeps the jobs and a folder of this machine their values."""
        if self._places.shared_folders or urlsplit(self._places.url).scheme in EMBEDDED:
            return
        for store in filter(None, (self._blobs, self._results)):
            if store.is_local:
                raise ConfigError(
                    f"{store.url} is a folder of this machine, and the jobs are kept by a server that others "
                    "use as well: name a place that all of them reach, or say Cicely(..., "
                    "shared_folders=True) where the folder is mounted everywhere"
                )

    def use(self, engine: Engine | None) -> Engine | None:
        """Keep jobs in `engine` from now on (None: the one of the app's URL); return the one before."""
        before = self._chosen
        self.close()
        self._chosen = engine
        self._outages = Outages(lambda: self.engine)
        return before

    @property
    def values(self) -> Values:
        """How this process packs values."""
        values = self._values
        if values is None:
            values = self._values = self.values_in(self.engine, patience_s=PATIENCE_S)
        return values

    def values_in(self, engine: Engine | None, *, patience_s: float) -> Values:
        """Return how values are packed for `engine`. Raises ConfigError for a folder out of others' reach."""
        if engine is not None and self._chosen is None:
            self._refuse_folders_of_one_machine()
        return Values(self.codec, engine, blobs=self._blobs, results=self._results, patience_s=patience_s)

    @property
    def receiver(self) -> Receiver:
        """This process's session for plain queues."""
        with self._lock:
            if self._receiver is None:
                self._receiver = Receiver(self.engine, self._outages)
            return self._receiver

    def call(self, verb: Callable[[Engine], T]) -> T:
        """Call a verb of the engine, again for 5 s while it is away."""
        return self._outages.patiently(lambda: verb(self.engine), for_s=PATIENCE_S)

    @property
    def name(self) -> str:
        """The app's name."""
        return self._places.name

    @property
    def has_batch(self) -> bool:
        """Whether what is enqueued here is collected in a batch."""
        return self._batch.get() is not None

    def task(self, name: str) -> Task | None:
        """Return the task of this name, or None."""
        return self._places.resolve(name)

    def close(self) -> None:
        """End the session for plain queues and close the engine; the next use opens it again."""
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.close()
        engine, self._engine, self._values = self._engine, None, None
        if engine is not None:
            engine.close()

    def after_fork(self) -> None:
        """Forget, in a forked process, what belongs to its parent."""
        # Kept, so that nothing of it is ever closed here: closing would reach into the parent's file.
        self._inherited.append((self._engine, self._values, self._receiver))
        self._engine = self._values = self._receiver = None
        self._lock = threading.RLock()
        self._outages = Outages(lambda: self.engine)

    # --- sending ------------------------------------------------------------------------------
    def send(self, new: NewJob, handle: Handle) -> None:
        """Enqueue one job, or add it to the open batch."""
        batch = self._batch.get()
        if batch is not None:
            _add(batch, [(new, handle)], ())
            return
        began_at = time.monotonic()
        try:
            [answer] = self.engine.enqueue((new,))
        except EngineUnavailable:
            self._outages.note()
            left_s = PATIENCE_S - (time.monotonic() - began_at)
            if left_s <= 0:
                raise
            [answer] = self._outages.patiently(lambda: self.engine.enqueue((new,)), for_s=left_s)
        handle.id = answer.id
        if self._outages.troubles:
            self._outages.report()

    def send_all(self, entries: Sequence[Entry], edges: Sequence[Edge] = ()) -> None:
        """Enqueue all of `entries` with their edges or none, or add them to the open batch."""
        batch = self._batch.get()
        if batch is not None:
            _add(batch, entries, edges)
        else:
            self._enqueue(entries, edges)

    def publish(self, workflow: str) -> None:
        """Let the held jobs of a workflow go."""
        self.call(lambda engine: engine.publish(workflow))

    def _enqueue(self, entries: Sequence[Entry], edges: Sequence[Edge]) -> None:
        if not entries and not edges:
            return
        new = [entry[0] for entry in entries]
        _answer(
            entries,
            self.call(lambda engine: engine.enqueue(new, edges) if edges else engine.enqueue(new)),
        )

    def within(self, connection: object) -> Enclosure:
        """Return the way by the transaction that is open on `connection`, one of the caller's.

        Raises Unsupported where the engine does not share its database, UsageError where there is no
        such transaction.
        """
        if self._batch.get() is not None:
            raise UsageError(
                "connection= inside app.batch(): the transaction keeps its jobs together by itself; "
                "leave one of the two out"
            )
        engine = self.engine
        if not isinstance(engine, Transactional):
            raise Unsupported(
                "connection= needs an engine that shares your database (transactional enqueue), which is "
                f"PostgreSQL's; this app's is {type(engine).__name__}: leave connection= out, or set "
                "url= to postgresql://"
            )
        enclosed = engine.within(connection)
        # Without patience: what failed inside a transaction cannot be repeated alone.
        values = Values(self.codec, enclosed, blobs=self._blobs, results=self._results, patience_s=0.0)
        return Enclosure(enclosed, values)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Collect what this thread enqueues, and enqueue all of it, or nothing, at the end."""
        if self._batch.get() is not None:
            raise UsageError("app.batch() inside app.batch(): one is enough")
        batch = Batch()
        token = self._batch.set(batch)
        try:
            yield
        finally:
            self._batch.reset(token)
        self._enqueue(batch.entries, batch.edges)


def _answer(entries: Sequence[Entry], answers: Sequence[Enqueued]) -> None:
    for (_, handle), answer in zip(entries, answers, strict=True):
        handle.id = answer.id


def _no_workflow_inside() -> Unsupported:
    return Unsupported(
        "a transaction of yours takes jobs that come after no others: enqueue one job with connection=, "
        "and let it return the workflow"
    )


def _add(batch: Batch, entries: Sequence[Entry], edges: Sequence[Edge]) -> None:
    if len(batch.entries) + len(entries) > MAX_BATCH:
        raise UsageError(
            f"app.batch() takes up to {MAX_BATCH:,} jobs, all or none; use delay_many for more, "
            "which sends them in pages"
        )
    batch.entries += entries
    batch.edges += edges


_numbers = count()
_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


def connection_of(app_name: str) -> Connection:
    """Return the connection of the newest app of that name here. Raises UsageError where there is none."""
    found = [one for one in list(_connections) if one.name == app_name]
    if not found:
        raise UsageError(f"no app of the name {app_name} is in this process: import its module first")
    return max(found, key=lambda one: one.number)


def _after_fork() -> None:
    for connection in list(_connections):
        connection.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
