"""Metrics as text for Prometheus: what stands in the engine now, and what was counted since this began.

Counters start at 0 with the process that shows them, as counters of any process do, and grow by what the
engine counted since: they are those of the whole system, whoever ran the jobs.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from cicely.core.rollup import LAST_BUCKET, Sum, Word, bucket_from_s, minute_of
from cicely.core.scaling import ScaleRule
from cicely.core.states import State
from cicely.engines.contract import Engine, QueueRecord, SessionRecord
from cicely.observe.backlog import Look, look, processes_of, wanted_processes
from cicely.observe.rollups import RAN, cells

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

#: Every second octave from 1 ms on; finer would be many lines per task.
_BOUNDS: Final = tuple(range(1, LAST_BUCKET + 1, 4))

#: As many as the jobs want: what starts workers has its own least and most.
_RULE: Final = ScaleRule(least=0, most=1_000)

Labels = Mapping[str, str]
Key = tuple[str, str]


class Metrics:
    """One process's view; `text` is what it shows at each scrape. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun_at: int | None = None
        self._closed: dict[tuple[Word, str, str], Sum] = {}
        self._next_minute = 0

    def text(self, engine: Engine) -> str:
        """Return all metrics, read from the engine now."""
        swept = engine.sweep(1)
        seen, sessions = look(engine), engine.sessions()
        with self._lock:
            counted = self._counted(engine, minute_of(swept.now))
        lines = [
            *_queues(seen.queues),
            *_sessions(sessions),
            *_wanted(seen, sessions),
            *_counters(counted),
            *_run_times(counted),
        ]
        return "\n".join(lines) + "\n"

    def _counted(self, engine: Engine, now: int) -> Mapping[tuple[Word, str, str], Sum]:
        """Return what was counted since the first scrape's minute, the present one as far as it has come."""
        if self._begun_at is None:
            self._begun_at = self._next_minute = now
        # A minute may still grow for a while after its end: calls that began in it, folding, reports.
        closing = max(self._next_minute, now - 1)
        _add(self._closed, engine, self._next_minute, closing)
        self._next_minute = closing
        total = {key: _copy(one) for key, one in self._closed.items()}
        _add(total, engine, closing, now + 1)
        return total


def _add(totals: dict[tuple[Word, str, str], Sum], engine: Engine, since: int, until: int) -> None:
    for cell in cells(engine, since, until) if since < until else ():
        totals.setdefault((cell.word, cell.task, cell.queue), Sum()).add(cell)


def _copy(one: Sum) -> Sum:
    copy = Sum()
    copy.add(one)
    return copy


# --- what stands --------------------------------------------------------------------------------
def _queues(records: Iterable[QueueRecord]) -> Iterator[str]:
    known = list(records)
    yield from _head("cicely_jobs", "gauge", "Jobs in each state, by queue.")
    for record in known:
        for state in State:
            yield _line("cicely_jobs", {"queue": record.name, "state": state}, record.counts.get(state, 0))
    yield from _head("cicely_queue_paused", "gauge", "Whether a queue is paused.")
    for record in known:
        yield _line("cicely_queue_paused", {"queue": record.name}, int(record.paused))


def _sessions(records: Iterable[SessionRecord]) -> Iterator[str]:
    known = list(records)
    yield from _head("cicely_workers", "gauge", "Workers that are up, or were and are not known to be gone.")
    yield _line("cicely_workers", {}, sum(one.session.is_supervisor for one in known))
    yield from _head("cicely_claims_held", "gauge", "Jobs that run, or wait in a worker for their turn.")
    yield _line("cicely_claims_held", {}, sum(one.held for one in known))


def _wanted(seen: Look, sessions: Sequence[SessionRecord]) -> Iterator[str]:
    yield from _head("cicely_wanted_processes", "gauge", "Worker processes that the jobs of all queues want.")
    yield _line("cicely_wanted_processes", {}, _wanted_by(seen, sessions))
    name = "cicely_queue_wanted_processes"
    yield from _head(name, "gauge", "Worker processes that the jobs of a queue want.")
    for record in seen.queues:
        yield _line(name, {"queue": record.name}, _wanted_by(seen, sessions, record.name))


def _wanted_by(seen: Look, sessions: Sequence[SessionRecord], *queues: str) -> int:
    return wanted_processes(seen.backlog(queues), _RULE, processes=processes_of(sessions, queues))


# --- what was counted ---------------------------------------------------------------------------
def _counters(counted: Mapping[tuple[Word, str, str], Sum]) -> Iterator[str]:
    yield from _head(
        "cicely_jobs_total", "counter", "Jobs enqueued and ended, attempts that went on, by outcome."
    )
    for (word, task, queue), total in sorted(counted.items()):
        if word in RAN or word in (Word.ENQUEUED, Word.EXPIRED):
            yield _line("cicely_jobs_total", {"task": task, "queue": queue, "outcome": word}, total.count)
    for name, word, about in (
        ("cicely_workers_lost_total", Word.LOST_WORKERS, "Workers that fell silent."),
        ("cicely_engine_errors_total", Word.ENGINE_ERRORS, "Engine calls that failed."),
    ):
        yield from _head(name, "counter", about)
        yield _line(name, {}, sum(total.count for (one, _, _), total in counted.items() if one is word))
    yield from _head("cicely_ticks_total", "counter", "Ticks of schedules: due, made, skipped.")
    for (word, name, _), total in sorted(counted.items()):
        if word in (Word.TICKS_DUE, Word.TICKS_MADE, Word.TICKS_SKIPPED):
            labels = {"schedule": name, "what": word.removeprefix("ticks ")}
            yield _line("cicely_ticks_total", labels, total.count)


def _run_times(counted: Mapping[tuple[Word, str, str], Sum]) -> Iterator[str]:
    yield from _head("cicely_run_seconds", "histogram", "How long attempts ran, from claim to end.")
    runs: dict[Key, Sum] = {}
    for (word, task, queue), total in counted.items():
        if word in RAN and total.ran:
            runs.setdefault((task, queue), Sum()).add(total)
    for (task, queue), total in sorted(runs.items()):
        labels = {"task": task, "queue": queue}
        for bound in _BOUNDS:
            below = sum(count for bucket, count in total.buckets.items() if bucket < bound)
            yield _line("cicely_run_seconds_bucket", labels | {"le": f"{bucket_from_s(bound):g}"}, below)
        yield _line("cicely_run_seconds_bucket", labels | {"le": "+Inf"}, total.ran)
        yield _line("cicely_run_seconds_sum", labels, total.sum_us / 1e6)
        yield _line("cicely_run_seconds_count", labels, total.ran)


# --- the format ---------------------------------------------------------------------------------
def _head(name: str, kind: str, about: str) -> Iterator[str]:
    yield f"# HELP {name} {about}"
    yield f"# TYPE {name} {kind}"


def _line(name: str, labels: Labels, value: float) -> str:
    written = ",".join(f'{label}="{_escaped(str(text))}"' for label, text in labels.items())
    return f"{name}{{{written}}} {value!r}" if written else f"{name} {value!r}"


def _escaped(text: str) -> str:
    cleaned = text.encode(errors="backslashreplace").decode()
    return cleaned.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
