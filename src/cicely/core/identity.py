"""Who a job is: ids made by chance and time, or from what the job is asked to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

from cicely.core.canonical import NO_TYPES, canonical
from cicely.core.values.own import OwnTypes
from cicely.errors import ConfigError

RANDOM_BYTES: Final = 10

_ID_BYTES: Final = 16
_TIME_BYTES: Final = _ID_BYTES - RANDOM_BYTES
_PERSON: Final = b"cicely stable id"


@dataclass(frozen=True, slots=True)
class Stable:
    """Asks for an id that follows from task, arguments and this version; made by `stable`."""

    version: str


def stable(version: str) -> Stable:
    """Return what `id=` takes for an id that is the same in every process and release.

    Change the version to run the same arguments anew.
    """
    if not isinstance(version, str) or not version:
        raise ConfigError(f'stable({version!r}): the version is a text that is not empty, such as "v1"')
    return Stable(version)


def stable_id(
    task: str, args: Sequence[Any], kwargs: Mapping[str, Any], version: str, *, own: OwnTypes = NO_TYPES
) -> str:
    """Return 32 hex characters that follow from the task's name, its arguments and the version.

    Positional and named arguments are told apart; bind them to the signature first where ``f(1)`` and
    ``f(x=1)`` shall be one job. Raises NotStorable as `canonical` does.
    """
    request = canonical([task, list(args), dict(kwargs), version], own=own, where=f"stable id of {task}")
    return blake2b(request, digest_size=_ID_BYTES, person=_PERSON).hexdigest()


def new_id(now_ms: int, random: bytes) -> str:
    """Return 32 hex characters that sort by `now_ms`; `random` is 10 bytes of chance."""
    if len(random) != RANDOM_BYTES:
        raise ValueError(f"an id needs {RANDOM_BYTES} random bytes, not {len(random)}")
    return now_ms.to_bytes(_TIME_BYTES, "big").hex() + random.hex()
