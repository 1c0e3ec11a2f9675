"""What `doctor` looks at: facts with their sources, things to know, and problems with remedies."""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import time
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

import msgspec

from cicely.cli.queues import known_queues
from cicely.cli.target import file_of
from cicely.cli.text import counted, size, span
from cicely.cli.workers import beat_of
from cicely.core.job import Filter
from cicely.core.states import State
from cicely.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cicely.cli.target import Target
    from cicely.engines.checks import Check
    from cicely.engines.contract import Engine, SessionRecord

_ROUNDS: Final = 5
_SLOW_S: Final = 0.050
_SKEW_S: Final = 2.0
_LARGE_WAL_BYTES: Final = 256 << 20
_LITTLE_SPACE_BYTES: Final = 1 << 30
_LOOKED_AT: Final = 200
#: Two names are one, misspelt, from this likeness on.
_ALIKE: Final = 0.85
_VARIABLES: Final = ("CICELY_APP", "CICELY_CGROUP", "CICELY_URL", "CICELY_WORKER")


class Fact(msgspec.Struct, frozen=True):
    """Something that holds, and where it was set or seen."""

    name: str
    value: str
    source: str = ""


class Finding(msgspec.Struct, frozen=True):
    """Something a person should know, and what to do about it."""

    what: str
    remedy: str = ""


class Report(msgspec.Struct, frozen=True):
    """The result of an examination."""

    facts: list[Fact]
    notes: list[Finding]
    problems: list[Finding]


class Measured(msgspec.Struct, frozen=True):
    """How long a durable change took, and how far the engine's clock is ahead of ours."""

    write_s: float
    read_s: float
    skew_s: float


def examine(target: Target) -> Report:
    """Look at everything once."""
    measured = _measure(target.engine)
    sessions = target.engine.sessions()
    checks = _checks(target.engine)
    facts = [
        *_settings(target),
        *_engine_facts(target, measured),
        *(Fact(check.name, check.value, "the engine") for check in checks),
        *_file_facts(target),
        *_worker_facts(sessions),
        *_queue_facts(target),
        *_environment_facts(),
    ]
    problems = [
        *_clock_and_speed(measured),
        *_checked(checks, "bad"),
        *_file_problems(target),
        *_app_problems(target),
        *_worker_problems(target, sessions),
        *_environment_problems(),
    ]
    return Report(facts, [*_checked(checks, "warn"), *_notes(target, sessions, checks)], problems)


def _checks(engine: Engine) -> Sequence[Check]:
    from cicely.engines.checks import Examined

    return engine.checks() if isinstance(engine, Examined) else ()


# --- facts ------------------------------------------------------------------------------------
def _settings(target: Target) -> Iterator[Fact]:
    from cicely.engines.connect import redacted

    yield Fact("engine url", redacted(target.url), target.source)
    if target.app is None:
        return
    for name, value, source in target.app.settings():
        yield Fact(name, redacted(value) if name in ("url", "results", "blobs") else value, source)
    yield Fact("tasks", f"{len(target.app.registry.tasks):,}", "the app")
    for queue in target.app.registry.queues.values():
        ageing = f", ageing {span(queue.ageing_s)}" if queue.ageing_s else ""
        yield Fact("queue", f"{queue.name}: priority {queue.priority}{ageing}", "the app")


def _engine_facts(target: Target, measured: Measured) -> Iterator[Fact]:
    facts = target.engine.facts()
    yield Fact("engine", f"{facts.engine} {facts.version}", facts.address)
    yield Fact("durability", facts.durability, "the engine")
    yield Fact("a change takes", span(measured.write_s), f"measured, median of {_ROUNDS}")
    yield Fact("a look takes", span(measured.read_s), f"measured, median of {_ROUNDS}")
    yield Fact("engine's clock", f"{measured.skew_s:+.3f} s", "compared with this host's")


def _file_facts(target: Target) -> Iterator[Fact]:
    file = file_of(target.url)
    if file is None or not file.exists():
        return
    yield Fact("file", size(file.stat().st_size), str(file))
    yield Fact("write-ahead log", size(_wal_bytes(target)), f"{file}-wal")
    yield Fact("free space", size(shutil.disk_usage(file.parent).free), str(file.parent))


def _wal_bytes(target: Target) -> int:
    file = file_of(target.url)
    wal = file.with_name(f"{file.name}-wal") if file is not None else None
    return wal.stat().st_size if wal is not None and wal.exists() else 0


def _worker_facts(sessions: Sequence[SessionRecord]) -> Iterator[Fact]:
    beats = [beat_of(record) for record in sessions]
    for word in ("beating", "late", "silent"):
        if beats.count(word):
            yield Fact("sessions", f"{counted(beats.count(word), 'session')} {word}", "the engine")
    if not beats:
        yield Fact("sessions", "none", "the engine")


def _queue_facts(target: Target) -> Iterator[Fact]:
    for record in known_queues(target):
        ready, running = (record.counts.get(state, 0) for state in (State.READY, State.RUNNING))
        paused = ", paused" if record.paused else ""
        yield Fact("in queue", f"{record.name}: {ready:,} ready, {running:,} running{paused}", "the engine")


def _environment_facts() -> Iterator[Fact]:
    from cicely.worker.nursery import numeric_threads

    for name, value in numeric_threads().items():
        source = "the environment" if name in os.environ else "set by workers: more threads bar a fork"
        yield Fact(name, value, source)
    yield from _memory_limit_facts()
    yield Fact("python", sys.version.split()[0], sys.executable)


def _memory_limit_facts() -> Iterator[Fact]:
    from cicely.worker.cgroups import VARIABLE, memory_groups

    try:
        groups, how = memory_groups()
    except ConfigError as error:
        yield Fact("memory limits", f"no worker starts: {error}", VARIABLE)
        return
    if groups is not None:
        groups.close()
    yield Fact("memory limits", how, VARIABLE if os.environ.get(VARIABLE) else "this host")


# --- measuring --------------------------------------------------------------------------------
def _measure(engine: Engine) -> Measured:
    from cicely.engines.contract import Session
    from cicely.worker.processes import start_time, this_host

    writes: list[float] = []
    reads: list[float] = []
    skews: list[float] = []
    for _ in range(_ROUNDS):
        session = Session(
            id=os.urandom(12).hex(),
            worker="doctor",
            host=this_host(),
            pid=os.getpid(),
            start_time=start_time(os.getpid()) or 0,
            name="cicely doctor",
        )
        began_at, began = time.time(), time.perf_counter()
        engine.join(session)
        writes.append(time.perf_counter() - began)
        began = time.perf_counter()
        records = engine.sessions()
        reads.append(time.perf_counter() - began)
        skews += [one.joined_at - began_at for one in records if one.session.id == session.id]
        engine.retire(session.id)
    return Measured(statistics.median(writes), statistics.median(reads), statistics.median(skews or [0.0]))


# --- findings ---------------------------------------------------------------------------------
def _notes(target: Target, sessions: Sequence[SessionRecord], checks: Sequence[Check]) -> Iterator[Finding]:
    said = [check.name for check in checks if check.verdict != "ok"]
    for warning in target.engine.facts().warnings:
        if not any(name in warning for name in said):
            yield Finding(warning)
    if not sessions:
        yield Finding("no worker is up", "`cicely worker module:app` starts one")
    for record in known_queues(target):
        waiting = record.counts.get(State.READY, 0)
        if record.paused and waiting:
            yield Finding(
                f"{counted(waiting, 'job')} wait in {record.name}, which is paused",
                f"`cicely resume {record.name}` goes on",
            )
    failed = sum(record.counts.get(State.FAILED, 0) for record in known_queues(target))
    if failed:
        yield Finding(
            f"{counted(failed, 'failed job')} kept for a person to look at",
            "`cicely jobs --state failed` lists them; `cicely revive --state failed` runs them again",
        )
    yield from _misspelt_limits(target)


def _misspelt_limits(target: Target) -> Iterator[Finding]:
    """Yield what tasks name as a limit, bounds nothing and looks like a limit that there is."""
    from cicely.core.limits import Limit

    if target.app is None or any(_app_problems(target)):
        return
    settings = [*target.app.declared_settings(), *(one.setting for one in target.engine.settings("limit"))]
    known = {one.key for one in settings if isinstance(one, Limit) and one != Limit(key=one.key)}
    for task in target.app.registry.tasks.values():
        named = {key for key in task.options.needs.limits if isinstance(key, str)} - known
        for key in sorted(named):
            for near in get_close_matches(key, known, n=1, cutoff=_ALIKE):
                yield Finding(
                    f"{task.name} names the limit {key}, which bounds nothing",
                    f"did you mean {near}? Else declare it: app.limit({key!r}, ...)",
                )


def _checked(checks: Sequence[Check], verdict: str) -> Iterator[Finding]:
    for check in checks:
        if check.verdict == verdict:
            yield Finding(f"{check.name}: {check.value}", check.remedy)


def _clock_and_speed(measured: Measured) -> Iterator[Finding]:
    if measured.write_s > _SLOW_S:
        yield Finding(
            f"a change takes {span(measured.write_s)}: jobs cannot start faster than that",
            "put the file on a local disk that is less busy, or enqueue in batches (app.batch, delay_many)",
        )
    if abs(measured.skew_s) > _SKEW_S:
        yield Finding(
            f"the engine's clock is {measured.skew_s:+.1f} s off this host's",
            "synchronise both (NTP); until then eta= means another instant here than there",
        )


def _file_problems(target: Target) -> Iterator[Finding]:
    file = file_of(target.url)
    if file is None or not file.exists():
        return
    wal_bytes = _wal_bytes(target)
    if wal_bytes > _LARGE_WAL_BYTES:
        yield Finding(
            f"the write-ahead log has grown to {size(wal_bytes)}",
            "some process reads the file in a transaction that it never ends: `fuser` on the file names it",
        )
    free = shutil.disk_usage(file.parent).free
    if free < _LITTLE_SPACE_BYTES:
        yield Finding(
            f"only {size(free)} are free in {file.parent}",
            "make room, shorten keep= and keep_failed= of large tasks, or discard what has ended",
        )


def _app_problems(target: Target) -> Iterator[Finding]:
    try:
        if target.app is not None:
            target.app.declared_settings()
    except ConfigError as error:
        yield Finding(f"no worker of the app starts: {error}")


def _worker_problems(target: Target, sessions: Sequence[SessionRecord]) -> Iterator[Finding]:
    for record in sessions:
        if beat_of(record) == "silent":
            yield Finding(
                f"{record.session.name or record.session.id} has been silent for "
                f"{span(time.time() - record.beat_at)} and holds {counted(record.held, 'job')}",
                "any worker that is up gives its jobs to others after a lease; start one if there is none",
            )
    for name, task in _taken_by_nobody(target, sessions):
        yield Finding(
            f"ready jobs of {task or 'no task (messages)'} wait in {name}, and nobody that is up takes them",
            f"start a worker whose app knows {task or 'them'} and that serves {name}"
            if task
            else f'receive them: app.queue("{name}").receive()',
        )
    for job_id, why in _fit_for_nobody(target, sessions):
        yield Finding(
            f"job {job_id}, perhaps among others like it: {why}",
            "start a worker that offers (--resource) and accepts (--accept) what it asks for, or cancel it",
        )


def _taken_by_nobody(target: Target, sessions: Sequence[SessionRecord]) -> Iterator[tuple[str, str]]:
    paused = {record.name for record in target.engine.queues() if record.paused}
    ready = target.engine.find(Filter(states=(State.READY,)), limit=_LOOKED_AT).jobs
    for name, task in sorted({(job.queue, job.task) for job in ready}):
        takers = (r.session for r in sessions if not r.session.queues or name in r.session.queues)
        if name not in paused and not any(session.runs(task) for session in takers):
            yield name, task


def _fit_for_nobody(target: Target, sessions: Sequence[SessionRecord]) -> Iterator[tuple[str, str]]:
    """Return a job of each kind that workers know, and that none of them could ever hold."""
    from cicely.engines.contract import Surroundings
    from cicely.observe.explain import explain
    from cicely.observe.reasons import Reason

    ready = target.engine.find(Filter(states=(State.READY,)), limit=_LOOKED_AT).jobs
    paused = {record.name for record in target.engine.queues() if record.paused}
    told = set()
    for job in target.engine.get([job.id for job in ready]):
        if job is None or job.flow is None or job.state is not State.READY or job.queue in paused:
            continue
        around = Surroundings(job=job, now=time.time(), sessions=tuple(sessions))
        why = explain(around)
        kind = (job.queue, job.task, why.text)
        if why.reason in (Reason.NOT_ACCEPTED, Reason.TOO_LARGE) and kind not in told:
            told.add(kind)
            yield job.id, why.text


def _environment_problems() -> Iterator[Finding]:
    for name in os.environ:
        if not name.startswith("CICELY_") or name in _VARIABLES:
            continue
        near = get_close_matches(name, _VARIABLES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(_VARIABLES)}"
        yield Finding(f"the environment variable {name} is unknown", hint)
    if sys.platform != "linux":
        yield Finding("workers need Linux", "producers and this command line work here")
