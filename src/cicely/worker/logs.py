"""Where the log lines of children and their jobs go when the app has not said so: to stderr."""

from __future__ import annotations

import logging
from typing import Final

#: The same sentence is shown so often at most: an engine that is away is noticed by many, all the time.
REPEAT_S: Final = 30.0
_MOST_SENTENCES: Final = 200


class _Lines(logging.Formatter):
    """One line per record; a job's own lines name the job."""

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        job_id = getattr(record, "job_id", "")
        return f"{line} [job {job_id}]" if job_id else line


class _Repeats(logging.Filter):
    """Lets a warning of Cicely's own pass once in a while; a job's own lines always."""

    def __init__(self) -> None:
        super().__init__()
        self._said_at: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name == "cicely.job" or record.levelno < logging.WARNING:
            return True
        sentence = record.getMessage()
        if record.created - self._said_at.get(sentence, 0.0) < REPEAT_S:
            return False
        if len(self._said_at) >= _MOST_SENTENCES:
            self._said_at.clear()
        self._said_at[sentence] = record.created
        return True


def show_logs() -> None:
    """Show what Cicely and `ctx.log` say, unless the app has set up logging itself."""
    logger = logging.getLogger("cicely")
    if logger.handlers or logging.getLogger().handlers:
        return
    handler = logging.StreamHandler()
    handler.addFilter(_Repeats())
    handler.setFormatter(_Lines("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
