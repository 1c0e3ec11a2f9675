"""Where the log lines of children and their jobs go when the app has not said so: to stderr."""

from __future__ import annotations

import logging


class _Lines(logging.Formatter):
    """One line per record; a job's own lines name the job."""

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        job_id = getattr(record, "job_id", "")
        return f"{line} [job {job_id}]" if job_id else line


def show_logs() -> None:
    """Show what Cicely and `ctx.log` say, unless the app has set up logging itself."""
    logger = logging.getLogger("cicely")
    if logger.handlers or logging.getLogger().handlers:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
