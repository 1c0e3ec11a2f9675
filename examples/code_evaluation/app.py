"""The app: queues and tasks. `cicely worker examples.code_evaluation.app:app` runs what was accepted."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from cicely import Cicely, Context, Retry, current, every
from examples.code_evaluation import logs, places, verdicts
from examples.code_evaluation.logs import log
from examples.code_evaluation.places import ExecutorDown, NetworkTrouble
from examples.code_evaluation.sandbox import Program, Ran
from examples.code_evaluation.verdicts import CodeTimeout, LimitPassed

app = Cicely("code_evaluation")
logs.show()

# A queue's priority is from 0 to 10, and a free slot takes a job of the highest queue that has one. Within
# a queue a job's own priority, 0 to 9, decides; here all have the same.
app.queue("high_priority", priority=10)
app.queue("evaluation", priority=5)
app.queue("batch", priority=3)
app.queue("maintenance", priority=1)

#: After an executor that is down, another one is tried at once; after a whole round the waits below hold.
NEXT_EXECUTOR_S = 0.2
#: 60, 120 and 240 s; the exercises have less time.
BACKOFF_VARIABLE = "EVALUATION_BACKOFF"
ON_NETWORK_TROUBLE = Retry(on=ConnectionError, attempts=4, backoff=os.environ.get(BACKOFF_VARIABLE, "60s"))
#: The name of a file; while it exists, no evaluation succeeds.
FAULT_VARIABLE = "EVALUATION_FAULT"
_LEFT_OVER_S = 3_600


@app.task(bind=True, queue="evaluation", retry=ON_NETWORK_TROUBLE, raises=(CodeTimeout, LimitPassed))
def evaluate(self: Any, eval_id: str, code: str, language: str = "python") -> dict[str, Any]:
    """Run a program and return what came of it.

    `passed` is whether it ended with 0: a program that fails is a result, and no failure of the job. Fails
    with CodeTimeout, LimitPassed, ExecutorDown or NetworkTrouble.
    """
    context = current()
    assert context is not None
    with logs.about(eval_id):
        known = places.executors()
        place = places.chosen(known, eval_id, context.attempt)
        memory_bytes = _memory_bytes(context)
        context.progress(0, 1, f"attempt {context.attempt} {'by ' + place if place else 'in the worker'}")
        program = Program(language, code, timeout_s=verdicts.TIMEOUT_S, memory_bytes=memory_bytes)
        _fail_if_told_to()
        try:
            ran = places.run(program, place)
        except ExecutorDown as down:
            log.warning("an executor is down", extra={"more": {"executor": place, "error": str(down)}})
            if places.has_untried(known, context.attempt):
                self.retry(exc=down, countdown=NEXT_EXECUTOR_S)
            raise
        except NetworkTrouble as trouble:
            log.warning("the network fails", extra={"more": {"executor": place, "error": str(trouble)}})
            raise
        return _judged(self, context, ran, program=program, place=place)


def _judged(task: Any, context: Context, ran: Ran, *, program: Program, place: str) -> dict[str, Any]:
    """Return the result of a program that ended by itself; of any other raise why it failed."""
    seen = {"executor": place or "worker", "ended": ran.ended, "duration_s": ran.duration_s}
    log.info("ran", extra={"more": seen | {"peak_bytes": ran.peak_bytes}})
    if ran.ended == "timeout":
        raise CodeTimeout(f"not done after {program.timeout_s:g} s")
    if ran.ended in ("memory", "processes"):
        report = verdicts.report(ran, language=program.language, allowed_bytes=program.memory_bytes)
        log.warning("a limit was passed", extra={"more": {"report": str(report), "verdict": report.verdict}})
        if report.verdict == "innocent":
            # The next attempt finds it, and gives the program more.
            context.checkpoint({"memory_bytes": verdicts.MORE_MEMORY_BYTES, "report": str(report)})
            task.retry(exc=LimitPassed(str(report)), countdown=0)
        raise LimitPassed(str(report))
    context.progress(1, 1, "done")
    earlier = context.restored["report"] if isinstance(context.restored, dict) else None
    passed = ran.ended == "finished" and ran.exit_code == 0
    return msgspec.structs.asdict(ran) | {"passed": passed, "executor": place or "worker", "report": earlier}


def _fail_if_told_to() -> None:
    """Be broken while a file exists: `migrate` shows what a bad new side does, and the way back."""
    file = os.environ.get(FAULT_VARIABLE, "")
    if file and os.path.exists(file):
        raise RuntimeError("a fault was injected")


def _memory_bytes(context: Context) -> int:
    restored = context.restored
    return restored["memory_bytes"] if isinstance(restored, dict) else verdicts.MEMORY_BYTES


@app.task(queue="maintenance", expires="50m")
def clean_up() -> int:
    """Remove the folders that killed programs left behind; return how many."""
    before = time.time() - _LEFT_OVER_S
    left = [one for one in Path(tempfile.gettempdir()).glob("evaluation-*") if one.stat().st_mtime < before]
    for folder in left:
        shutil.rmtree(folder, ignore_errors=True)
    log.info("cleaned up", extra={"more": {"folders": len(left)}})
    return len(left)


app.schedule("clean-up", clean_up.s(), every("1h"), catch_up="skip")
