"""Kinds of workers: what they offer and accept, and the fleet file that names them.

::

    # fleet.toml
    [workers.high]
    queues = "high"
    processes = "2:4"

    [workers.gpu]
    queues = "training"
    resource = ["gpu=0,1", "memory_gb=64"]
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import click

from cicely.cli.text import safe

FLEET_FILE: Final = "fleet.toml"

#: How a kind's options may be called there beside their names on the command line.
_OTHER_NAMES: Final = {"resources": "resource"}
#: What may be meant by "limits" of a kind.
_LIMITS: Final = (
    ": its own are max-jobs, max-rss and threads; "
    "those that all workers share are set by app.limit(...) or `cicely limits set`"
)
#: May be given several times; once needs no list.
_REPEATED: Final = frozenset({"resource", "accept"})


def take_kind(ctx: click.Context, param: click.Parameter, kind: str) -> None:
    """Let the options of a kind of worker be the defaults of this command."""
    if not kind:
        return
    file, _, kind = kind.rpartition(":")
    path = Path(file or FLEET_FILE)
    options = _kind_of(path, kind)
    # One kind is no other: its options stand there, all of them.
    known = {one.name for one in ctx.command.params if one.name and one.name != "kind"}
    for name in options:
        if name not in known:
            hint = _LIMITS if name == "limits" else _nearest(name, known)
            raise click.UsageError(f"{safe(str(path))}: a worker has no option {safe(name)}{hint}.")
    ctx.default_map = {**(ctx.default_map or {}), **options}


def _kind_of(path: Path, kind: str) -> dict[str, Any]:
    try:
        fleet = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise click.UsageError(
            f"--kind {safe(kind)} needs the fleet file {safe(str(path))}: {error.strerror}."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{safe(str(path))} is no TOML: {safe(str(error))}.") from None
    workers = fleet.get("workers", {})
    if not isinstance(workers, dict) or not isinstance(workers.get(kind), dict):
        known = workers if isinstance(workers, dict) else {}
        raise click.UsageError(
            f"{safe(str(path))} has no [workers.{safe(kind)}]{_nearest(kind, known) or _tables(fleet)}."
        )
    return dict(_option(name, value) for name, value in workers[kind].items())


def _tables(fleet: dict[str, Any]) -> str:
    """Return which kinds a fleet file has; where it has none, which other tables."""
    workers = fleet.get("workers")
    if isinstance(workers, dict) and workers:
        return f"; it has {', '.join(safe(kind) for kind in workers)}"
    others = [f"[{safe(name)}]" for name in fleet if name != "workers"]
    return f"; it has {', '.join(others)}, and kinds are read from [workers.KIND]" if others else ""


def _option(written: str, value: Any) -> tuple[str, Any]:
    """Return an option and its value as the command line takes them: {gpu = "0,1"} as gpu=0,1."""
    name = _OTHER_NAMES.get(written, written).replace("-", "_")
    if name == "resource" and isinstance(value, dict):
        _refuse_a_count(value)
    if isinstance(value, dict):
        value = [f"{key}={_joined(one)}" for key, one in value.items()]
    if name == "queues":
        return name, _joined(value)
    if name in _REPEATED and not isinstance(value, list):
        return name, [str(value)]
    return name, value


def _joined(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _refuse_a_count(resources: dict[str, Any]) -> None:
    """Refuse {gpu = 2}, which may mean two of them or the third."""
    for name, amount in resources.items():
        if _names_a_unit(f"{name}=") and isinstance(amount, int | float):
            raise click.UsageError(
                f'resources = {{{safe(name)} = {amount}}}: name its units, as {safe(name)} = "0,1".'
            )


def offers_of(written: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return the resources of `--resource gpu=0,1`, `memory_gb=64` and `gpu_memory_gb=0:80,1:80`.

    Raises click.UsageError for what is none of these.
    """
    offers: dict[str, dict[str, float]] = {}
    for one in written:
        name, _, amounts = one.partition("=")
        if not name or not amounts or name in offers:
            raise click.UsageError(
                f"--resource {safe(one)!r}: write each once, as memory_gb=64, gpu=0,1 or vram_gb=0:80,1:80."
            )
        offers[name] = _units_of(one, amounts)
    return offers


def _units_of(one: str, amounts: str) -> dict[str, float]:
    parts = [part.strip() for part in amounts.split(",")]
    if len(parts) == 1 and ":" not in parts[0] and not _names_a_unit(one):
        return {"": _amount(one, parts[0])}
    units: dict[str, float] = {}
    for part in parts:
        unit, _, holds = part.partition(":")
        if not unit or unit in units:
            raise click.UsageError(f"--resource {safe(one)!r}: name each unit once.")
        if unit.startswith("-"):
            # A library would read CUDA_VISIBLE_DEVICES=-1 as "none".
            raise click.UsageError(f"--resource {safe(one)!r}: {safe(unit)!r} names no unit.")
        units[unit] = _amount(one, holds) if holds else 1.0
    return units


def _names_a_unit(one: str) -> bool:
    """Return whether a single number is a unit's name: gpu=0 is the first GPU, not none of them."""
    return one.partition("=")[0] == "gpu"


def _amount(one: str, text: str) -> float:
    try:
        amount = float(text)
    except ValueError:
        amount = 0.0
    if not 0 < amount < 1e12:  # noqa: PLR2004
        raise click.UsageError(f"--resource {safe(one)!r}: {safe(text)!r} is no amount above zero.")
    return amount


def accepts_of(written: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the values of each tag in `--accept model=opus`, or raise click.UsageError."""
    accepts: dict[str, tuple[str, ...]] = {}
    for one in written:
        name, _, values = one.partition("=")
        if not name or not values:
            raise click.UsageError(f"--accept {safe(one)!r}: write a tag and its value, as model=opus.")
        accepts[name] = (*accepts.get(name, ()), *values.split(","))
    return accepts


def _nearest(name: str, known: Any) -> str:
    matches = get_close_matches(name, list(known), n=1)
    return f" (did you mean {safe(matches[0])}?)" if matches else ""
