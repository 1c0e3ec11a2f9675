"""What an app says of limits, breakers, lanes and quotas, and what it asks of them."""

from __future__ import annotations

import math
import os
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from difflib import get_close_matches
from typing import Final

from cicely.connection import Connection
from cicely.core import breaker as breakers
from cicely.core.flow import QUEUE_PREFIX, TAG_PREFIX, Use
from cicely.core.lanes import LaneWeight
from cicely.core.limits import Limit, parse_rate
from cicely.core.needs import costs_of, key_of, meter_of
from cicely.core.units import Duration, duration_s
from cicely.engines.contract import Grant, Setting, SettingRecord, kind_of, name_of
from cicely.errors import ConfigError, UnknownQueue, UsageError
from cicely.queues import Queues
from cicely.settings import MAX_ID_CHARS, queue_name
from cicely.worker.context import Context, context_or_none

#: A job that waits for a limit asks so often, at most and at least.
ASK_AGAIN_S: Final = 0.25
_ASK_SOON_S: Final = 0.002
#: What a limit may say: every engine can count so far.
_MOST: Final = 1_000_000_000


class Acquired:
    """What `acquire` gave: `spend` says what was really used of it."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    def spend(self, **amounts: float) -> None:
        """Say what was really used, by cost meter; amounts add up."""
        for meter, amount in costs_of(amounts).items():
            self.spent[meter] = self.spent.get(meter, 0.0) + amount


class LimitHandle:
    """A limit by its key, shared by all workers."""

    def __init__(self, connection: Connection, key: str) -> None:
        self._connection = connection
        self.key = key

    def __repr__(self) -> str:
        """Name the limit."""
        return f"<limit {self.key}>"

    @contextmanager
    def acquire(
        self, *, cost: Mapping[str, float] | None = None, timeout: Duration | None = None
    ) -> Iterator[Acquired]:
        """Inside a job: wait until the limit lets one more pass, and hold it for the block.

        `cost` is reserved of its cost meters, and corrected by `spend` on what the block gets. A process
        that dies gives it back. Raises TimeoutError after `timeout`, UsageError outside a job and where
        the job itself holds the only unit.
        """
        context, uses, wait = self._asked(cost, timeout)
        request = os.urandom(8)
        while not (grant := context.link.acquire(request, uses)).given:
            self._refuse_own(context, grant)
            time.sleep(wait.next_s(grant))
            context.heartbeat()
        acquired = Acquired()
        try:
            yield acquired
        finally:
            context.link.release(request, acquired.spent)

    @asynccontextmanager
    async def aacquire(
        self, *, cost: Mapping[str, float] | None = None, timeout: Duration | None = None
    ) -> AsyncIterator[Acquired]:
        """As `acquire`, for coroutines: other jobs go on meanwhile."""
        context, uses, wait = self._asked(cost, timeout)
        request = os.urandom(8)
        import asyncio

        while not (grant := await asyncio.to_thread(context.link.acquire, request, uses)).given:
            await asyncio.to_thread(self._refuse_own, context, grant)
            await asyncio.sleep(wait.next_s(grant))
            context.heartbeat()
        acquired = Acquired()
        try:
            yield acquired
        finally:
            await asyncio.to_thread(context.link.release, request, acquired.spent)

    def _asked(
        self, cost: Mapping[str, float] | None, timeout: Duration | None
    ) -> tuple[Context, list[Use], _Wait]:
        context = context_or_none()
        if context is None:
            raise UsageError(
                f"limit {self.key}: acquire() is for calls inside a job, whose claim gives it back should "
                "its process die; for whole jobs, name the limit with @app.task(limits=...)"
            )
        wait = _Wait(self.key, math.inf if timeout is None else duration_s(timeout, name="timeout"))
        return context, [Use(self.key, costs_of(cost or {}))], wait

    def _refuse_own(self, context: Context, grant: Grant) -> None:
        """Raise UsageError where the job waits for what only its own end gives back."""
        if self.key not in context.keys or grant.retry_in_s is not None:
            return
        limit = self.info().setting
        if isinstance(limit, Limit) and limit.concurrency == 1:
            raise UsageError(
                f"limit {self.key} lets one pass at once, and this job holds it itself from start to end: "
                f'take "{self.key}" out of limits= of {context.task}, or leave acquire() out'
            )

    def info(self) -> SettingRecord:
        """Return the limit, where it stands, and how many hold it now."""
        records = self._connection.call(lambda engine: engine.settings("limit"))
        found = [
            record
            for record in records
            if isinstance(record.setting, Limit) and record.setting.key == self.key
        ]
        return found[0] if found else SettingRecord(Limit(key=self.key))


class _Wait:
    """How long to wait before asking for a limit again."""

    def __init__(self, key: str, timeout_s: float) -> None:
        self._key = key
        self._timeout_s = timeout_s
        self._until = time.monotonic() + timeout_s

    def next_s(self, grant: Grant) -> float:
        """Return a wait, or raise TimeoutError."""
        left_s = self._until - time.monotonic()
        if left_s <= 0:
            raise TimeoutError(f"limit {self._key} did not let this job pass within {self._timeout_s:g} s")
        again_s = ASK_AGAIN_S if grant.retry_in_s is None else max(_ASK_SOON_S, grant.retry_in_s)
        return min(again_s, ASK_AGAIN_S, left_s)


class BreakerHandle:
    """A breaker by its name, shared by all workers."""

    def __init__(
        self, connection: Connection, name: str, *, declared: Callable[[], Mapping[str, breakers.BreakerRule]]
    ) -> None:
        self._connection = connection
        self._declared = declared
        self.name = name

    @property
    def phase(self) -> str:
        """How it stands: closed, open or half-open."""
        record = self._kept().get(self.name)
        return str(breakers.phase(record.gauge, now=record.now) if record else breakers.Phase.CLOSED)

    def trip(self) -> None:
        """Open it, until it is reset. Raises ConfigError for a name that no task has."""
        self._turn("trip")

    def reset(self) -> None:
        """Close it, and forget the failures so far. Raises ConfigError for a name that no task has."""
        self._turn("reset")

    def _turn(self, move: str) -> None:
        kept = self._kept()
        if self.name not in kept:
            # No worker has put it there yet, and it is to be known by its own rule.
            rule = self._rule(kept)
            self._connection.call(lambda engine: engine.configure([rule]))
        self._connection.call(lambda engine: engine.turn(self.name, move))

    def _rule(self, kept: Collection[str]) -> breakers.BreakerRule:
        """Return the breaker as the code declares it, or raise ConfigError."""
        declared = self._declared()
        if self.name in declared:
            return declared[self.name]
        names = sorted({*kept, *declared})
        near = get_close_matches(self.name, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names) or 'none yet'}"
        raise ConfigError(f"there is no breaker {self.name}; {hint}")

    def _kept(self) -> dict[str, SettingRecord]:
        """Return the breakers that the engine knows, by name."""
        records = self._connection.call(lambda engine: engine.settings("breaker"))
        return {name_of(record.setting): record for record in records}


class FlowControl(Queues):
    """The part of an app that says what holds jobs back."""

    _declared_settings: dict[tuple[str, str], Setting]

    def limit(
        self,
        key: str,
        *,
        concurrency: int | None = None,
        rate: str | None = None,
        cost: Mapping[str, str] | None = None,
        backlog: int | None = None,
    ) -> LimitHandle:
        """Declare a limit that all workers share, or name one, and return its handle.

        `concurrency` is how many hold it at once; `rate` how many pass in a time, as "500/m"; `cost`
        the same of other amounts, as {"tokens": "200k/m"}; `backlog` how many of its jobs may
        wait: more are refused with BacklogFull. A worker puts what is declared into the engine when it
        starts, unless it did so before: what was changed there since stays. Raises ConfigError for what
        lets nothing pass.
        """
        limit = limit_of(key, concurrency=concurrency, rate=rate, cost=cost, backlog=backlog)
        if limit != Limit(key=limit.key):
            self._declare(limit)
        return LimitHandle(self._connection, limit.key)

    def breaker(self, name: str) -> BreakerHandle:
        """Return the handle of a breaker, to look at, trip and reset it."""
        return BreakerHandle(self._connection, key_of(name, "breaker"), declared=self._declared_breakers)

    def lane(self, queue: str, lane: str, *, weight: float) -> None:
        """Give a lane more or less of its queue than the usual share of 1."""
        if "/" in queue_name(queue):
            # Engines know a weight by its queue and lane with a "/" between them.
            raise ConfigError(
                f"app.lane({queue!r}, ...): lanes of a queue with '/' in its name have no weights"
            )
        if not isinstance(lane, str) or len(lane) > MAX_ID_CHARS:
            raise ConfigError(f"lane={lane!r}: a text of at most {MAX_ID_CHARS} characters")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0.001 <= weight <= 1000:  # noqa: PLR2004
            raise ConfigError(f"lane {lane}: weight={weight!r}: a number from 0.001 to 1000; 1 is usual")
        self._declare(LaneWeight(queue, lane, float(weight)))

    def cap(
        self, *, queue: str = "", tag: str = "", running: int | None = None, backlog: int | None = None
    ) -> LimitHandle:
        """Bound all jobs of a queue or with a tag: how many run at once, and how many may wait.

        Beyond `running` they wait, and `explain` says so; beyond `backlog` they are refused.
        """
        if bool(queue) == bool(tag) or (running is None and backlog is None):
            raise ConfigError("app.cap(queue=... or tag=..., running=... and backlog=..., or one of the two)")
        key = QUEUE_PREFIX + queue_name(queue) if queue else TAG_PREFIX + key_of(tag, "tag")
        self.registry.capped.add(key)
        return self.limit(key, concurrency=running, backlog=backlog)

    def configure(self, setting: Setting) -> None:
        """Keep a setting in the engine, from now on."""
        self._connection.call(lambda engine: engine.configure([setting]))

    def _declare(self, setting: Setting) -> None:
        self._declared_settings[kind_of(setting), name_of(setting)] = setting

    def declared_settings(self) -> list[Setting]:
        """Return the limits, breakers and weights that the code declares.

        Raises ConfigError where two tasks mean different breakers by one name, and for a weight or cap of a
        queue that is not declared: no job of this app could be in it.
        """
        for (kind, name), setting in self._declared_settings.items():
            if isinstance(setting, LaneWeight):
                self._refuse_undeclared(setting.queue, f"app.lane({setting.queue!r}, {setting.lane!r}, ...)")
            elif kind == "limit" and name.startswith(QUEUE_PREFIX):
                queue = name.removeprefix(QUEUE_PREFIX)
                self._refuse_undeclared(queue, f"app.cap(queue={queue!r}, ...)")
        return [*self._declared_settings.values(), *self._declared_breakers().values()]

    def _refuse_undeclared(self, queue: str, where: str) -> None:
        try:
            self.registry.queue(queue)
        except UnknownQueue as error:
            raise UnknownQueue(f"{where}: {error}") from None

    def _declared_breakers(self) -> dict[str, breakers.BreakerRule]:
        rules: dict[str, breakers.BreakerRule] = {}
        for task in self.registry.tasks.values():
            for rule in (breaker.rule for breaker in task.options.needs.breakers):
                if rules.setdefault(rule.name, rule) != rule:
                    raise ConfigError(
                        f"{task.name} has a Breaker({rule.name!r}) with other failures=, within= or "
                        "cooldown= than another task: keep one in a variable for both, or rename one"
                    )
        return rules


def limit_of(
    key: str,
    *,
    concurrency: int | None = None,
    rate: str | None = None,
    cost: Mapping[str, str] | None = None,
    backlog: int | None = None,
) -> Limit:
    """Return a limit as people write it. Raises ConfigError for what lets nothing pass."""
    if not isinstance(cost, Mapping | None):
        raise ConfigError(f'limit {key}: cost={cost!r}: a dict, as in cost={{"tokens": "200k/m"}}')
    return Limit(
        key=key_of(key, "limit"),
        concurrency=_count(concurrency, f"limit {key}: concurrency"),
        rate=None if rate is None else parse_rate(rate, name=f"limit {key}: rate"),
        costs={
            meter_of(name, f"limit {key}: cost"): parse_rate(text, name=f"limit {key}: cost[{name!r}]")
            for name, text in (cost or {}).items()
        },
        backlog=_count(backlog, f"limit {key}: backlog"),
    )


def _count(value: object, option: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST:
        raise ConfigError(
            f"{option}={value!r}: a whole number from 1 to {_MOST:,}; to stop jobs, pause their queue"
        )
    return value
