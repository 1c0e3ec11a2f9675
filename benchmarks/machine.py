"""Where a benchmark ran, and with what: figures mean nothing without it."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

PACKAGES = ("cicely", "apsw", "hiredis", "psycopg", "msgspec", "psutil")
SYNCS = 200


class Machine(msgspec.Struct, frozen=True):
    """A machine, its disk and its software, at the start of a run."""

    cpu: str
    cores: int
    memory_gb: float
    kernel: str
    python: str
    packages: dict[str, str]
    filesystem: str
    fdatasync_us: float
    load: float

    @classmethod
    def here(cls, folder: Path) -> Machine:
        """Describe this one, and the disk below `folder`."""
        return cls(
            cpu=_cpu(),
            cores=len(os.sched_getaffinity(0)),
            memory_gb=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9,
            kernel=platform.release(),
            python=platform.python_version(),
            packages={name: _version(name) for name in PACKAGES},
            filesystem=_filesystem(folder),
            fdatasync_us=_fdatasync_us(folder / "sync"),
            load=os.getloadavg()[0],
        )

    def lines(self) -> list[str]:
        """Return it for people."""
        packages = ", ".join(f"{name} {number}" for name, number in self.packages.items())
        return [
            f"{self.cpu}, {self.cores} cores, {self.memory_gb:.0f} GB, Linux {self.kernel}",
            f"Python {self.python}, {packages}",
            f"{self.filesystem}, fdatasync {self.fdatasync_us:.0f} µs; load at the start {self.load:.1f}",
        ]


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _filesystem(folder: Path) -> str:
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    around = [(len(where), kind) for where, kind in mounts if folder.is_relative_to(where)]
    return max(around)[1]


def _fdatasync_us(path: Path) -> float:
    fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    began_at = time.perf_counter()
    for number in range(SYNCS):
        os.pwrite(fd, bytes(4096), number * 4096)
        os.fdatasync(fd)
    taken_s = time.perf_counter() - began_at
    os.close(fd)
    path.unlink()
    return taken_s / SYNCS * 1e6
