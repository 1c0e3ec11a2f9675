"""Which limit or breaker a job may not pass now, and how many may where it is open."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cicely.core import breaker, valves
from cicely.core.breaker import Phase
from cicely.core.job import Job
from cicely.core.limits import NEVER, Limit, Rate, ceiling, meters, opens_at
from cicely.core.patience import is_aged
from cicely.engines.contract import Holder, SettingRecord, Surroundings
from cicely.observe.reasons import Details, Explanation, Reason
from cicely.observe.words import by, limit_name, listed, span


def shut(around: Surroundings) -> Explanation | None:
    """Return the valve that opens last, of those that are shut, or one that another job is to pass first."""
    opening = [(_opens_at(around, record), record) for record in around.valves]
    latest = max((at for at, _ in opening), default=around.now)
    if latest <= around.now:
        return next(filter(None, (_after_another(around, record) for record in around.valves)), None)
    record = next(record for at, record in opening if at == latest)
    if isinstance(record.setting, Limit):
        return _limited(around, record, record.setting)
    return _broken(around, record)


def _opens_at(around: Surroundings, record: SettingRecord) -> float:
    if not isinstance(record.setting, valves.Valve):
        return around.now
    held = _held(around, record)
    cost = _cost(around.job, valves.key_of(record.setting))
    return valves.opens_at(record.setting, record.gauge, cost, now=around.now, held=held)


def room(around: Surroundings) -> float:
    """Return how many such jobs the valves of one that may pass let pass now: at least one."""
    return min((_room_for(around, record) for record in around.valves), default=NEVER)


def _room_for(around: Surroundings, record: SettingRecord) -> float:
    if not isinstance(record.setting, valves.Valve):
        return NEVER
    cost = _cost(around.job, valves.key_of(record.setting))
    held = _held(around, record)
    return valves.room_for(record.setting, record.gauge, cost, now=around.now, held=held)


def _held(around: Surroundings, record: SettingRecord) -> Callable[[float], int]:
    holders = _holders(around, record)

    def count(since: float) -> int:
        # The holders that are not listed are the youngest.
        return record.held - sum(holder.since < since for holder in holders)

    return count


def _holders(around: Surroundings, record: SettingRecord) -> tuple[Holder, ...]:
    if not isinstance(record.setting, valves.Valve):
        return ()
    return around.holders.get(valves.key_of(record.setting), ())


def _cost(job: Job, key: str) -> Mapping[str, float]:
    uses = job.flow.uses if job.flow else ()
    return next((use.cost for use in uses if use.key == key), {})


def _limited(around: Surroundings, record: SettingRecord, limit: Limit) -> Explanation:
    now, gauge = around.now, record.gauge
    most = ceiling(limit, gauge, now=now)
    details: Details = {"key": limit.key, "held": record.held, "concurrency": limit.concurrency}
    details["ahead"] = around.ahead
    if gauge.shut_until > now:
        text = f"{limit_name(limit.key)} was refused: nobody passes for {span(gauge.shut_until - now)}"
        return Explanation(
            Reason.REFUSED, text, {**details, "shut_until": gauge.shut_until}, gauge.shut_until
        )
    if record.held >= most:
        holders = _holders(around, record)
        cut = "" if most == limit.concurrency else "; that is fewer than usual, after refusals"
        text = (
            f"{limit_name(limit.key)} is full: {record.held} of {most:g} are held{by(around, holders)}{cut}"
        )
        return Explanation(
            Reason.LIMIT, text, {**details, "ceiling": most, "holders": [listed(one) for one in holders]}
        )
    return _rated(around, record, limit, details)


def _after_another(around: Surroundings, record: SettingRecord) -> Explanation | None:
    """Return for whom a limit may keep the room that is left; None where it keeps none, or has more."""
    limit, first = record.setting, record.gauge.first
    if not isinstance(limit, Limit) or first is None or first.job in ("", around.job.id):
        return None
    most = ceiling(limit, record.gauge, now=around.now)
    if not is_aged(record.gauge, now=around.now) or (not limit.costs and record.held + 1 < most):
        return None
    text = (
        f"{limit_name(limit.key)} may keep the room that it has for job {first.job}, "
        f"which its limits have held back for {span(around.now - first.since)}: "
        "until that starts, or is held back by something else"
    )
    details: Details = {"key": limit.key, "held": record.held, "for": first.job, "since": first.since}
    return Explanation(Reason.LIMIT, text, details)


def _rated(around: Surroundings, record: SettingRecord, limit: Limit, details: Details) -> Explanation:
    """Return which meter of a limit lets the job pass last."""
    now, cost = around.now, _cost(around.job, limit.key)
    alone = {meter: _only(limit, meter, rate) for meter, rate in meters(limit).items()}
    until = {
        meter: opens_at(one, record.gauge, cost, now=now, held=lambda _: 0) for meter, one in alone.items()
    }
    meter = max(until, key=lambda name: until[name])
    rate = meters(limit)[meter]
    of = f"{rate.text} of {meter}" if meter else rate.text
    wants = f", of which it wants {cost[meter]:g}" if meter in cost else ""
    text = f"{limit_name(limit.key)} lets it pass in {span(until[meter] - now)} ({of}{wants})"
    details |= {"meter": meter, "rate": rate.text, "cost": cost.get(meter)}
    return Explanation(Reason.RATE, text, details, until[meter])


def _only(limit: Limit, meter: str, rate: Rate) -> Limit:
    return Limit(key=limit.key, costs={meter: rate}) if meter else Limit(key=limit.key, rate=rate)


def _broken(around: Surroundings, record: SettingRecord) -> Explanation:
    now, gauge = around.now, record.gauge
    name = valves.key_of(record.setting) if isinstance(record.setting, valves.Valve) else ""
    details: Details = {"key": name, "opened_at": gauge.opened_at}
    words = name.replace(":", " ", 1)
    if breaker.phase(gauge, now=now) is Phase.HALF_OPEN:
        probes = [holder for holder in _holders(around, record) if holder.since >= gauge.shut_until]
        text = f"{words} is half-open, and probed{by(around, probes)}"
        return Explanation(Reason.PROBE, text, {**details, "probe": [listed(one) for one in probes]})
    if gauge.shut_until == NEVER:
        text = f"{words} was tripped by hand {span(now - gauge.opened_at)} ago, until it is reset"
        return Explanation(Reason.BREAKER, text, details)
    text = f"{words} is open for {span(gauge.shut_until - now)} more: then one job probes"
    return Explanation(Reason.BREAKER, text, {**details, "shut_until": gauge.shut_until}, gauge.shut_until)
