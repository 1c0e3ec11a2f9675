"""Lets systems take turns: for each run and each measurement, one after the other on the same server."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import psutil

from benchmarks.bench import say
from benchmarks.compare.contestant import Contestant, Failed, NotOffered
from benchmarks.compare.environments import InstallFailed, environment_of
from benchmarks.compare.lines import Sizes, group_of
from benchmarks.compare.measures import MEASURES, ONCE
from benchmarks.compare.results import Field, Showing
from benchmarks.compare.servers import Server, server_of
from benchmarks.compare.statistics import NEVER
from benchmarks.peers.catalogue import Peer
from benchmarks.report import number

#: What a system may do wrong without stopping the others.
_FAILURES: Final = (
    Failed,
    InstallFailed,
    RuntimeError,
    OSError,
    ValueError,
    psutil.Error,
    subprocess.SubprocessError,
)


def contest(
    engine: str, peers: Sequence[Peer], folder: Path, *, sizes: Sizes, runs: int, only: Sequence[str]
) -> Field:
    """Measure all that keep jobs on this engine."""
    own = folder / engine
    own.mkdir()
    with server_of(engine, own) as server:
        say(f"on {server.about}")
        entered = [_entered(peer, server, own) for peer in peers if engine in peer.engines]
        systems = [(system, showing) for system, showing in entered if system is not None]
        try:
            _take_turns(systems, sizes=sizes, runs=runs, only=only)
        except KeyboardInterrupt:
            say("interrupted: what was found so far is shown")
        for system, _ in systems:
            system.close()
        return Field(engine, server.about, server.call, tuple(showing for _, showing in entered))


def _take_turns(
    systems: Sequence[tuple[Contestant, Showing]], *, sizes: Sizes, runs: int, only: Sequence[str]
) -> None:
    for run in range(runs):
        for measure in only:
            if run == 0 or measure not in ONCE:
                say(f"{measure}, {run + 1} of {runs}")
                for system, showing in systems:
                    _measure(measure, system, showing, sizes=sizes)


def _entered(peer: Peer, server: Server, folder: Path) -> tuple[Contestant | None, Showing]:
    showing = Showing(peer.name, peer.settings)
    try:
        environment = environment_of(peer)
    except _FAILURES as error:
        showing.reasons["install"] = _shown(error)
        say(f"  {peer.name}: {_shown(error)}")
        return None, showing
    showing.versions = environment.versions
    return Contestant(peer, environment, server, folder), showing


def _measure(measure: str, system: Contestant, showing: Showing, *, sizes: Sizes) -> None:
    """Add the figures of one turn, or the reason for their absence; who failed once is not asked again."""
    if measure in showing.reasons:
        return
    try:
        found = MEASURES[measure](system, sizes)
    except NotOffered as reason:
        showing.reasons[measure] = str(reason)
        say(f"  {system.name}: not offered, {reason}")
    except _FAILURES as error:
        showing.reasons[measure] = f"failed: {_shown(error)}"
        say(f"  {system.name}: {showing.reasons[measure]}")
    else:
        showing.add(found)
        texts = {line.key: line.text for line in group_of(measure).lines}
        said = (f"{texts[line]} {_said(value)}" for line, value in found.items())
        say(f"  {system.name}: {', '.join(said)}")


def _said(value: float) -> str:
    return "not in time" if value >= NEVER else number(value)


def _shown(error: Exception) -> str:
    lines = str(error).splitlines()
    return (lines[-1] if lines else type(error).__name__)[:160]
