"""A caller of the gateway."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from cicely import State
from examples.code_evaluation.stage import wait_for


class Refused(Exception):
    """The gateway answered with another status than 2xx; the message has its words."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(f"{status}: {words}")
        self.status = status


class Client:
    """The gateway's requests, as a caller sees them; for one thread."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)

    def ask(self, method: str, path: str, body: str = "") -> str:
        """Return the words of the answer. Raises Refused, and OSError where nobody answers."""
        try:
            status, words = self._asked(method, path, body)
        except (OSError, http.client.HTTPException):
            # An idle connection is closed by the gateway. Every request may be repeated: ids see to that.
            self._connection.close()
            status, words = self._asked(method, path, body)
        if status >= http.client.MULTIPLE_CHOICES:
            raise Refused(status, words)
        return words

    def _asked(self, method: str, path: str, body: str) -> tuple[int, str]:
        self._connection.request(method, path, body.encode(), {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        return answer.status, answer.read().decode()

    def submit(self, eval_id: str, code: str, **more: str) -> dict[str, Any]:
        """Submit one evaluation and return the answer."""
        said = self.ask("POST", "/evaluations", json.dumps({"eval_id": eval_id, "code": code, **more}))
        return dict(json.loads(said))

    def submit_all(self, programs: Iterable[tuple[str, str]]) -> int:
        """Upload a batch of ids and programs; return how many were accepted."""
        lines = [json.dumps({"eval_id": eval_id, "code": code}) for eval_id, code in programs]
        return int(json.loads(self.ask("POST", "/batches", "\n".join(lines)))["accepted"])

    def look(self, eval_id: str) -> dict[str, Any]:
        """Return how an evaluation stands."""
        return dict(json.loads(self.ask("GET", f"/evaluations/{eval_id}")))

    def await_end(self, eval_id: str) -> dict[str, Any]:
        """Return an evaluation that has ended."""

        def ended() -> dict[str, Any] | None:
            now = self.look(eval_id)
            return now if State(now["state"]).is_final else None

        found = wait_for(ended, what=f"the end of {eval_id}")
        assert found is not None
        return found
