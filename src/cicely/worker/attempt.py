"""Run one attempt: every way it can end becomes an Outcome.

The claim's bytes are decoded and checked against the function's hints, the function is called, and
its value or error is encoded. Nothing here knows engines, processes or limits.
"""

from __future__ import annotations

import os
import random
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from inspect import Parameter
from itertools import repeat
from types import TracebackType
from typing import Any, Final, Protocol

import msgspec

from cicely.core.codec import convert
from cicely.core.edge import ParentEnd
from cicely.core.failpoints import failpoint
from cicely.core.failures import Failure, again_in_s, failure_of
from cicely.core.job import DAY_S, Claim
from cicely.core.outcome import (
    CAUSE_ERROR,
    CAUSE_MALFORMED,
    CAUSE_MEMORY,
    CAUSE_POISON,
    CAUSE_TIMEOUT,
    Deferred,
    ErrorRecord,
    Failed,
    HandedBack,
    Outcome,
    Stopped,
    Succeeded,
    Suspended,
)
from cicely.core.retry import RetryLater, Timeout
from cicely.core.states import State
from cicely.core.task import Task
from cicely.core.text import storable
from cicely.errors import (
    Cancelled,
    ConfigError,
    EngineUnavailable,
    Malformed,
    NotStorable,
    RateLimited,
    SoftTimeout,
)
from cicely.observe.log import shown
from cicely.worker.allowance import limits_of, may_have_more_memory
from cicely.worker.context import Context, enter, leave
from cicely.worker.durable import LetGo
from cicely.worker.inputs import Uncalled, with_inputs

MAX_TRACEBACK_CHARS = 16_000
MAX_MESSAGE_CHARS = 4_000
OUT_OF_REACH_AGAIN_S = 30.0
UNKNOWN_AGAIN_S = 30.0
VISIBLE_DEVICES: Final = "CUDA_VISIBLE_DEVICES"
#: Where a refusal does not say when to ask again.
RETRY_AFTER_S = 5.0

_BY_POSITION: Final = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)

Call = tuple[tuple[Any, ...], dict[str, Any]]


class Values(Protocol):
    """How arguments and results become bytes and back."""

    def pack(self, job_id: str, value: object, *, where: str) -> bytes:
        """Encode `value`. Raises NotStorable."""

    def pack_result(self, job_id: str, value: object, *, where: str) -> bytes:
        """Encode a result. Raises NotStorable."""

    def unpack(self, job_id: str, data: bytes) -> object:
        """Decode what `pack` made. Raises Malformed."""

    def unpack_call(self, job_id: str, data: bytes) -> Call:
        """Decode the arguments of a call. Raises Malformed."""

    def parents(self, job_id: str, after: int, limit: int) -> list[ParentEnd]:
        """Return how the jobs before one stand, in order, without the first `after`."""

    def pack_bare_call(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, where: str) -> bytes:
        """Encode a call so that it can be read without an engine and without keys."""

    def bare(self, job_id: str, data: bytes) -> bytes:
        """Return encoded bytes that can be read without an engine and without keys."""

    def keep_bare(self, job_id: str, data: bytes, *, where: str) -> bytes:
        """Return what to keep for such bytes. Raises Malformed and NotStorable."""

    def keep_bare_result(self, job_id: str, data: bytes, *, where: str) -> bytes:
        """Do the same with a result, which may have a place of its own."""


def run_attempt(claim: Claim, task: Task, values: Values, context: Context) -> Outcome:
    """Run a claim of a plain function, or of a coroutine function on a loop of its own."""
    if claim.steps and (outcome := _gone_on_as(claim, task, values, context)) is not None:
        return outcome
    try:
        args, kwargs = arguments(claim, task, values)
        if task.options.log_fields:
            context.fields = fields_of(task, args, kwargs)
    except Exception as error:  # noqa: BLE001  (whatever is wrong with the bytes is the job's end)
        return refused(claim, error)
    entered = enter(context)
    try:
        context.is_inside = True
        if context.cancelled:
            raise Cancelled("cancelled as it started")  # noqa: TRY301  (ends as any other would)
        if claim.units or task.is_async:
            value = _called(claim, task, args, kwargs)
        else:
            value = task.function(*args, **kwargs)
        with context.landing:
            context.is_inside = False
    except BaseException as error:  # noqa: BLE001  (a job may raise anything, SystemExit too)
        with context.landing:
            context.is_inside = False
        return _as_told(failed(claim, task, error), context)
    finally:
        leave(entered)
    failpoint("worker.after-run")
    outcome = _returned(claim, task, values, context, value)
    return _as_told(outcome, context) if context.spent or context.reserving else outcome


def _called(claim: Claim, task: Task, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
    """Call a function that was given devices, or that has to have an event loop."""
    with _devices_of(claim):
        value = task.function(*args, **kwargs)
        return _run_on_own_loop(value) if task.is_async else value


async def run_attempt_async(claim: Claim, task: Task, values: Values, context: Context) -> Outcome:
    """Run a claim of a coroutine function on the running loop."""
    if claim.steps and (outcome := _gone_on_as(claim, task, values, context)) is not None:
        return outcome
    try:
        args, kwargs = arguments(claim, task, values)
        if task.options.log_fields:
            context.fields = fields_of(task, args, kwargs)
    except Exception as error:  # noqa: BLE001
        return refused(claim, error)
    entered = enter(context)
    try:
        value = await task.function(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001
        # CancelledError is known by name: importing asyncio for it would cost every worker.
        context.was_cut_short = type(error).__name__ == "CancelledError"
        return _as_told(failed(claim, task, error), context)
    finally:
        leave(entered)
    failpoint("worker.after-run")
    return _as_told(_returned(claim, task, values, context, value), context)


@contextmanager
def _devices_of(claim: Claim) -> Iterator[None]:
    """Show this process the GPUs that the job was given, and no others, for as long as it runs."""
    devices = sorted(
        {unit for name, units in claim.units.items() if name.startswith("gpu") for unit in units}
    )
    if not any(devices):
        yield
        return
    before = os.environ.get(VISIBLE_DEVICES)
    os.environ[VISIBLE_DEVICES] = ",".join(filter(None, devices))
    try:
        yield
    finally:
        if before is None:
            del os.environ[VISIBLE_DEVICES]
        else:
            os.environ[VISIBLE_DEVICES] = before


def _as_told(outcome: Outcome, context: Context) -> Outcome:
    """Return an outcome with what its job said: what it spent, reserved and released."""
    if context.spent and isinstance(outcome, Succeeded | Failed | Deferred | Suspended):
        outcome = msgspec.structs.replace(outcome, spent=context.spent)
    return context.reserving.told_in(outcome) if context.reserving is not None else outcome


def _gone_on_as(claim: Claim, task: Task, values: Values, context: Context) -> Outcome | None:
    """Return the outcome of a job that an earlier attempt had go on as a workflow; None of any other."""
    try:
        if not context.durable.has_returned:
            return None
        value = context.durable.result()
    except Uncalled as uncalled:
        return _as_uncalled(claim, uncalled)
    except Exception as error:  # noqa: BLE001  (a result that is gone, for one)
        return refused(claim, error)
    return succeeded(claim, task, values, value)


def _as_uncalled(claim: Claim, uncalled: Uncalled) -> Outcome:
    """End as the workflow did that the job went on as; nothing is gained by another attempt."""
    end = uncalled.end
    if end.state is State.CANCELLED and not end.error:
        return Stopped(claim.token, str(uncalled))
    return Failed(claim.token, CAUSE_ERROR, end.error or record_of(uncalled, None).encoded())


def _returned(claim: Claim, task: Task, values: Values, context: Context, value: object) -> Outcome:
    """Return the outcome of a function that returned `value`."""
    if context.let_go is not None:
        # Its own code caught what was to unwind it: the wait that it asked for holds all the same.
        return context.let_go.outcome(claim.token)
    if not context.is_canvas(value):
        return succeeded(claim, task, values, value)
    try:
        context.durable.go_on_as(value)
    except (LetGo, Exception) as error:  # noqa: BLE001  (a task that is unknown, for one)
        return failed(claim, task, error)
    raise AssertionError("a job that goes on as a workflow lets go")


def _run_on_own_loop(coroutine: Any) -> object:
    import asyncio

    return asyncio.run(coroutine)


def arguments(claim: Claim, task: Task, values: Values) -> Call:
    """Decode the arguments, with the results of the jobs before this one, and convert them to the hints.

    Raises Malformed for bytes that are no arguments, TypeError for values that do not fit, ResultGone
    where a result was deleted.
    """
    args, kwargs = values.unpack_call(claim.job_id, claim.body)
    if claim.joins:
        args, kwargs = with_inputs(claim, (args, kwargs), values)
    return fitting(task, args, kwargs)


def fields_of(task: Task, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, object]:
    """Return the arguments that stand on each log line of the task."""
    bound = task.bind_arguments(args[1:] if task.options.bind else args, kwargs)
    bound.apply_defaults()
    given = {**bound.kwargs, **bound.arguments}
    return {name: shown(given[name]) for name in task.options.log_fields if name in given}


def fitting(task: Task, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    """Return the arguments of a call of the function itself, converted to its hints. Raises TypeError."""
    first = (task.owner,) if task.options.bind else ()
    if not task.hints:
        return first + args, kwargs
    names = None if kwargs else _names_by_position(task, len(args))
    if names is not None:
        return first + tuple(map(_converted, args, names, repeat(task))) if names else first, kwargs
    bound = task.bind_arguments(args, kwargs)
    for name, value in bound.arguments.items():
        bound.arguments[name] = _converted(value, name, task)
    return first + bound.args, bound.kwargs


@lru_cache(1024)
def _names_by_position(task: Task, count: int) -> tuple[str, ...] | None:
    """Return the names of the first parameters, where `count` arguments by position are a whole call."""
    parameters = list(task.signature.parameters.values())
    if any(parameter.kind not in _BY_POSITION for parameter in parameters):
        return None
    needed = sum(parameter.default is Parameter.empty for parameter in parameters)
    if not needed <= count <= len(parameters):
        return None
    return tuple(parameter.name for parameter in parameters[:count])


def _converted(value: Any, name: str, task: Task) -> object:
    if name not in task.hints:
        return value
    hint = task.hints[name]
    parameter = task.signature.parameters[name]
    if parameter.kind is parameter.VAR_POSITIONAL:
        return tuple(convert(item, hint) for item in value)
    if parameter.kind is parameter.VAR_KEYWORD:
        return {key: convert(item, hint) for key, item in value.items()}
    try:
        return convert(value, hint)
    except TypeError as error:
        raise TypeError(f"argument {name!r} of {task.name}: {error}") from None


def succeeded(claim: Claim, task: Task, values: Values, value: object) -> Outcome:
    """Return the outcome of an attempt that returned `value`."""
    try:
        where = f"the result of {task.name}"
        return Succeeded(claim.token, values.pack_result(claim.job_id, value, where=where))
    except NotStorable as error:
        # The job's own code has returned: where we noticed is nobody's concern.
        return failed(claim, task, error.with_traceback(None))


def failed(claim: Claim, task: Task, error: BaseException) -> Outcome:
    """Return the outcome of an attempt that raised `error`: another attempt, or the end."""
    if isinstance(error, LetGo):
        return error.outcome(claim.token)
    if isinstance(error, Cancelled):
        return Stopped(claim.token, "the job ended itself when asked to")
    cause = CAUSE_ERROR
    judged = error
    if isinstance(error, SoftTimeout):
        cause = CAUSE_TIMEOUT
        judged = Timeout(f"ran over its soft_timeout: {error}")
    elif isinstance(error, RetryLater) and error.cause is not None:
        judged = error.cause
    failure = failure_of(judged, task.options.failures)
    if failure is Failure.RATE_LIMITED:
        return _rate_limited(claim, judged)
    wait_s = again_in_s(
        failure,
        error if isinstance(error, RetryLater) else judged,
        task.options.retry,
        errors=claim.tallies.errors,
        chance=random.random(),  # noqa: S311  (spreads retries, guards nothing)
    )
    if failure is Failure.OUT_OF_MEMORY:
        cause = CAUSE_MEMORY
        wait_s = 0.0 if may_have_more_memory(claim, limits_of(claim, task)) else wait_s
    record = record_of(judged, error.__traceback__, capture_locals=task.options.traceback_locals)
    return Failed(
        claim.token,
        CAUSE_POISON if failure is Failure.POISON else cause,
        record.encoded(),
        wait_s,
        blames=tuple(one.name for one in task.options.needs.breakers if isinstance(judged, one.on)),
        elsewhere=failure is Failure.INFRASTRUCTURE,
    )


def _rate_limited(claim: Claim, error: BaseException) -> Outcome:
    """Return the outcome of an attempt that another side refused; its error may say when to ask again."""
    key = getattr(error, "key", "")
    after = getattr(error, "retry_after", None)
    try:
        wait_s = RETRY_AFTER_S if after is None else RateLimited(retry_after=after).retry_after
    except ConfigError:
        wait_s = RETRY_AFTER_S
    if not 0 <= wait_s <= DAY_S:
        # What no provider means, a library's infinity among it.
        wait_s = RETRY_AFTER_S
    slows = (key,) if isinstance(key, str) and key else claim.keys
    return Deferred(claim.token, wait_s, storable(str(error)), slows=slows)


def refused(claim: Claim, error: BaseException) -> Outcome:
    """Return the outcome of an attempt that could not start: its bytes do not fit the task.

    Bytes that are out of reach are no fault of the job: it waits, at no cost.
    """
    if isinstance(error, EngineUnavailable):
        return Deferred(claim.token, OUT_OF_REACH_AGAIN_S, str(error))
    cause = CAUSE_MALFORMED if isinstance(error, Malformed) else CAUSE_ERROR
    return Failed(claim.token, cause, record_of(error, error.__traceback__).encoded())


def unknown(claim: Claim) -> Outcome:
    """Return the outcome of a claim whose function is not found here; another worker may know it."""
    return Deferred(claim.token, UNKNOWN_AGAIN_S, f"{claim.task} cannot be imported here")


def cut_short_by_a_stop(outcome: Outcome) -> Outcome:
    """Hand back, free, an attempt that ended itself because its worker stops."""
    if isinstance(outcome, Stopped):
        return HandedBack(outcome.token, "its worker stopped", has_started=True)
    return outcome


def record_of(
    error: BaseException, trace: TracebackType | None, *, capture_locals: bool = False
) -> ErrorRecord:
    """Put an error into words, without our own frames, and without locals unless asked for."""
    while trace is not None and trace.tb_frame.f_globals.get("__name__") == __name__:
        trace = trace.tb_next
    try:
        message = str(error)
    except Exception as broken:  # noqa: BLE001  (an error's own __str__ may be broken)
        message = f"(its text cannot be shown: {type(broken).__name__})"
    lines = _told(error, trace, capture_locals=capture_locals)
    return ErrorRecord(
        type_name=storable(type(error).__qualname__),
        message=_clean(message, MAX_MESSAGE_CHARS),
        traceback=_clean(lines, MAX_TRACEBACK_CHARS),
        module=type(error).__module__,
    )


def _told(error: BaseException, trace: TracebackType | None, *, capture_locals: bool) -> str:
    try:
        told = traceback.TracebackException(type(error), error, trace, capture_locals=capture_locals)
        return "".join(told.format())
    except Exception as broken:  # noqa: BLE001  (names that cannot be shown, for one)
        return f"(its traceback cannot be shown: {type(broken).__name__})"


def _clean(text: str, limit: int) -> str:
    """Make text storable and keep its end, which tells more than its start."""
    text = storable(text)
    return text if len(text) <= limit else f"[{len(text) - limit} characters left out]{text[-limit:]}"
