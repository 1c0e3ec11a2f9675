"""The measurements: each asks one system one question and returns figures by the keys of `lines`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from statistics import mean
from typing import Final

from benchmarks.compare.contestant import Contestant, Crew, Failed, NotOffered
from benchmarks.compare.lines import Sizes
from benchmarks.compare.statistics import NEVER, percentile
from benchmarks.peers.ledger import Entry, now
from benchmarks.processes import cpu_s, pss_mb, tree_cpu_s
from benchmarks.runs import Moved

Figures = dict[str, float]
Measure = Callable[[Contestant, Sizes], Figures]

_REST_S: Final = 3.0
_WARM_UPS: Final = 100
_WARM_S: Final = 20.0
_SHARES: Final = (50, 95, 99)


def drain(system: Contestant, sizes: Sizes) -> Figures:
    """Measure the run of no-op jobs that wait already, by two and by four processes."""
    figures: Figures = {}
    for processes in (2, 4):
        filled = _filled(system, "fill_noop", sizes.drain, sizes=sizes)
        calls, cpu = system.server.calls(), system.server.cpu_s()
        with system.working(processes) as crew:
            first = system.await_first(crew)
            moved = system.watch(filled, since=first, limit_s=sizes.limit_s)
            figures[f"run{processes}"] = moved.per_s
        if calls is not None and processes == 2:
            # Starts and ends included: PostgreSQL counts late what a connection did that goes on.
            ran = system.ran
            figures["calls"] = ((system.server.calls() or 0) - calls) / ran
            figures["server_cpu"] = (system.server.cpu_s() - cpu) / ran * 1e6
    return figures


def enqueue(system: Contestant, sizes: Sizes) -> Figures:
    """Measure a producer, without a worker."""
    system.clear()
    figures = {"single": system.moved("single", sizes.singles, limit_s=sizes.limit_s).per_s}
    system.clear()
    try:
        figures["bulk"] = system.moved("bulk", sizes.bulk, limit_s=sizes.limit_s).per_s
    except NotOffered:
        return figures
    return figures


def burn(system: Contestant, sizes: Sizes) -> Figures:
    """Measure jobs that keep the processor busy, and what it costs to run them."""
    filled = _filled(system, "fill_burn", sizes.burn, sizes=sizes)
    with system.working(4) as crew:
        first = system.await_first(crew)
        workers_s, server_s = tree_cpu_s(crew.pids), system.server.cpu_s()
        moved = system.watch(filled, since=first, limit_s=sizes.limit_s)
        workers_s, server_s = tree_cpu_s(crew.pids) - workers_s, system.server.cpu_s() - server_s
        memory = pss_mb(crew.pids)
    share = 10_000 / max(1, moved.jobs)
    return {
        "burn": moved.per_s,
        "burn_cpu": workers_s * share,
        "burn_memory": memory,
    } | ({"burn_server_cpu": server_s * share} if system.server.calls() is not None else {})


def latency(system: Contestant, sizes: Sizes) -> Figures:
    """Measure one job at a time on an idle worker of two processes."""
    system.clear()
    system.ask("fill_noop", _WARM_UPS, limit_s=sizes.limit_s)
    with system.working(2) as crew:
        system.watch(_WARM_UPS, since=system.await_first(crew), limit_s=_WARM_S)
        time.sleep(1)
        system.forget()
        seen = system.ask("latency", sizes.latencies, limit_s=sizes.limit_s * 2)
    starts = [one["start_s"] * 1000 for one in seen]
    ends = [one["result_s"] * 1000 for one in seen if one["result_s"] is not None]
    if not starts:
        raise Failed("no job ran on an idle worker in time")
    figures = {f"start_p{share}": percentile(starts, share) for share in _SHARES}
    return figures | ({f"result_p{share}": percentile(ends, share) for share in _SHARES} if ends else {})


def idle(system: Contestant, sizes: Sizes) -> Figures:
    """Measure what a worker of four processes costs while there is nothing to do."""
    system.clear()
    system.ask("fill_noop", _WARM_UPS, limit_s=sizes.limit_s)
    with system.working(4) as crew:
        system.watch(_WARM_UPS, since=system.await_first(crew), limit_s=_WARM_S)
        time.sleep(_REST_S)
        memory = pss_mb(crew.pids)
        members = crew.members
        spent_s, server_s, calls, began_at = (
            cpu_s(members),
            system.server.cpu_s(),
            system.server.requests(),
            now(),
        )
        time.sleep(sizes.idle_s)
        ran_s = now() - began_at
        figures = {
            "idle_cpu": (cpu_s(members) - spent_s) / ran_s * 100,
            "idle_memory": memory,
        }
        if calls is not None:
            # One of them is the question how many there were.
            figures["idle_calls"] = max(0, (system.server.requests() or 0) - calls - 1) / ran_s
            figures["idle_server_cpu"] = (system.server.cpu_s() - server_s) / ran_s * 100
    return figures


def backlog(system: Contestant, sizes: Sizes) -> Figures:
    """Measure the run of a few thousand jobs out of a small and out of a large backlog."""
    figures: Figures = {}
    for size, jobs in (("small", sizes.backlog_small), ("large", sizes.backlog_large)):
        figures["backlog_jobs"] = _filled(system, "fill_noop", jobs, sizes=sizes)
        with system.working(2) as crew:
            first = system.await_first(crew)
            moved = system.watch(first.jobs + sizes.backlog_run, since=first, limit_s=sizes.limit_s)
            figures[f"backlog_{size}"] = moved.per_s
    figures["backlog_share"] = figures["backlog_large"] / figures["backlog_small"]
    return figures


def countdown(system: Contestant, sizes: Sizes) -> Figures:
    """Measure jobs that are due in an hour, and what they do to a worker."""
    system.clear()
    later = system.moved("schedule", sizes.scheduled, limit_s=sizes.limit_s)
    if later.jobs < sizes.scheduled:
        system.moved("schedule", sizes.scheduled - later.jobs, limit_s=sizes.fill_s)
    filled = system.moved("fill_noop", sizes.backlog_run, limit_s=sizes.fill_s).jobs
    with system.working(2) as crew:
        run = system.watch(filled, since=system.await_first(crew), limit_s=sizes.limit_s)
        time.sleep(_REST_S)
        spent_s, began_at = tree_cpu_s(crew.pids), now()
        time.sleep(sizes.idle_s)
        cpu = (tree_cpu_s(crew.pids) - spent_s) / (now() - began_at) * 100
        memory = pss_mb(crew.pids)
    return {"later": later.per_s, "later_run": run.per_s, "later_memory": memory, "later_cpu": cpu}


def chord(system: Contestant, sizes: Sizes) -> Figures:
    """Measure a group with a callback, from before its enqueue to the callback's start, on an idle worker."""
    system.clear()
    system.ask("fill_noop", _WARM_UPS, limit_s=sizes.limit_s)
    with system.working(2) as crew:
        system.watch(_WARM_UPS, since=system.await_first(crew), limit_s=_WARM_S)
        system.forget()
        asked = system.moved("chord", sizes.chord, limit_s=sizes.limit_s)
        ended = system.await_entries(sizes.chord + 1, limit_s=sizes.limit_s * 2)
    if not ended:
        raise Failed("the callback did not run in time")
    return {"chord": ended[0].began_at - asked.began_at}


def embed(system: Contestant, sizes: Sizes) -> Figures:
    """Measure real work of about 16 ms by four workers."""
    if system.server.engine != "redis" or system.name not in ("cicely", "celery", "rq", "rq-simple"):
        raise NotOffered("not part of this one")
    system.clear()
    filled = system.moved("embed", sizes.embed, limit_s=sizes.fill_s).jobs
    with system.working(4) as crew:
        first = system.await_first(crew)
        spent_s = tree_cpu_s(crew.pids)
        moved = system.watch(filled, since=first, limit_s=sizes.embed_s)
        spent_s, memory = tree_cpu_s(crew.pids) - spent_s, pss_mb(crew.pids)
        taken = [(entry.ended_at - entry.began_at) * 1000 for entry in system.await_entries(0, limit_s=0)]
    return {
        "embed": moved.per_s,
        "embed_mean": mean(taken),
        "embed_p95": percentile(taken, 95),
        "embed_cpu": spent_s / (moved.ended_at - moved.began_at) / len(os.sched_getaffinity(0)) * 100,
        "embed_cpu_s": spent_s / max(1, moved.jobs) * 10_000,
        "embed_memory": memory,
    }


def naps(system: Contestant, sizes: Sizes) -> Figures:
    """Measure jobs that only wait, a thousand at a time in one process."""
    _filled(system, "fill_nap", sizes.naps, sizes=sizes)
    with system.sleeping() as crew:
        moved = _since_start(system, crew, sizes.naps, limit_s=sizes.limit_s)
    return {"naps": moved.per_s}


def _since_start(system: Contestant, crew: Crew, count: int, *, limit_s: float) -> Moved:
    """Return the run of so many naps, the first one's sleep included: all may end in the same moment."""
    first = system.await_first(crew)
    moved = system.watch(count, since=first, limit_s=limit_s)
    return Moved(moved.jobs + first.jobs, moved.began_at - 0.1, moved.ended_at)


def kill(system: Contestant, sizes: Sizes) -> Figures:
    """Measure when a job runs again whose process was killed, and one whose whole worker was."""
    _hold(system, 1, sizes=sizes)
    with system.working(2) as crew:
        killed = _held(system)
        killed_at = now()
        crew.kill_one(killed.pid)
        after_process_s = _rerun_s(system, killed, killed_at, sizes=sizes)
        crew.kill()
    _hold(system, 2, sizes=sizes)
    with system.working(2) as crew:
        killed = _held(system)
        killed_at = now()
        crew.kill()
    with system.working(2):
        after_worker_s = _rerun_s(system, killed, killed_at, sizes=sizes)
    return {"rerun_process": after_process_s, "rerun_worker": after_worker_s}


def _hold(system: Contestant, number: int, *, sizes: Sizes) -> None:
    """Start over with one job that takes its time; some workers need what the first producer makes."""
    system.clear()
    system.ask("hold", number, limit_s=sizes.limit_s)


def _held(system: Contestant) -> Entry:
    """Return where it started."""
    entries = system.await_entries(1, limit_s=30.0)
    if not entries:
        raise Failed("no job started")
    time.sleep(0.3)
    return entries[0]


def _rerun_s(system: Contestant, killed: Entry, killed_at: float, *, sizes: Sizes) -> float:
    """Return after how long the job of a killed process began again; NEVER if it did not in time."""
    entries = system.await_entries(2, limit_s=sizes.patience_s)
    if any(entry.pid == killed.pid and entry.ended_at for entry in entries):
        raise Failed("the killed job ended: what was killed did not run it")
    again = [entry.began_at - killed_at for entry in entries if entry.began_at > killed_at]
    return min(again, default=NEVER)


def _filled(system: Contestant, work: str, count: int, *, sizes: Sizes) -> int:
    """Start over with so many jobs that wait; return how many could be enqueued in time."""
    system.clear()
    jobs = system.moved(work, count, limit_s=sizes.fill_s).jobs
    if not jobs:
        raise Failed("nothing could be enqueued")
    return jobs


MEASURES: Final[dict[str, Measure]] = {
    measure.__name__: measure
    for measure in (drain, enqueue, burn, latency, idle, backlog, countdown, chord, embed, naps, kill)
}
#: Measured in the first run only: they take long, and their answers are not a matter of a few per cent.
ONCE: Final = frozenset({"kill", "backlog"})
