"""How an app reaches its engine: opened at first use, anew in a forked process, patient for 5 s."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, Protocol, TypeVar

from cicely.core.codec import Codec
from cicely.core.job import NewJob
from cicely.core.task import Registry, Task
from cicely.engines.contract import Engine
from cicely.errors import EngineUnavailable, UsageError
from cicely.patience import PATIENCE_S, patiently
from cicely.receiver import Receiver
from cicely.values import Store, Values

T = TypeVar("T")

MAX_BATCH: Final = 1_000


class Places(Protocol):
    """What an app says of where its jobs and values are kept."""

    @property
    def url(self) -> str:
        """The engine's URL."""

    def resolve(self, task_name: str) -> Task | None:
        """Return the task of this name, or None."""


class Handle(Protocol):
    """What stands for an enqueued job, and learns its id when the engine has answered."""

    id: str


Entry = tuple[NewJob, Handle]


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
        self._inherited: list[object] = []
        self._lock = threading.RLock()
        self._batch: ContextVar[list[Entry] | None] = ContextVar("cicely_batch", default=None)
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

    def use(self, engine: Engine | None) -> Engine | None:
        """Keep jobs in `engine` from now on (None: the one of the app's URL); return the one before."""
        before = self._chosen
        self.close()
        self._chosen = engine
        return before

    @property
    def values(self) -> Values:
        """How this process packs values."""
        values = self._values
        if values is None:
            values = self._values = self.values_in(self.engine, patience_s=PATIENCE_S)
        return values

    def values_in(self, engine: Engine | None, *, patience_s: float) -> Values:
        """Return how values are packed for `engine`."""
        return Values(self.codec, engine, blobs=self._blobs, results=self._results, patience_s=patience_s)

    @property
    def receiver(self) -> Receiver:
        """This process's session for plain queues."""
        with self._lock:
            if self._receiver is None:
                self._receiver = Receiver(self.engine)
            return self._receiver

    def call(self, verb: Callable[[Engine], T]) -> T:
        """Call a verb of the engine, again for 5 s while it is away."""
        return patiently(lambda: verb(self.engine), for_s=PATIENCE_S)

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

    # --- sending ------------------------------------------------------------------------------
    def send(self, new: NewJob, handle: Handle) -> None:
        """Enqueue one job, or add it to the open batch."""
        batch = self._batch.get()
        if batch is not None:
            _add(batch, [(new, handle)])
            return
        began_at = time.monotonic()
        try:
            [answer] = self.engine.enqueue((new,))
        except EngineUnavailable:
            left_s = PATIENCE_S - (time.monotonic() - began_at)
            if left_s <= 0:
                raise
            [answer] = patiently(lambda: self.engine.enqueue((new,)), for_s=left_s)
        handle.id = answer.id

    def send_all(self, entries: Sequence[Entry]) -> None:
        """Enqueue all of `entries` or none, or add them to the open batch."""
        batch = self._batch.get()
        if batch is not None:
            _add(batch, entries)
        else:
            self._enqueue(entries)

    def _enqueue(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        new = [entry[0] for entry in entries]
        answers = self.call(lambda engine: engine.enqueue(new))
        for (_, handle), answer in zip(entries, answers, strict=True):
            handle.id = answer.id

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Collect what this thread enqueues, and enqueue all of it, or nothing, at the end."""
        if self._batch.get() is not None:
            raise UsageError("app.batch() inside app.batch(): one is enough")
        entries: list[Entry] = []
        token = self._batch.set(entries)
        try:
            yield
        finally:
            self._batch.reset(token)
        self._enqueue(entries)


def _add(batch: list[Entry], entries: Sequence[Entry]) -> None:
    if len(batch) + len(entries) > MAX_BATCH:
        raise UsageError(
            f"app.batch() takes up to {MAX_BATCH:,} jobs, all or none; use delay_many for more, "
            "which sends them in pages"
        )
    batch.extend(entries)


_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


def _after_fork() -> None:
    for connection in list(_connections):
        connection.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
