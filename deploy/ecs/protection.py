"""Keeps ECS from scaling in the task in which a long job runs: a file for the image of the worker."""

from __future__ import annotations

import json
import os
from urllib.request import Request, urlopen


def protect(minutes: int) -> None:
    """Begin a job that may take so long; the last call in a task counts, so that all say the same.

    Does nothing where there is no ECS. Raises OSError where the agent refuses.
    """
    agent = os.environ.get("ECS_AGENT_URI")
    if not agent:
        return
    wish = json.dumps({"ProtectionEnabled": True, "ExpiresInMinutes": minutes}).encode()
    headers = {"Content-Type": "application/json"}
    request = Request(f"{agent}/task-protection/v1/state", wish, headers, method="PUT")  # noqa: S310  (the agent's)
    with urlopen(request, timeout=10):  # noqa: S310
        pass
