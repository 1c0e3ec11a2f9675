"""What is counted and told of jobs, workers, queues and schedules as things happen to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cicely.core.event import JOB_REVIVED, JOB_STARTED, Event, kind_of_end, kind_of_step
from cicely.core.job import Claim
from cicely.core.outcome import Again, Finish, Pause
from cicely.core.rollup import Word, word_of
from cicely.engines.contract import Session
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.transaction import WATCHED, WORKFLOW, Transaction

if TYPE_CHECKING:
    from cicely.engines.sqlite.endings import Row

_SQL: Final = statements("past")


# --- jobs -----------------------------------------------------------------------------------------
def started(txn: Transaction, session: str, claim: Claim) -> None:
    """Tell of the claim of a watched job."""
    event = Event(
        kind=JOB_STARTED,
        at=txn.now,
        name=session,
        job_id=claim.job_id,
        task=claim.task,
        queue=claim.queue,
        workflow=claim.workflow,
        attempt=claim.attempt,
        fence=claim.fence,
    )
    txn.record.events.append(event)


def ended(txn: Transaction, row: Row, step: Finish) -> None:
    """Count and tell of an end, before it is carried out."""
    run_s = _count(txn, row, word_of(step, ""))
    is_watched = bool(row.flags & WATCHED)
    kind = kind_of_end(step.state, run_s=run_s, watched=is_watched, cause=row.cause or "")
    if kind is not None:
        tell_of(txn, row, kind, reason=step.reason, run_s=run_s)


def went_on(txn: Transaction, row: Row, step: Again | Pause, attempt_reason: str) -> None:
    """Count and tell of an attempt after which its job goes on, before that is carried out."""
    word = word_of(step, attempt_reason)
    if word is None:
        return
    run_s = _count(txn, row, word)
    if isinstance(step, Again) and run_s is not None:
        kind = kind_of_step(step, attempt_reason)
        if kind is not None:
            tell_of(txn, row, kind, reason=step.reason, run_s=run_s)


def revived(txn: Transaction, row: Row, reason: str) -> None:
    """Tell of a job that somebody revived."""
    tell_of(txn, row, JOB_REVIVED, reason=reason)


def _count(txn: Transaction, row: Row, word: Word | None) -> float | None:
    """Count a word of a job; return how long it ran, None where it did not."""
    if word is None:
        return None
    if not row.is_running:
        txn.record.count(word, row.job_class, row.queue)
        return None
    return txn.record.count_runs(word, row.job_class, row.queue, row.started_at or 0.0) / 1e6


def tell_of(txn: Transaction, row: Row, kind: str, *, reason: str, run_s: float | None = None) -> None:
    """Tell of something that happened to a job."""
    event = Event(
        kind=kind,
        at=txn.now,
        name=session_key(txn, row.session),
        reason=reason,
        job_id=row.id,
        task=txn.names.class_of(row.job_class)[0],
        queue=txn.names.queue_name(row.queue),
        workflow=workflow_of(txn, row.n) if row.flags & WORKFLOW else "",
        attempt=row.attempt,
        fence=row.fence,
        run_s=run_s,
    )
    txn.record.events.append(event)


def session_key(txn: Transaction, number: int | None) -> str:
    """Return the id of a session by its number; "" for none."""
    found = None if number is None else txn.row(_SQL["session"], (number,))
    return found[0] if found else ""


def workflow_of(txn: Transaction, n: int) -> str:
    """Return the workflow that a job is of."""
    found = txn.row(_SQL["workflow"], (n,))
    return found[0] if found else ""


# --- anything else --------------------------------------------------------------------------------
def tell(txn: Transaction, kind: str | None, name: str, reason: str = "") -> None:
    """Tell of something that happened to no job; of nothing where `kind` is None."""
    if kind is not None:
        txn.record.events.append(Event(kind=kind, at=txn.now, name=name, reason=reason))


def tell_of_worker(txn: Transaction, kind: str, session: Session) -> None:
    """Tell of a supervisor; children come and go with it."""
    if session.is_supervisor:
        tell(txn, kind, session.id, session.name)
