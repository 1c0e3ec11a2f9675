"""The migration of this service: from the queue that it had to Cicely. Gateways and operators share it."""

from __future__ import annotations

import http.client
import json
import os
import threading
from typing import Any
from urllib.parse import urlsplit

from cicely.migration import Migration, Standing
from examples.code_evaluation.app import evaluate
from examples.code_evaluation.submissions import BULK, PREMIUM, SINGLE, Submission

#: Where the old queue answers; "" where there is none, and nothing to move.
OLD_VARIABLE = "EVALUATION_OLD"
#: The file in which gateways write down what was accepted.
BOOK_VARIABLE = "EVALUATION_BOOK"
#: The name under which the share is stored; a second migration needs another one.
NAME_VARIABLE = "EVALUATION_MIGRATION"


def migrations() -> dict[str, Migration]:
    """Return the migration by the queue that the new side is to use; the old one has a single queue.

    They are one: share and book are the same.
    """
    return {queue: migration(queue=queue) for queue in (PREMIUM, SINGLE, BULK)}


def migration(mode: str = "fallback", queue: str = SINGLE) -> Migration:
    """Return the migration between the old queue and `evaluate`."""
    old = Old(os.environ[OLD_VARIABLE])
    return Migration(
        old=(old.submit, old.status),
        new=evaluate.options(queue=queue),
        name=os.environ.get(NAME_VARIABLE, "evaluations"),
        mode=mode,
        accounts=os.environ[BOOK_VARIABLE],
        reading=standing_of,
    )


def payload_of(submission: Submission) -> dict[str, str]:
    """Return what both sides are given: the arguments of `evaluate`."""
    return {"eval_id": submission.eval_id, "code": submission.code, "language": submission.language}


def standing_of(result: dict[str, Any]) -> Standing:
    """Return what is compared of a result."""
    return Standing(
        state="succeeded",
        output=(result["passed"], result["output"]),
        duration_s=result["duration_s"],
        memory_bytes=result["peak_bytes"],
    )


class Old:
    """The way to the old queue: a connection for each thread."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url).netloc
        self._local = threading.local()

    def submit(self, job_id: str, payload: dict[str, str]) -> None:
        """Accept a job. Raises OSError."""
        status, _ = self._ask("POST", f"/jobs/{job_id}", json.dumps(payload))
        if status != http.client.ACCEPTED:
            raise ConnectionError(f"the old queue answered {status}")

    def status(self, job_id: str) -> Standing | None:
        """Return how a job stands there, None where it is not known."""
        status, said = self._ask("GET", f"/jobs/{job_id}")
        if status != http.client.OK:
            return None
        return standing_of(said) if said["state"] == "succeeded" else Standing(state=said["state"])

    def _ask(self, method: str, path: str, body: str = "") -> tuple[int, Any]:
        try:
            return self._asked(method, path, body)
        except (OSError, http.client.HTTPException):
            # A connection that was left open may have been closed there: once more on a new one. The
            # old queue knows jobs by their ids, so a repetition does no harm.
            self._local.connection = None
            try:
                return self._asked(method, path, body)
            except http.client.HTTPException as error:
                raise ConnectionError(f"the old queue broke off: {error}") from error

    def _asked(self, method: str, path: str, body: str) -> tuple[int, Any]:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = http.client.HTTPConnection(self._address, timeout=10)
        connection.request(method, path, body.encode())
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
