"""The demo's app: one task, which grades a program and is not told what was done to it."""

from __future__ import annotations

import os
from typing import Final

from cicely.app import Cicely
from cicely.cli.demonstration.grading import verdict
from cicely.testing.ledger import Ledger
from cicely.worker.context import context_or_none

#: Where a worker of the demo finds the ledger's folder.
LEDGER_VARIABLE: Final = "CICELY_DEMO_LEDGER"
TIMEOUT_S: Final = 3
MEMORY: Final = "256M"

app = Cicely("demo")


@app.task(isolate=True, timeout=TIMEOUT_S, memory=MEMORY)
def grade(source: str, test: str, entry_point: str) -> str:
    """Return "passed", or in what the program or its test ended instead."""
    context = context_or_none()
    if context is None:
        return verdict(source, test, entry_point)
    with Ledger(os.environ[LEDGER_VARIABLE]).attempt(context.job_id, context.fence):
        _step_back()
        return verdict(source, test, entry_point)


def _step_back() -> None:
    """Let the program write to nowhere, and come after the workers: this process is its own."""
    # Eight endless loops want every core; who ends them must not have to wait for them.
    os.nice(10)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)
