"""What holds a job back, as people write it beside a task or a call: lanes, limits, resources, breakers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from cicely.core.breaker import BreakerRule
from cicely.core.flow import BREAKER_PREFIX, Flow, Use
from cicely.core.text import storable
from cicely.core.units import Duration, duration_s
from cicely.errors import ConfigError

Key = str | Callable[..., str | None]
Cost = Mapping[str, float] | Callable[..., Mapping[str, float]]
Errors = type[BaseException] | tuple[type[BaseException], ...]

MAX_KEY_CHARS: Final = 200
#: Under which options people write them.
_OPTIONS: Final = {"limits": "limits", "cost": "cost", "resources": "resources", "breakers": "breaker"}
_METER: Final = '{"tokens": ...}'


class Breaker(msgspec.Struct, frozen=True):
    """Holds the jobs of tasks that name it back while what they need is out of order.

    After `failures` within `within` it opens: nothing is started, and nothing fails. After `cooldown` one
    job is let through; its success closes the breaker. `on` says which errors count. All
    workers share it by its name.
    """

    name: str
    failures: int = 5
    within: Duration = 60
    cooldown: Duration = 60
    on: Errors = Exception

    def __post_init__(self) -> None:
        """Refuse what is out of range with a ConfigError."""
        key_of(self.name, "Breaker")
        if isinstance(self.failures, bool) or not isinstance(self.failures, int) or self.failures < 1:
            raise ConfigError(f"Breaker(failures={self.failures!r}): a whole number from 1")
        on = self.on if isinstance(self.on, tuple) else (self.on,)
        if not on or not all(isinstance(one, type) and issubclass(one, BaseException) for one in on):
            raise ConfigError(f"Breaker(on={self.on!r}): an exception class, or a tuple of them")
        for option in ("within", "cooldown"):
            if duration_s(getattr(self, option), name=option) <= 0:
                raise ConfigError(f"Breaker({option}={getattr(self, option)!r}): a time above zero")

    @property
    def rule(self) -> BreakerRule:
        """It as engines keep it."""
        return BreakerRule(
            self.name,
            failures=self.failures,
            within_s=duration_s(self.within, name="within"),
            cooldown_s=duration_s(self.cooldown, name="cooldown"),
        )


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """What a task or a call asks for, after parsing; functions are of the job's arguments.

    `given` are the names of those that were written, so that a call can have none of what its task has.
    """

    limits: tuple[Key, ...] = ()
    cost: Cost = {}
    resources: tuple[tuple[str, float], ...] = ()
    breakers: tuple[Breaker, ...] = ()
    given: tuple[str, ...] = ()

    def over(self, task: Needs) -> Needs:
        """Return these needs where they are given, else the task's."""
        return msgspec.structs.replace(task, **{name: getattr(self, name) for name in self.given})

    def flow(
        self,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        traits: tuple[str, ...],
        keys: tuple[str, ...],
    ) -> Flow | None:
        """Return what holds back a job with these arguments, and with `keys` beside its own, or None."""
        if not (self.limits or self.resources or self.breakers or traits or keys):
            return None
        named = {*keys, *(_answered(key, args, kwargs) for key in self.limits)} - {""}
        cost = costs_of(self.cost(*args, **kwargs)) if callable(self.cost) else self.cost
        return Flow(
            uses=tuple(Use(key, cost) for key in sorted(named)),
            breakers=tuple(sorted({breaker.name for breaker in self.breakers})),
            resources=self.resources,
            traits=traits,
        )


def needs_of(given: Mapping[str, Any]) -> Needs:
    """Parse `limits`, `cost`, `resources` and `breaker`. Raises ConfigError."""
    cost = given.get("cost") or {}
    return Needs(
        limits=tuple(
            key if callable(key) else key_of(key, "limits") for key in _several(given.get("limits"), "limits")
        ),
        cost=cost if callable(cost) else costs_of(cost),
        resources=_resources_of(given.get("resources") or {}),
        breakers=tuple(_breaker(one) for one in _several(given.get("breaker"), "breaker")),
        given=tuple(name for name, option in _OPTIONS.items() if given.get(option) is not None),
    )


def key_of(value: object, option: str) -> str:
    """Return the key of a limit, or raise ConfigError."""
    if not isinstance(value, str) or not value or len(value) > MAX_KEY_CHARS or not value.isprintable():
        raise ConfigError(f"{option}={value!r}: a printable text of 1 to {MAX_KEY_CHARS} characters")
    if value.startswith(BREAKER_PREFIX):
        raise ConfigError(
            f"{option}={value!r}: {BREAKER_PREFIX!r} begins the keys of breakers; choose another"
        )
    return value


def costs_of(given: object) -> dict[str, float]:
    """Return an estimate or a spending by cost meter, or raise ConfigError."""
    if not isinstance(given, Mapping):
        raise ConfigError(f'cost={given!r}: a dict, as in cost={{"tokens": 1200}}')
    return {meter_of(name, "cost"): amount_of(amount, f"cost[{name!r}]") for name, amount in given.items()}


def meter_of(value: object, option: str) -> str:
    """Return the name of a cost meter, or raise ConfigError."""
    if not isinstance(value, str) or not value or len(value) > MAX_KEY_CHARS or not value.isprintable():
        raise ConfigError(f"{option}={{{value!r}: ...}}: a meter's name is a printable text, as in {_METER}")
    return value


def amount_of(value: object, option: str) -> float:
    """Return an amount that is not negative, or raise ConfigError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ConfigError(f"{option}={value!r}: a number from 0")
    return float(value)


def _resources_of(given: object) -> tuple[tuple[str, float], ...]:
    if not isinstance(given, Mapping):
        raise ConfigError(f'resources={given!r}: a dict, as in resources={{"gpu": 1, "memory_gb": 16}}')
    amounts = {key_of(name, "resources"): amount_of(n, f"resources[{name!r}]") for name, n in given.items()}
    return tuple(sorted((name, amount) for name, amount in amounts.items() if amount))


def _several(given: object, option: str) -> Iterable[Any]:
    if given is None:
        return ()
    if isinstance(given, str | Breaker) or callable(given):
        return (given,)
    if not isinstance(given, Iterable) or isinstance(given, Mapping):
        raise ConfigError(f"{option}={given!r}: one, or a list of them")
    return given


def _breaker(given: object) -> Breaker:
    if isinstance(given, Breaker):
        return given
    raise ConfigError(f'breaker={given!r}: write Breaker("executor", failures=5, within=60, cooldown=60)')


def _answered(key: Key, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    if not callable(key):
        return key
    answer = key(*args, **kwargs)
    return "" if answer is None else key_of(storable(answer) if isinstance(answer, str) else answer, "limits")
