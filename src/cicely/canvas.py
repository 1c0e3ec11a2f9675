"""Signatures, chains, groups and chords as a user composes them, with Celery's names.

A canvas is a value: what is done to a signature after it was put into another does not show there.
"""

# ruff: noqa: N801  (Celery's names)

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, Self, TypeVar, Unpack, cast, overload

import msgspec

from cicely.composing import (
    body_in,
    linked,
    linked_error,
    node_in,
    reference,
    referenced,
    shown_node,
    with_settings,
)
from cicely.connection import Connection, Way
from cicely.dispatch import CallMaker, OnProgress, deliver_node, refuse_references
from cicely.errors import UsageError
from cicely.groups import GroupJob, handle_of
from cicely.handles import Job
from cicely.settings import JobSettings
from cicely.workflow.form import as_data
from cicely.workflow.nodes import (
    Call,
    Chain,
    Chord,
    Group,
    Node,
    chained,
    check_size,
    joined,
    with_arguments,
    with_options,
)
from cicely.workflow.outline import Many

H = TypeVar("H")
S = TypeVar("S")
R = TypeVar("R")
T = TypeVar("T")

Args = tuple[Any, ...]
Kwargs = Mapping[str, Any]

_EMPTY: str = "empty"


class Canvas(Generic[H]):
    """Something that can be enqueued as a whole; `H` is the handle that this gives."""

    __slots__ = ("bound", "node")

    def __init__(self, node: Node, connection: Connection | None) -> None:
        self.node = node
        self.bound = connection

    # --- enqueueing ---------------------------------------------------------------------------
    def delay(self, *args: Any, **kwargs: Any) -> H:
        """Enqueue it, with `args` before its own arguments and `kwargs` over them; return the handle.

        Of a chain, the first takes them; of a group or chord, each member. Up to 1,000 jobs are stored
        all or none; more are written in pages, and none begins before all are. Raises TypeError for
        arguments that do not fit, NotStorable for values that cannot be kept, UsageError for what is
        no workflow, and EngineUnavailable when the engine stays away for 5 s.
        """
        return self._send(args, kwargs)

    async def adelay(self, *args: Any, **kwargs: Any) -> H:
        """As `delay`, without blocking the event loop."""
        import asyncio

        return await asyncio.to_thread(self.delay, *args, **kwargs)

    def apply_async(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        on_progress: OnProgress | None = None,
        **given: Unpack[JobSettings],
    ) -> H:
        """As in Celery; `on_progress` is told after each page how many jobs were sent, of how many."""
        copy = self.clone().set(**given)
        return copy._send(tuple(args), kwargs or {}, on_progress)  # noqa: SLF001  (its own)

    def __invert__(self) -> Any:
        """Enqueue it and wait for its value: `~sig`."""
        handle: Any = self.delay()
        return handle.get()

    def _with(self, args: Args, kwargs: Kwargs) -> Node:
        return with_arguments(self.node, tuple(map(reference, args)), referenced(kwargs))

    def _send(self, args: Args, kwargs: Kwargs, told: OnProgress | None = None) -> H:
        return self._deliver(self._with(args, kwargs), told)

    def _deliver(self, node: Node, told: OnProgress | None) -> H:
        options = dict(node.options)
        way = self._way(options.pop("connection", None))
        node = msgspec.structs.replace(node, options=options)
        return cast(H, handle_of(self._connection, deliver_node(self._connection, way, node, told)))

    def _way(self, caller: object) -> Way:
        return self._connection if caller is None else self._connection.within(caller)

    @property
    def _connection(self) -> Connection:
        if self.bound is None:
            raise UsageError("it has no signature of a task in it, so that nobody knows its app")
        return self.bound

    # --- composing ----------------------------------------------------------------------------
    def __or__(self, other: Canvas[S]) -> chain[S]:
        """Return the chain of this and `other`: `a | b`. Behind a group, `other` is given its list."""
        if not isinstance(other, Canvas):
            return NotImplemented
        return cast("chain[S]", canvas_of(self.bound or other.bound, joined(self.node, other.node)))

    def set(self, **given: Unpack[JobSettings]) -> Self:
        """Put options over its own, and return it. Raises ConfigError with the nearest name or the range.

        Of several jobs, countdown=, eta= and after= go to the first, id= to the last, others to all
        that do not say otherwise.
        """
        self.node = with_settings(self.node, given)
        return self

    def clone(self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Self:
        """Return a copy, with `args` before its arguments and `kwargs` over them."""
        copy = object.__new__(type(self))
        copy.node = self._with(tuple(args), kwargs or {})
        copy.bound = self.bound
        return copy

    def link(self, callback: Canvas[T]) -> Canvas[T]:
        """Let `callback` come after its success, given its result; return the callback."""
        self.node = linked(self.node, callback)
        return callback

    def link_error(self, errback: Canvas[T]) -> Canvas[T]:
        """Let `errback` come after its failure, given job id, error and traceback; return the errback.

        One of one argument is given the id. Of a chain or chord, a failure of any part counts.
        """
        self.node = linked_error(self.node, errback)
        return errback

    def on_error(self, errback: Canvas[Any]) -> Self:
        """As `link_error`, and return this, to go on with it."""
        self.link_error(errback)
        return self

    # --- as a value ---------------------------------------------------------------------------
    def to_json(self) -> str:
        """Return it as text, of which `app.signature` makes it again. Raises NotStorable."""
        return msgspec.json.encode(self.to_dict()).decode()

    def to_dict(self) -> dict[str, Any]:
        """Return it as data that JSON can hold. Raises NotStorable."""
        check_size(self.node)
        encode = self.bound.codec.encode if self.bound is not None else _encode_nothing
        return as_data(self.node, encode)

    @property
    def options(self) -> Mapping[str, Any]:
        """Its options."""
        return dict(self.node.options)

    def __eq__(self, other: object) -> bool:
        """Whether both ask for the same."""
        return isinstance(other, Canvas) and self.node == other.node

    __hash__ = None  # type: ignore[assignment]  # it can change

    def __repr__(self) -> str:
        """Show it as it would be written."""
        return shown_node(self.node)


class Signature(Canvas[Job[R]], Generic[R]):
    """A call of one task, to be enqueued or composed. Made by `task.s(...)`."""

    __slots__ = ()

    def __call__(self, *args: Any, **kwargs: Any) -> R:
        """Call the task's function, here and now."""
        call = self._call_with(args, kwargs)
        task = CallMaker(self._connection, self._connection.values).task(call.task)
        owner = (task.owner,) if task.options.bind else ()
        return cast(R, task.function(*owner, *call.args, **call.kwargs))

    def _send(self, args: Args, kwargs: Kwargs, told: OnProgress | None = None) -> Job[R]:
        call = self._call_with(args, kwargs)
        if call.links or call.errbacks or "after" in call.options:
            return self._deliver(call, told)
        job = Signature._enqueued(self, call)
        if told is not None:
            told(1, 1)
        return job

    def _enqueued(self, call: Call) -> Job[R]:
        options = dict(call.options)
        way = self._way(options.pop("connection", None))
        call = msgspec.structs.replace(call, options=options)
        refuse_references(call)
        maker = CallMaker(self._connection, way.values)
        job_id = maker.chosen_id(call, options, ()) if "id" in options else ""
        new = maker.make(call, options, job_id=job_id)
        job: Job[R] = Job(self._connection, new.id)
        way.send(new, job)
        return job

    def _call_with(self, args: Args, kwargs: Kwargs) -> Call:
        if self.immutable and (args or kwargs):
            raise TypeError(f"{self!r} is immutable: it takes no more arguments")
        return cast(Call, self._with(args, kwargs))

    @property
    def task(self) -> str:
        """The task's name."""
        return cast(Call, self.node).task

    @property
    def args(self) -> tuple[Any, ...]:
        """The arguments by position."""
        return cast(Call, self.node).args

    @property
    def kwargs(self) -> dict[str, Any]:
        """The arguments by name."""
        return dict(cast(Call, self.node).kwargs)

    @property
    def immutable(self) -> bool:
        """Whether it takes nothing from what comes before it."""
        return cast(Call, self.node).immutable


class chain(Canvas[H]):
    """One after the other, each given the result of the one before. The handle is the last one's."""

    __slots__ = ()

    @overload
    def __init__(self, first: Canvas[H], /) -> None: ...
    @overload
    def __init__(self, first: Canvas[Any], second: Canvas[H], /) -> None: ...
    @overload
    def __init__(self, first: Canvas[Any], second: Canvas[Any], third: Canvas[H], /) -> None: ...
    @overload
    def __init__(self: chain[Any], *steps: Canvas[Any] | Iterable[Canvas[Any]]) -> None: ...
    def __init__(self, *steps: Any) -> None:
        """Take signatures, or one iterable of them. Raises UsageError for none."""
        canvases = _canvases(steps, "chain")
        super().__init__(chained(tuple(one.node for one in canvases)), _connection_of(canvases))

    def __call__(self, *args: Any, **kwargs: Any) -> H:
        """Enqueue it: `chain(...)(x)` is `chain(...).delay(x)`."""
        return self.delay(*args, **kwargs)


class group(Canvas[GroupJob[R]], Generic[R]):
    """Beside each other. The handle is a GroupJob; what comes after is given the list of results."""

    __slots__ = ()

    @overload
    def __init__(self, members: Iterable[Canvas[Job[R]]], /) -> None: ...
    @overload
    def __init__(self, *members: Canvas[Job[R]]) -> None: ...
    @overload
    def __init__(self: group[Any], *members: Canvas[Any] | Iterable[Canvas[Any]]) -> None: ...
    def __init__(self, *members: Any) -> None:
        """Take signatures, or one iterable of them; none is a group of nothing, whose result is []."""
        canvases = _canvases(members, "group")
        super().__init__(Group(members=tuple(one.node for one in canvases)), _connection_of(canvases))

    def __call__(self, *args: Any, **kwargs: Any) -> GroupJob[R]:
        """Enqueue it: `group(...)()` is `group(...).delay()`."""
        return self.delay(*args, **kwargs)

    def _send(self, args: Args, kwargs: Kwargs, told: OnProgress | None = None) -> GroupJob[R]:
        if self.bound is None and not cast(Group, self.node).members:
            return GroupJob(cast(Connection, None), _EMPTY, Many(_EMPTY, ()))
        return super()._send(args, kwargs, told)

    def link(self, callback: Canvas[T]) -> Canvas[T]:
        """Refuse: Celery would link the first member only. `group(...) | callback` is given all."""
        raise UsageError(
            f"a group has no link: write group(...) | {callback!r}, which is given all its results"
        )

    def skew(self, start: float = 1.0, stop: float | None = None, step: float = 1.0) -> Self:
        """Let the members begin one after the other, `step` seconds apart, the first after `start`.

        With `stop`, the seconds begin anew at `start` when they reach it. Returns the group.
        """
        members = []
        countdown = start
        for member in cast(Group, self.node).members:
            members.append(with_options(member, {"countdown": countdown}))
            countdown += step
            if stop is not None and countdown > stop:
                countdown = start
        self.node = msgspec.structs.replace(self.node, members=tuple(members))
        return self


class chord(Canvas[H]):
    """A group, and a body that is given the list of its results. The handle is the body's.

    `chord(header)(body)` enqueues it, too. When a member fails, the body is cancelled at once and the
    others run on; with `cancel_siblings` they are cancelled as well.
    """

    __slots__ = ()

    @overload
    def __init__(
        self, header: group[Any] | Iterable[Canvas[Any]], body: Canvas[H], *, cancel_siblings: bool = False
    ) -> None: ...
    @overload
    def __init__(
        self: chord[Any],
        header: group[Any] | Iterable[Canvas[Any]],
        body: None = None,
        *,
        cancel_siblings: bool = False,
    ) -> None: ...
    def __init__(self, header: Any, body: Canvas[H] | None = None, *, cancel_siblings: bool = False) -> None:
        """Take a group or an iterable of signatures, and the body."""
        members = header if isinstance(header, group) else group(header)
        bodiless: Node = msgspec.structs.replace(members.node)
        bound = members.bound
        if body is not None:
            bodiless = Chord(
                header=cast(Group, members.node), body=body_in(body), cancels_siblings=cancel_siblings
            )
            bound = bound or body.bound
        elif cancel_siblings:
            bodiless = with_options(bodiless, {"cancel_siblings": True})
        super().__init__(bodiless, bound)

    def __call__(self, body: Canvas[T] | None = None) -> T:
        """Enqueue it, with `body` where it has none yet."""
        if body is None:
            return cast(T, self.delay())
        header = self.node
        if not isinstance(header, Group):
            raise UsageError("this chord has a body already: chord(header)(body), or chord(header, body)()")
        options = dict(header.options)
        cancels = bool(options.pop("cancel_siblings", False))
        plain = msgspec.structs.replace(header, options=options)
        node = Chord(header=plain, body=body_in(body), cancels_siblings=cancels)
        return Canvas[T](node, self.bound or body.bound).delay()

    def _send(self, args: Args, kwargs: Kwargs, told: OnProgress | None = None) -> H:
        if not isinstance(self.node, Chord):
            raise UsageError("a chord needs a body: chord(header, body), or chord(header)(body)")
        return super()._send(args, kwargs, told)


# --- for those who make canvases ----------------------------------------------------------------


def canvas_of(connection: Connection | None, node: Node) -> Canvas[Any]:
    """Return what a user holds of a node."""
    kind = {Call: Signature, Chain: chain, Group: group, Chord: chord}[type(node)]
    canvas: Canvas[Any] = object.__new__(kind)
    canvas.node = node
    canvas.bound = connection
    return canvas


def _canvases(given: tuple[Any, ...], what: str) -> list[Canvas[Any]]:
    if len(given) == 1 and not isinstance(given[0], Canvas):
        if not isinstance(given[0], Iterable):
            node_in(given[0], what)
        given = tuple(given[0])
    for one in given:
        node_in(one, what)
    return list(given)


def _connection_of(canvases: Iterable[Canvas[Any]]) -> Connection | None:
    return next((one.bound for one in canvases if one.bound is not None), None)


def _encode_nothing(_value: object) -> bytes:
    raise UsageError("it has no signature of a task in it, so that nobody knows its app")
