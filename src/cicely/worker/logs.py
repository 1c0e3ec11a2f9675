"""Where the log lines of children and their jobs go when the app has not said so: to stderr."""

from __future__ import annotations

import logging
import os
from typing import Any, Final

from cicely.observe.log import ATTRIBUTE, JsonLines, TextLines
from cicely.worker.context import context_or_none

#: "json" here has workers write their log lines, and those of jobs, as JSON.
LOG_VARIABLE: Final = "CICELY_LOG"

#: The same sentence is shown so often at most: an engine that is away is noticed by many, all the time.
REPEAT_S: Final = 30.0
_MOST_SENTENCES: Final = 200


class _Repeats(logging.Filter):
    """Lets a warning of Cicely's own pass once in a while; a job's own lines, and the app's, always."""

    def __init__(self) -> None:
        super().__init__()
        self._said_at: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        is_ours = record.name.startswith("cicely.") and record.name != "cicely.job"
        if not is_ours or record.levelno < logging.WARNING:
            return True
        sentence = record.getMessage()
        if record.created - self._said_at.get(sentence, 0.0) < REPEAT_S:
            return False
        if len(self._said_at) >= _MOST_SENTENCES:
            self._said_at.clear()
        self._said_at[sentence] = record.created
        return True


def show_logs() -> None:
    """Show what Cicely and `ctx.log` say, unless the app has set up logging itself.

    Every record that is made while a job runs says for which, whoever shows it.
    """
    mark_records()
    logger = logging.getLogger("cicely")
    if logger.handlers or logging.getLogger().handlers:
        return
    handler = logging.StreamHandler()
    handler.addFilter(_Repeats())
    handler.setFormatter(
        JsonLines() if writes_json() else TextLines("%(asctime)s %(levelname)s %(name)s %(message)s")
    )
    # As JSON, what the app's own loggers say belongs to the job as well.
    (logging.getLogger() if writes_json() else logger).addHandler(handler)
    logger.setLevel(logging.INFO)


def writes_json() -> bool:
    """Whether log lines are for programs."""
    return os.environ.get(LOG_VARIABLE) == "json"


def mark_records() -> None:
    """Have every log record made from now on carry what is known of the job that runs."""
    before = logging.getLogRecordFactory()
    if getattr(before, "marks_jobs", False):
        return

    def make(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = before(*args, **kwargs)
        context = context_or_none()
        if context is not None:
            setattr(record, ATTRIBUTE, context.log_fields())
        return record

    make.marks_jobs = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(make)
