"""Log lines as JSON objects: each names the job, its evaluation and how often it was tried before."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from cicely import current

_eval_id: ContextVar[str] = ContextVar("eval_id", default="")
log = logging.getLogger("evaluation")


@contextmanager
def about(eval_id: str) -> Iterator[None]:
    """Name this evaluation on every line of the block."""
    token = _eval_id.set(eval_id)
    try:
        yield
    finally:
        _eval_id.reset(token)


def fields() -> dict[str, Any]:
    """Return what every line says: `task_id`, `eval_id` and `retry_count`; empty outside a job."""
    context = current()
    return {
        "task_id": context.job_id if context else "",
        "eval_id": _eval_id.get(),
        "retry_count": context.attempt - 1 if context else 0,
    }


class Lines(logging.Formatter):
    """A line per record: when, how bad, what, who, and what the caller gave as `extra={"more": {...}}`."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": round(record.created, 3),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        line |= fields() | getattr(record, "more", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def show() -> None:
    """Write the lines to the standard error, once however often this is called."""
    if log.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines())
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
