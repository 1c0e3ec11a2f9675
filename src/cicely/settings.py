"""What people write beside a task and beside a call: the options, checked and put into records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from math import isfinite
from typing import Any, Final, TypedDict, cast

import msgspec

from cicely.core.edge import Rule
from cicely.core.failures import table_of
from cicely.core.identity import Stable
from cicely.core.job import DAY_S, DEFAULT_PRIORITY
from cicely.core.needs import Breaker, Cost, Key, Needs, needs_of
from cicely.core.retry import Retry
from cicely.core.states import State
from cicely.core.task import Limits, Task, TaskOptions
from cicely.core.units import Duration, Size, duration_s, size_bytes
from cicely.errors import ConfigError

MAX_ID_CHARS: Final = 200
MAX_PRIORITY: Final = 9
MAX_QUEUE_PRIORITY: Final = 10

States = State | str | Iterable[State | str]


class LimitSettings(TypedDict, total=False):
    """What an attempt may use."""

    timeout: Duration
    soft_timeout: Duration
    stall_timeout: Duration
    memory: Size
    memory_again: Size
    isolate: bool


class NeedSettings(LimitSettings, total=False):
    """What holds jobs back beside their queue.

    `limits` are keys of limits that all workers share, or functions of the arguments; `cost` is what a
    job is expected to take of their cost meters. `resources` are taken of the worker.
    """

    limits: Key | Iterable[Key]
    cost: Cost
    resources: Mapping[str, float]
    breaker: Breaker | Iterable[Breaker]


class TaskSettings(NeedSettings, total=False):
    """The options of `@app.task`. `failures` says what kinds of failures its errors are.

    `events`: each start and success is told as an event, not only what went wrong and what took a second.
    `log_fields` are parameters whose values stand on each of its log lines.
    """

    name: str
    queue: str
    priority: int
    retry: Retry | None
    expires: Duration
    lane: str | Callable[..., str]
    unique: str | Callable[..., str]
    tags: Sequence[str]
    keep: Duration
    keep_failed: Duration
    remember_ids: Duration
    raises: type[BaseException] | tuple[type[BaseException], ...]
    traceback_locals: bool
    events: bool
    log_fields: Sequence[str]
    failures: Mapping[type[BaseException], str]


class JobSettings(NeedSettings, total=False):
    """The options of one call: of `apply_async` and `options`.

    `connection` is one of the caller's with an open transaction, which the job is stored in. `link`
    and `link_error` are signatures for its success and its failure. `after` are jobs, or their ids,
    that it comes after: by their "success", "failure" or "done" (either), as `on` says.
    """

    countdown: Duration
    eta: datetime
    expires: Duration | datetime
    queue: str
    priority: int
    id: str | Stable
    lane: str
    tags: Sequence[str]
    connection: object
    link: Any
    link_error: Any
    after: Any
    on: str


class JobOptions(msgspec.Struct, frozen=True, kw_only=True):
    """A call's options after parsing; None and "" leave it to the task."""

    delay_s: float = 0.0
    due_at: float | None = None
    expires_s: float | None = None
    expires_at: float | None = None
    queue: str = ""
    priority: int | None = None
    id: str | Stable = ""
    lane: str = ""
    tags: tuple[str, ...] = ()
    limits: Limits | None = None
    needs: Needs | None = None


def task_options(given: TaskSettings, *, bind: bool) -> TaskOptions:
    """Parse the options of `@app.task`. Raises ConfigError with the nearest name or the range."""
    _refuse_unknown(given, TaskSettings, "@app.task")
    if "name" in given:
        _refuse_task_name(given["name"])
    retry = given.get("retry")
    if retry is not None and not isinstance(retry, Retry):
        raise ConfigError(f"retry={retry!r}: write retry=Retry(attempts=4, backoff=60)")
    return TaskOptions(
        queue=_name(given.get("queue", ""), "queue"),
        priority=priority_of(given.get("priority", DEFAULT_PRIORITY)),
        retry=retry,
        limits=_limits(given) or Limits(),
        expires_s=duration_s(given["expires"], name="expires") if "expires" in given else None,
        lane=_text_or_function(given.get("lane", ""), "lane"),
        unique=_text_or_function(given.get("unique", ""), "unique"),
        tags=tags_of(given.get("tags", ())),
        keep_s=duration_s(given.get("keep", DAY_S), name="keep"),
        keep_failed_s=duration_s(given.get("keep_failed", 30 * DAY_S), name="keep_failed"),
        remember_s=duration_s(given.get("remember_ids", 90 * DAY_S), name="remember_ids"),
        raises=_error_types(given.get("raises", ())),
        traceback_locals=_flag(given.get("traceback_locals", False), "traceback_locals"),
        events=_flag(given.get("events", False), "events"),
        log_fields=log_fields_of(given.get("log_fields", ())),
        bind=_flag(bind, "bind"),
        needs=needs_of(given),
        failures=table_of(given.get("failures", {})),
    )


def job_options(given: JobSettings) -> JobOptions:
    """Parse the options of one call. Raises ConfigError with the nearest name or the range."""
    _refuse_unknown(given, JobSettings, "a job")
    # None is "not given", as whoever passes an option on writes it.
    given = cast(JobSettings, {name: value for name, value in given.items() if value is not None})
    if "countdown" in given and "eta" in given:
        raise ConfigError("countdown= and eta= both say when the job is due: give one of them")
    expires = given.get("expires")
    expires_at = _instant(expires, "expires") if isinstance(expires, datetime) else None
    has_duration = expires is not None and expires_at is None
    return JobOptions(
        delay_s=duration_s(given.get("countdown", 0), name="countdown"),
        due_at=_instant(given["eta"], "eta") if "eta" in given else None,
        expires_s=duration_s(expires, name="expires") if has_duration else None,  # type: ignore[arg-type]
        expires_at=expires_at,
        queue=_name(given.get("queue", ""), "queue"),
        priority=priority_of(given["priority"]) if "priority" in given else None,
        id=id_of(given["id"]) if "id" in given else "",
        lane=_name(given.get("lane", ""), "lane"),
        tags=tags_of(given.get("tags", ())),
        limits=_limits(given),
        needs=_needs(given),
    )


def _needs(given: JobSettings) -> Needs | None:
    needs = needs_of(given)
    return None if needs == Needs() else needs


def _refuse_task_name(value: object) -> None:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ConfigError(f"name={value!r}: a printable text, as evals.evaluate")


def _refuse_unknown(given: Mapping[str, Any], known: Any, what: str) -> None:
    names = known.__annotations__
    for name in given:
        if name in names:
            continue
        matches = get_close_matches(name, names, n=1)
        nearest = f"; did you mean {matches[0]}=?" if matches else f"; there are {', '.join(names)}"
        raise ConfigError(f"{what} has no option {name}={nearest}")


def _limits(given: LimitSettings) -> Limits | None:
    limits = Limits(
        timeout_s=_limit_s(given.get("timeout"), "timeout"),
        soft_timeout_s=_limit_s(given.get("soft_timeout"), "soft_timeout"),
        stall_timeout_s=_limit_s(given.get("stall_timeout"), "stall_timeout"),
        memory_bytes=size_bytes(given["memory"], name="memory") if given.get("memory") else None,
        # Memory can be measured, and taken away, only where a process has one job.
        isolate=_flag(given.get("isolate", False), "isolate") or bool(given.get("memory")),
        memory_again_bytes=_more_memory(given),
    )
    return None if limits == Limits() else limits


def _more_memory(given: LimitSettings) -> int | None:
    if not given.get("memory_again"):
        return None
    again = size_bytes(given["memory_again"], name="memory_again")
    if not given.get("memory") or again <= size_bytes(given["memory"], name="memory"):
        raise ConfigError(
            f"memory_again={given['memory_again']!r}: what an attempt gets that follows an OutOfMemory; "
            "give both, and more here"
        )
    return again


def _limit_s(value: Duration | None, name: str) -> float | None:
    if value is None:
        return None
    seconds = duration_s(value, name=name)
    if seconds == 0:
        raise ConfigError(f"{name}={value!r}: no attempt ends in no time; leave it out for no limit")
    return seconds


def _flag(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{name}={value!r}: True or False")
    return value


def priority_of(value: object, *, most: int = MAX_PRIORITY) -> int:
    """Return a priority from 0 to `most`, or raise ConfigError."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise ConfigError(f"priority={value!r}: a whole number from 0 to {most}, and {most} goes first")
    return value


def id_of(value: object) -> str | Stable:
    """Return an id that a person chose, or raise ConfigError."""
    if isinstance(value, Stable):
        return value
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID_CHARS or not value.isprintable():
        raise ConfigError(
            f'id={value!r}: a printable text of 1 to {MAX_ID_CHARS} characters, or stable("v1")'
        )
    return value


def tags_of(value: Iterable[str]) -> tuple[str, ...]:
    """Return tags, each once, or raise ConfigError."""
    if isinstance(value, str):
        raise ConfigError(f'tags={value!r}: a list of texts, as in tags=["{value}"]')
    if not isinstance(value, Iterable):
        raise ConfigError(f'tags={value!r}: a list of texts, as in tags=["eu", "nightly"]')
    return tuple(dict.fromkeys(_name(tag, "tags") for tag in value))


def tag_names_of(value: object, option: str) -> tuple[str, ...]:
    """Return names of "name=value" tags, or raise ConfigError."""
    if not isinstance(value, list | tuple | set | frozenset) or not all(
        isinstance(name, str) and name and "=" not in name for name in value
    ):
        raise ConfigError(f'{option}={value!r}: a list of the names of tags, as in ["model", "region"]')
    return tuple(value)


def log_fields_of(value: object) -> tuple[str, ...]:
    """Return names of parameters, or raise ConfigError."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ConfigError(f'log_fields={value!r}: a list of parameters, as in log_fields=["eval_id"]')
    for one in value:
        if not isinstance(one, str) or not one.isidentifier():
            raise ConfigError(f"log_fields: {one!r} is no name of a parameter")
    return tuple(dict.fromkeys(value))


def refuse_unknown_fields(task: Task) -> None:
    """Raise ConfigError where `log_fields` names what is no parameter of the task's function."""
    parameters = task.signature.parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for field in task.options.log_fields:
        if field not in parameters:
            there = ", ".join(parameters) or "none"
            raise ConfigError(
                f"log_fields of {task.name}: it has no parameter {field!r}; its parameters: {there}"
            )


def _name(value: object, option: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_ID_CHARS or not (value.isprintable() or not value):
        raise ConfigError(f"{option}={value!r}: a printable text of at most {MAX_ID_CHARS} characters")
    return value


def queue_name(value: object) -> str:
    """Return the name of a queue, or raise ConfigError."""
    name = _name(value, "queue")
    if not name or set(name) & set(" ,=*"):
        raise ConfigError(f"queue {value!r}: a name without spaces, ',', '=' and '*'")
    return name


def _text_or_function(value: object, option: str) -> str | Callable[..., str]:
    return value if callable(value) else _name(value, option)


def _error_types(value: object) -> tuple[type[BaseException], ...]:
    types = value if isinstance(value, tuple) else (value,)
    for one in types:
        if not isinstance(one, type) or not issubclass(one, BaseException):
            raise ConfigError(f"raises={one!r}: an exception class, or a tuple of them")
    return types


def _instant(value: object, name: str) -> float:
    if not isinstance(value, datetime):
        raise ConfigError(f"{name}={value!r}: a datetime with a time zone")
    if value.utcoffset() is None:
        raise ConfigError(
            f"{name}={value.isoformat()} has no time zone, and producers and workers may have several: "
            "write datetime.now(timezone.utc) + timedelta(...), or use countdown="
        )
    return value.timestamp()


def instant_of(value: datetime | float, *, name: str) -> float:
    """Return Unix seconds for a datetime with a time zone, or for seconds themselves; else ConfigError."""
    if isinstance(value, datetime) and value.utcoffset() is not None:
        return value.timestamp()
    if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value):
        return float(value)
    raise ConfigError(
        f"{name}={value!r}: a datetime with a time zone, as datetime.now(timezone.utc) - timedelta(hours=1), "
        "or Unix seconds"
    )


def after_of(value: object) -> tuple[str, ...]:
    """Return the ids of the jobs that another comes after, or raise ConfigError."""
    given = value if isinstance(value, list | tuple | set | frozenset) else (value,)
    ids: list[str] = []
    for one in given:
        inner = getattr(one, "children", None)
        if inner is not None:
            ids += after_of(inner)
            continue
        job_id = one if isinstance(one, str) else getattr(one, "id", None)
        if not isinstance(job_id, str) or not job_id:
            raise ConfigError(f"after={one!r}: a job, its id, or a list of them")
        ids.append(job_id)
    return tuple(dict.fromkeys(ids))


def rule_of(value: object) -> Rule:
    """Return what of an earlier job's end a job comes after, or raise ConfigError."""
    try:
        return Rule(str(value))
    except ValueError:
        raise ConfigError(f"on={value!r}: one of {', '.join(Rule)}") from None


def receives_of(count: int) -> int:
    """Return how often a message is handed out, or raise ConfigError."""
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ConfigError(f"max_receives={count!r}: a whole number from 1")
    return count


def states_of(given: States) -> tuple[State, ...]:
    """Return one state or several, by name or not, or raise ConfigError."""
    try:
        names = (given,) if isinstance(given, str) else tuple(given)
        return tuple(State(name) for name in names)
    except (TypeError, ValueError):
        raise ConfigError(
            f"state={given!r}: one of {', '.join(State)}, or several of them in a list"
        ) from None
