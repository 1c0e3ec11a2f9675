"""What `worker` and `dev` take on the command line, and the options for a supervisor it makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cicely.cli.fleet import accepts_of, offers_of, take_kind
from cicely.cli.text import safe
from cicely.cli.whereabouts import Whereabouts
from cicely.core.units import duration_s, size_bytes
from cicely.errors import ConfigError

if TYPE_CHECKING:
    from cicely.worker.options import WorkerOptions

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

Groups = tuple[tuple[tuple[str, float], ...], ...]

_LEAST_LEASE_S = 1.0
_HEAVIEST = 1e6
_MOST_PROCESSES = 1000


class Duration(click.ParamType[float]):
    """A duration as 500ms, 90s, 5m or 1h; a bare number is seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds, or fail with a sentence."""
        return _parsed(self, value, ctx=ctx, read=_seconds, param=param)


class Size(click.ParamType[int]):
    """A size as 512M or 2G."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return bytes, or fail with a sentence."""
        return _parsed(self, value, ctx=ctx, read=lambda v, name: size_bytes(v, name=name), param=param)


class Processes(click.ParamType[tuple[int, int]]):
    """A number of processes, or a least and a most: 4, or 2:8."""

    name = "processes"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Return the least and the most, or fail with a sentence."""
        if isinstance(value, tuple):
            return value
        least, colon, most = str(value).partition(":")
        try:
            numbers = int(least), int(most if colon else least)
        except ValueError:
            numbers = 0, 0
        if not 1 <= numbers[0] <= numbers[1] <= _MOST_PROCESSES:
            self.fail(f"{safe(str(value))!r}: write 4, or 2:8 for two to eight, at most 1000", param, ctx)
        return numbers


def _seconds(value: Any, name: str) -> float:
    try:
        return duration_s(float(value), name=name)
    except ValueError:
        return duration_s(value, name=name)


def _parsed(
    kind: click.ParamType[T],
    value: Any,
    *,
    ctx: click.Context | None,
    read: Callable[[Any, str], T],
    param: click.Parameter | None,
) -> T:
    try:
        return read(value, param.opts[0] if param is not None else kind.name)
    except ConfigError as error:
        kind.fail(safe(str(error)), param, ctx)


def working(command: F) -> F:
    """Add a worker's options to a command, which gets them by their own names."""
    for option in reversed(
        (
            click.argument("app", envvar="CICELY_APP"),
            click.option("--url", default="", help="The engine's URL, instead of the app's own."),
            click.option(
                "--queues",
                "-Q",
                default="",
                metavar="LIST",
                help="a,b: all of a before any of b. a=3,b=1: in turn, by weight. "
                "Default: all that the app declares, by their priority.",
            ),
            click.option(
                "--processes",
                "-c",
                default="2",
                show_default=True,
                type=Processes(),
                metavar="N|N:M",
                help="Child processes; 2:8 grows and shrinks with the backlog.",
            ),
            click.option(
                "--threads",
                default=1,
                show_default=True,
                type=click.IntRange(1, 1000),
                help="Plain functions at once in each child.",
            ),
            click.option(
                "--coroutines",
                default=100,
                show_default=True,
                type=click.IntRange(0, 4000),
                help="Coroutine functions at once in each child.",
            ),
            click.option(
                "--max-jobs", default=0, type=click.IntRange(0), help="Replace a child after so many jobs."
            ),
            click.option("--max-rss", type=Size(), help="Replace a child that holds more memory: 512M."),
            click.option(
                "--lease",
                default="30s",
                show_default=True,
                type=Duration(),
                help="How long a silent worker keeps its jobs.",
            ),
            click.option(
                "--grace",
                default="8s",
                show_default=True,
                type=Duration(),
                help="How long running jobs may go on after SIGTERM.",
            ),
            click.option(
                "--resource",
                multiple=True,
                metavar="NAME=...",
                help="What its jobs share: memory_gb=64 (an amount), gpu=0,1 (units), "
                "gpu_memory_gb=0:80,1:80 (units that hold so much). May be repeated.",
            ),
            click.option(
                "--accept",
                multiple=True,
                metavar="TAG=VALUE",
                help="Of jobs with a tag model=..., take only model=opus. May be repeated.",
            ),
            click.option(
                "--kind",
                default="",
                is_eager=True,
                expose_value=False,
                callback=take_kind,
                help="Options from [workers.KIND] in fleet.toml; another file is named as ops.toml:KIND.",
            ),
            click.option("--name", default="", help="What the worker is called. Default: host:pid."),
        )
    ):
        command = option(command)
    return command


def groups_of(written: str) -> Groups:
    """Return the queues of `-Q`: "a,b" in this order, "a=3,b=1" in turn by these weights.

    Raises click.UsageError for a mixture, a queue named twice and a weight that is none.
    """
    if not written.strip():
        return ()
    parts = [part.strip() for part in written.split(",")]
    names = [part.partition("=")[0].strip() for part in parts]
    if not all(names):
        raise click.UsageError(f"-Q {safe(written)!r}: a queue's name is missing.")
    if len(set(names)) < len(names):
        raise click.UsageError(f"-Q {safe(written)!r} names a queue twice.")
    weighed = ["=" in part for part in parts]
    if not any(weighed):
        return tuple(((name, 1.0),) for name in names)
    if not all(weighed):
        raise click.UsageError(
            f"-Q {safe(written)!r} mixes order and weights: write a,b for a strict order, or give "
            "every queue a weight, as in a=3,b=1."
        )
    return (tuple((name, _weight(part)) for name, part in zip(names, parts, strict=True)),)


def _weight(part: str) -> float:
    try:
        weight = float(part.partition("=")[2])
    except ValueError:
        weight = 0.0
    if not 0 < weight < _HEAVIEST:
        raise click.UsageError(f"-Q {safe(part)!r}: a weight is a positive number, as in batch=2.")
    return weight


def flags(given: dict[str, Any]) -> list[str]:
    """Return parsed options as the command line of another `cicely worker`."""
    written = {
        "--url": given["url"],
        "--queues": given["queues"],
        "--processes": "{}:{}".format(*given["processes"]),
        "--threads": given["threads"],
        "--coroutines": given["coroutines"],
        "--max-jobs": given["max_jobs"],
        "--max-rss": given["max_rss"],
        "--lease": given["lease"],
        "--grace": given["grace"],
        "--name": given["name"],
    }
    several = [f"--resource={one}" for one in given["resource"]] + [
        f"--accept={one}" for one in given["accept"]
    ]
    return [f"{flag}={value}" for flag, value in written.items() if value not in ("", None)] + several


def options_for(place: Whereabouts, *, given: dict[str, Any]) -> WorkerOptions:
    """Return the supervisor's options."""
    if given["lease"] < _LEAST_LEASE_S:
        raise click.UsageError("--lease is at least 1s: a worker beats every third of it.")
    groups = groups_of(given["queues"])
    from cicely.worker.options import WorkerOptions

    return WorkerOptions(
        target=place.target,
        url=given["url"],
        groups=groups,
        processes=given["processes"][0],
        most_processes=given["processes"][1],
        offers=offers_of(given["resource"]),
        accepts=accepts_of(given["accept"]),
        threads=given["threads"],
        coroutines=given["coroutines"],
        max_jobs=given["max_jobs"],
        max_rss_bytes=given["max_rss"] or 0,
        lease_s=given["lease"],
        grace_s=given["grace"],
        name=given["name"],
        python_path=place.python_path,
    )
