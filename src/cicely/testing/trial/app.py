"""The app of the trial: calls to a provider, in lanes by user, under one limit for all."""

from __future__ import annotations

import os
import random
import time

from cicely import Cicely, RateLimited, current
from cicely.testing.trial.provider import ask

PORT = int(os.environ.get("CICELY_TRIAL_PORT", "0"))
LIMIT = os.environ.get("CICELY_TRIAL_RATE", "100k/m")

app = Cicely("trial", url=os.environ.get("CICELY_URL") or "memory://")
app.limit("provider", cost={"tokens": LIMIT})


@app.task(
    lane=lambda user, estimate: user,
    limits="provider",
    cost=lambda user, estimate: {"tokens": estimate},
)
def complete(user: str, estimate: int) -> float:
    """Call the provider; what it really takes is up to a tenth less than the estimate, or more."""
    context = current()
    started_at = time.time()
    tokens = round(estimate * random.uniform(0.9, 1.1))  # noqa: S311  (a draw of a trial)
    again_s = ask(PORT, tokens)
    if again_s:
        context.spend(tokens=0)
        raise RateLimited(retry_after=again_s, key="provider")
    context.spend(tokens=tokens)
    return started_at
