"""The app: queues and tasks. `cicely worker examples.code_evaluation.app:app` runs what was accepted."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from cicely import Alert, Breaker, Cicely, Context, DeadLetter, Retry, Revive, current, every
from examples.code_evaluation import places, results, verdicts
from examples.code_evaluation.places import ExecutorDown, NetworkTrouble, NoExecutor
from examples.code_evaluation.results import DatabaseDown
from examples.code_evaluation.sandbox import Program, Ran
from examples.code_evaluation.verdicts import CodeTimeout, LimitPassed

app = Cicely("code_evaluation")
#: Each line that is written here while a job runs names the job, its evaluation and its retries.
log = logging.getLogger("evaluation")
log.setLevel(logging.INFO)

# A queue's priority is from 0 to 10, and a free slot takes a job of the highest queue that has one. Within
# a queue a job's own priority, 0 to 9, decides; here all have the same.
app.queue("high_priority", priority=10)
app.queue("evaluation", priority=5)
app.queue("batch", priority=3)
app.queue("maintenance", priority=1)

#: 60, 120 and 240 s; the exercises have less time.
BACKOFF_VARIABLE = "EVALUATION_BACKOFF"
#: While a breaker is open the queue grows and nothing fails; it lets a job try so often.
COOLDOWN_VARIABLE = "EVALUATION_COOLDOWN"
#: The name of a file; while it exists, no evaluation succeeds.
FAULT_VARIABLE = "EVALUATION_FAULT"
#: The address of a webhook, which is told of failures that nobody should miss.
WEBHOOK_VARIABLE = "EVALUATION_WEBHOOK"

#: After an executor that is down, another one is tried at once; after a whole round the waits hold.
NEXT_EXECUTOR_S = 0.2
ON_NETWORK_TROUBLE = Retry(on=ConnectionError, attempts=4, backoff=os.environ.get(BACKOFF_VARIABLE, "60s"))
_COOLDOWN = os.environ.get(COOLDOWN_VARIABLE, "30s")
NO_DATABASE = Breaker("database", failures=3, within="1m", cooldown=_COOLDOWN, on=DatabaseDown)
NO_EXECUTORS = Breaker("executors", failures=3, within="1m", cooldown=_COOLDOWN, on=NoExecutor)
_LEFT_OVER_S = 3_600


@app.task(
    bind=True,
    queue="evaluation",
    retry=ON_NETWORK_TROUBLE,
    breaker=[NO_DATABASE, NO_EXECUTORS],
    raises=(CodeTimeout, LimitPassed),
    log_fields=["eval_id"],
)
def evaluate(self: Any, eval_id: str, code: str, language: str = "python") -> dict[str, Any]:
    """Run a program and return what came of it.

    `passed` is whether it ended with 0: a program that fails is a result, and no failure of the job. Fails
    with CodeTimeout, LimitPassed, or a ConnectionError after some attempts.
    """
    context = current()
    results.check()
    _fail_if_told_to()
    place = places.chosen(places.executors(), eval_id, context.attempt)
    context.progress(0, 1, f"attempt {context.attempt} {'by ' + place if place else 'in the worker'}")
    program = Program(language, code, timeout_s=verdicts.TIMEOUT_S, memory_bytes=_memory_bytes(context))
    ran = _run(self, context, program, place=place)
    result = _judged(self, context, ran, program=program) | {"executor": place or "worker"}
    results.store(eval_id, passed=result["passed"])
    context.progress(1, 1, "done")
    return result


def _run(task: Any, context: Context, program: Program, *, place: str) -> Ran:
    try:
        return places.run(program, place)
    except ExecutorDown as down:
        log.warning("an executor is down", extra={"executor": place, "error": str(down)})
        if places.has_untried(places.executors(), context.attempt):
            task.retry(exc=down, countdown=NEXT_EXECUTOR_S)
        raise NoExecutor(f"none of them runs anything; the last: {down}") from down
    except NetworkTrouble as trouble:
        log.warning("the network fails", extra={"executor": place, "error": str(trouble)})
        raise


def _judged(task: Any, context: Context, ran: Ran, *, program: Program) -> dict[str, Any]:
    """Return the result of a program that ended by itself; of any other raise why it failed."""
    log.info("ran", extra={"ended": ran.ended, "duration_s": ran.duration_s, "peak_bytes": ran.peak_bytes})
    if ran.ended == "timeout":
        raise CodeTimeout(f"not done after {program.timeout_s:g} s")
    if ran.ended in ("memory", "processes"):
        report = verdicts.report(ran, language=program.language, allowed_bytes=program.memory_bytes)
        log.warning("a limit was passed", extra={"report": str(report), "verdict": report.verdict})
        if report.verdict == "innocent":
            # The next attempt finds it, and gives the program more.
            context.checkpoint({"memory_bytes": verdicts.MORE_MEMORY_BYTES, "report": str(report)})
            task.retry(exc=LimitPassed(str(report)), countdown=0)
        raise LimitPassed(str(report))
    passed = ran.ended == "finished" and ran.exit_code == 0
    earlier = context.restored["report"] if isinstance(context.restored, dict) else None
    return msgspec.structs.asdict(ran) | {"passed": passed, "report": earlier}


def _fail_if_told_to() -> None:
    """Be broken while a file exists: `migrate` shows what a bad new side does, and the way back."""
    file = os.environ.get(FAULT_VARIABLE, "")
    if file and Path(file).exists():
        raise RuntimeError("a fault was injected")


def _memory_bytes(context: Context) -> int:
    restored = context.restored
    return restored["memory_bytes"] if isinstance(restored, dict) else verdicts.MEMORY_BYTES


# --- what failed for good -------------------------------------------------------------------------


@app.on_failed(task=evaluate, queue="maintenance")
def note_failure(letter: DeadLetter) -> None:
    """Write down each evaluation that failed for good. A job of its own, so none is forgotten."""
    log.error(
        "an evaluation failed",
        extra={"failed": letter.job_id, "error": letter.error.type_name, "fingerprint": letter.fingerprint},
    )


@app.task(queue="maintenance", expires="4m")
def process_dlq() -> dict[str, Any]:
    """Group what failed, run again what a rule allows, and alert about what nobody should miss.

    What the network broke off is run again once, ten minutes later. What a program did wrong is its
    author's; everything else is ours, and the webhook is told once per group and hour.
    """
    webhook = os.environ.get(WEBHOOK_VARIABLE, "")
    ours = (RuntimeError, ConnectionError)
    done = app.process_dead_letters(
        task=evaluate.name,
        revive=[Revive(error=ConnectionError, at_most=1, after="10m")],
        alert=[Alert(to=webhook, error=ours, cooldown="1h")] if webhook else [],
    )
    log.info("dead letters", extra={"groups": len(done.groups), "revived": len(done.revived)})
    return done.summary()


@app.task(queue="maintenance", expires="50m")
def clean_up() -> int:
    """Remove the folders that killed programs left behind; return how many."""
    before = time.time() - _LEFT_OVER_S
    left = [one for one in Path(tempfile.gettempdir()).glob("evaluation-*") if _is_older(one, before)]
    for folder in left:
        shutil.rmtree(folder, ignore_errors=True)
    log.info("cleaned up", extra={"folders": len(left)})
    return len(left)


def _is_older(folder: Path, before: float) -> bool:
    try:
        return folder.stat().st_mtime < before
    except FileNotFoundError:  # its program has ended meanwhile
        return False


app.schedule("clean-up", clean_up.s(), every("1h"), catch_up="skip")
app.schedule("process-dlq", process_dlq.s(), every("5m"), catch_up="skip", overlap="skip")
