"""What the service measures, as text for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from cicely import Cicely, Filter, State

#: Run times are those of so many evaluations that succeeded last.
WINDOW = 200
_WAITING = (State.READY, State.SCHEDULED, State.WAITING)
_QUANTILES = (0.5, 0.9, 0.99)


def text(app: Cicely) -> str:
    """Return jobs by queue and state, the depth of each queue, and quantiles of run times."""
    queues = [(queue.name, queue.counts) for queue in app.engine.queues()]
    recent = app.records(Filter(states=(State.SUCCEEDED,)), limit=WINDOW)
    times_s = [job.ended_at - job.started_at for job in recent if job.ended_at and job.started_at]
    return "".join(f"{line}\n" for line in (*_counts(queues), *_run_times(times_s)))


def _counts(queues: Iterable[tuple[str, object]]) -> Iterator[str]:
    yield "# HELP evaluation_jobs Jobs by queue and state."
    yield "# TYPE evaluation_jobs gauge"
    depths = []
    for name, counts in queues:
        assert isinstance(counts, dict)
        yield from (
            f'evaluation_jobs{{queue="{name}",state="{state}"}} {counts.get(state, 0)}' for state in State
        )
        depths.append((name, sum(counts.get(state, 0) for state in _WAITING)))
    yield "# HELP evaluation_queue_depth Jobs that have not started."
    yield "# TYPE evaluation_queue_depth gauge"
    yield from (f'evaluation_queue_depth{{queue="{name}"}} {depth}' for name, depth in depths)


def _run_times(times_s: Sequence[float]) -> Iterator[str]:
    yield "# HELP evaluation_run_seconds Run times of the last attempts that succeeded."
    yield "# TYPE evaluation_run_seconds summary"
    ordered = sorted(times_s)
    for quantile in _QUANTILES if ordered else ():
        value = ordered[min(len(ordered) - 1, int(quantile * len(ordered)))]
        yield f'evaluation_run_seconds{{quantile="{quantile}"}} {value:.6f}'
    yield f"evaluation_run_seconds_sum {sum(ordered):.6f}"
    yield f"evaluation_run_seconds_count {len(ordered)}"
