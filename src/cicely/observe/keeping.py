"""Room that workers keep free for jobs that they passed over for long, as a reason why others wait."""

from __future__ import annotations

from collections.abc import Sequence

from cicely.core.resources import PATIENCE_S, Amounts
from cicely.engines.contract import SessionRecord, Surroundings
from cicely.observe.reasons import Details, Explanation, Reason
from cicely.observe.words import listing, span


def kept(around: Surroundings, roomy: Sequence[tuple[SessionRecord, Amounts]]) -> Explanation | None:
    """Return for whom the workers that have room keep it, with what is left of each; None where one does not.

    Of several, the one that has kept it for longest is named.
    """
    keepers = {one.worker: one for one in around.kept}
    if any(record.session.worker not in keepers for record, _ in roomy):
        return None
    record, left = min(roomy, key=lambda one: keepers[one[0].session.worker].since)
    waiter, offers = keepers[record.session.worker], record.session.offers
    flow, wanted = around.job.flow, dict(waiter.wants)
    names = [name for name, _ in (flow.resources if flow else ()) if name in wanted]
    free = {name: sum(left.get(name, {}).values()) for name in names}
    parts = [f"{name}: {free[name]:g} of {sum(offers.get(name, {}).values()):g} free" for name in names]
    text = (
        f"resource {', '.join(parts)}, but kept for job {waiter.job_id}, which wants {listing(waiter.wants)} "
        f"and has waited {span(around.now - waiter.since)} for that"
    )
    details: Details = {
        "worker": record.session.worker,
        "for": waiter.job_id,
        "kept": free,
        "since": waiter.since + PATIENCE_S,
        "passed_over_at": waiter.since,
        "wanted": wanted,
    }
    return Explanation(Reason.KEPT, text, details)
