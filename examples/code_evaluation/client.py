"""A caller of the gateway."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import httpx

from cicely import State
from examples.code_evaluation.stage import wait_for


class Client:
    """The gateway's requests, as a caller sees them."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=30.0)

    def submit(self, eval_id: str, code: str, **more: str) -> dict[str, Any]:
        """Submit one evaluation and return the answer. Raises httpx.HTTPStatusError."""
        answer = self.http.post("/evaluations", json={"eval_id": eval_id, "code": code, **more})
        answer.raise_for_status()
        return dict(answer.json())

    def submit_all(self, programs: Iterable[tuple[str, str]]) -> int:
        """Upload a batch of ids and programs; return how many were accepted."""
        lines = [json.dumps({"eval_id": eval_id, "code": code}) for eval_id, code in programs]
        answer = self.http.post("/batches", content="\n".join(lines))
        answer.raise_for_status()
        return int(answer.json()["accepted"])

    def look(self, eval_id: str) -> dict[str, Any]:
        """Return how an evaluation stands."""
        answer = self.http.get(f"/evaluations/{eval_id}")
        answer.raise_for_status()
        return dict(answer.json())

    def await_end(self, eval_id: str) -> dict[str, Any]:
        """Return an evaluation that has ended."""

        def ended() -> dict[str, Any] | None:
            now = self.look(eval_id)
            return now if State(now["state"]).is_final else None

        found = wait_for(ended, what=f"the end of {eval_id}")
        assert found is not None
        return found
