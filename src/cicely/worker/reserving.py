"""What a running job says of its workflow's reservations; its outcome carries it to the engine."""

from __future__ import annotations

import msgspec

from cicely.core.job import Claim
from cicely.core.outcome import Deferred, Failed, Outcome, Stopped, Succeeded, Suspended
from cicely.core.reservations import EVERYTHING
from cicely.errors import UsageError


class Reserving:
    """What one attempt asked for so far: what its workflow is to keep, and what to free."""

    def __init__(self, claim: Claim) -> None:
        self._claim = claim
        self._keeps: frozenset[str] = frozenset()
        self._frees: frozenset[str] = frozenset()

    def reserve(self, names: tuple[str, ...]) -> None:
        """Note what is to be kept; no names: all that the attempt holds. Raises UsageError."""
        claim, held = self._claim, self._claim.units
        if not claim.workflow:
            raise UsageError(
                f"job {claim.job_id} is in no workflow, so that no later job could have what it reserves: "
                "enqueue it in a chain, group, chord or flow"
            )
        missing = [name for name in names if name not in held]
        if missing or not held:
            raise UsageError(
                f"job {claim.job_id} cannot reserve {', '.join(missing) or 'anything'}: it was given "
                f"{', '.join(sorted(held)) or 'no resource'}; reserve what its task names in resources="
            )
        self._keeps |= frozenset(names or held)

    def release(self, names: tuple[str, ...]) -> None:
        """Note what is to be freed; no names: all. What the attempt reserved before is kept no more."""
        self._keeps = self._keeps.difference(names) if names else frozenset()
        self._frees |= frozenset(names or (EVERYTHING,))

    def told_in(self, outcome: Outcome) -> Outcome:
        """Return an outcome with it: only a success keeps something."""
        if self._keeps and isinstance(outcome, Succeeded):
            outcome = msgspec.structs.replace(outcome, keeps=tuple(sorted(self._keeps)))
        if self._frees and isinstance(outcome, Succeeded | Failed | Deferred | Stopped | Suspended):
            outcome = msgspec.structs.replace(outcome, frees=tuple(sorted(self._frees)))
        return outcome
