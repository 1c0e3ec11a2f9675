"""The peers' environments: one each, so that none can break another; made when they are first asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.bench import say
from benchmarks.peers.catalogue import OURS, Peer

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = ROOT / ".venv-peers"
CONSTRAINTS: Final = ROOT / "benchmarks" / "peers" / "constraints.txt"
INSTALL_S: Final = 600.0
_VERSIONS: Final = "import importlib.metadata as m, sys; print(*(m.version(name) for name in sys.argv[1:]))"


class InstallFailed(RuntimeError):
    """A peer's environment could not be made; says what pip said last."""


class Environment(msgspec.Struct, frozen=True):
    """Where a system's programs are, and what is installed there."""

    programs: Path
    versions: dict[str, str]

    @property
    def python(self) -> str:
        """The interpreter."""
        return str(self.programs / "python")


def environment_of(peer: Peer) -> Environment:
    """Return a system's environment, made if it is not there or its packages or pins changed."""
    if peer.name == OURS:
        programs = Path(sys.executable).parent
        return Environment(programs, _versions(programs, ("cicely",)))
    folder = FOLDER / peer.module
    stamp = folder / "installed.json"
    wanted = json.dumps([peer.packages, CONSTRAINTS.read_text()])
    if not stamp.exists() or stamp.read_text() != wanted:
        _make(folder, peer.packages)
        stamp.write_text(wanted)
    return Environment(folder / "bin", _versions(folder / "bin", peer.packages))


def tool(name: str) -> str:
    """Return the program of a package of that name, installed beside the peers if it is not there."""
    folder = FOLDER / "tools"
    program = folder / "bin" / name
    if not program.exists():
        _make(folder, (name,))
    return str(program)


def _make(folder: Path, packages: Sequence[str]) -> None:
    say(f"installing {' '.join(packages)} into {folder.relative_to(ROOT)}")
    FOLDER.mkdir(exist_ok=True)
    # It is nobody's business but that of this command.
    (FOLDER / ".gitignore").write_text("*\n")
    _run([sys.executable, "-m", "venv", str(folder)])
    install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "-c", str(CONSTRAINTS)]
    _run([*install, *packages])


def _run(words: list[str]) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=INSTALL_S)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line and "WARNING" not in line]
        raise InstallFailed(said[-1] if said else f"{words[0]} ended with {done.returncode}")


def _versions(programs: Path, packages: tuple[str, ...]) -> dict[str, str]:
    names = [package.partition("[")[0] for package in packages]
    done = subprocess.run(
        [str(programs / "python"), "-c", _VERSIONS, *names], capture_output=True, text=True, check=True
    )
    return dict(zip(names, done.stdout.split(), strict=True))
