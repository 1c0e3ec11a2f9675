"""Memory limits by control groups: the kernel ends an attempt in the instant it passes its limit.

Each isolated attempt with a limit gets a group of its own, named after its claim's token, in a folder
of its worker's. Groups are made only where an operator allows it: in the group that CICELY_CGROUP
names, or in one that was delegated to this worker (systemd's `Delegate=`). A group that merely can
be written to belongs to whoever made it. Elsewhere the supervisor samples (see `ward`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from cicely.errors import ConfigError
from cicely.worker.processes import is_alive, start_time, this_host

log = logging.getLogger("cicely.worker")

VARIABLE: Final = "CICELY_CGROUP"

#: systemd marks what it delegates; both names are in use.
_MARKS: Final = ("user.delegate", "trusted.delegate")
_PREFIX: Final = "cicely"
_TRIAL: Final = "trial"
_TRIAL_BYTES: Final = 1 << 30
#: What is refused may be one huge page: a group is full so far below its limit.
_LARGEST_PAGE_BYTES: Final = 2 << 20


class NoGroups(Exception):
    """No control group can be made; the message says why."""


class MemoryGroups:
    """The control groups of one worker's attempts, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._is_first_version = (folder / "memory.limit_in_bytes").exists()

    @classmethod
    def open(cls, parent: Path) -> MemoryGroups:
        """Make the folder below `parent` and one group for a trial. Raises NoGroups."""
        folder = parent / _own_name()
        try:
            sweep(parent)
            folder.mkdir(exist_ok=True)
            groups = cls(folder)
            groups._pass_memory_on(parent)
            groups._try_out()
        except OSError as error:
            _remove_with_groups(folder)
            raise NoGroups(f"{error.filename or parent}: {error.strerror}") from error
        return groups

    def _pass_memory_on(self, parent: Path) -> None:
        if self._is_first_version:
            return
        for group in (parent, self.folder):
            control = group / "cgroup.subtree_control"
            if "memory" not in control.read_text().split():
                control.write_text("+memory")

    def _try_out(self) -> None:
        """Move a process that does nothing: its user may be allowed to make groups and not to fill them."""
        group = self.create(_TRIAL, _TRIAL_BYTES)
        idle = [sys.executable, "-ISc", "import time; time.sleep(60)"]
        with subprocess.Popen(idle, stdin=subprocess.DEVNULL) as process:
            try:
                _move(process.pid, group)
            finally:
                process.kill()
        self.remove(_TRIAL)

    def close(self) -> None:
        """Remove the folder and every group in it that is empty."""
        _remove_with_groups(self.folder)

    # --- one attempt --------------------------------------------------------------------------
    def create(self, name: str, limit_bytes: int) -> Path:
        """Make a group whose processes hold `limit_bytes` together, swap included. Raises OSError."""
        group = self.folder / name
        group.mkdir()
        try:
            self._limit(group, limit_bytes)
        except OSError:
            self.remove(name)
            raise
        return group

    def _limit(self, group: Path, limit_bytes: int) -> None:
        if self._is_first_version:
            (group / "memory.limit_in_bytes").write_text(str(limit_bytes))
            _write_if_there(group / "memory.memsw.limit_in_bytes", str(limit_bytes))
            return
        (group / "memory.max").write_text(str(limit_bytes))
        _write_if_there(group / "memory.swap.max", "0")
        # All of its processes or none: half a tree is of no use to anybody.
        _write_if_there(group / "memory.oom.group", "1")

    def has(self, name: str) -> bool:
        """Return whether this group limits its attempt."""
        return (self.folder / name).exists()

    def has_overflowed(self, name: str) -> bool:
        """Return whether the kernel ended something in this group for the group's own limit."""
        try:
            counts = self._events(name)
        except FileNotFoundError:
            return False
        # `oom_kill` alone also counts what was ended because the whole machine is out of memory.
        return counts.get("oom", 0) > 0 and counts.get("oom_kill", 0) > 0

    def _events(self, name: str) -> dict[str, int]:
        group = self.folder / name
        if not self._is_first_version:
            return _counts(group / "memory.events")
        return {**_counts(group / "memory.oom_control"), "oom": int(_was_full(group))}

    def remove(self, name: str) -> None:
        """Remove a group once nothing runs in it; before that it stays, for `close` or a `sweep`."""
        _remove(self.folder / name)


def enter(group: Path) -> None:
    """Move this process into `group`. Where that fails the group goes: its attempt is sampled then."""
    try:
        _move(os.getpid(), group)
    except OSError as error:
        log.warning("the memory limit is sampled, for %s cannot be entered: %s", group, error)
        _remove(group)


def memory_groups() -> tuple[MemoryGroups | None, str]:
    """Return the groups for this worker, if there can be any, and how limits are kept, in words.

    Raises ConfigError for a CICELY_CGROUP that cannot hold groups.
    """
    try:
        groups = _opened()
    except NoGroups as why:
        return None, f"sampled, for no control group can be used: {why}"
    return groups, f"kept by control groups in {groups.folder}"


def _opened() -> MemoryGroups:
    named = os.environ.get(VARIABLE, "")
    if named:
        try:
            return MemoryGroups.open(Path(named))
        except NoGroups as why:
            raise ConfigError(
                f"{VARIABLE}={named} cannot hold groups with memory limits: {why}. Name a control group that "
                "this user may write to and in which no process runs, or unset it: limits are sampled then"
            ) from why
    reason = f"none is delegated to this process, and {VARIABLE} names none"
    for parent in own_groups(_read("/proc/self/cgroup"), _read("/proc/self/mountinfo")):
        if not _is_delegated(parent):
            continue
        try:
            return MemoryGroups.open(parent)
        except NoGroups as why:
            reason = str(why)
    raise NoGroups(reason)


def own_groups(cgroup: str, mountinfo: str) -> list[Path]:
    """Return this process's group of the second version, and the one above it, from the kernel's texts.

    A service manager delegates the upper one where it starts the worker in a group below.
    """
    paths = [line.partition("::")[2] for line in cgroup.splitlines() if line.startswith("0::")]
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        if not paths or not after.startswith("cgroup2 "):
            continue
        root, mounted = before.split()[3:5]
        below = os.path.relpath(paths[0], root)
        if below.startswith(".."):
            continue
        group = Path(os.path.normpath(os.path.join(mounted, below)))
        return [group] if below == "." else [group, group.parent]
    return []


def _is_delegated(group: Path) -> bool:
    """Whether a service manager gave this group away, with everything below."""
    return any(_xattr(group, mark) == b"1" for mark in _MARKS)


def _xattr(group: Path, name: str) -> bytes | None:
    try:
        return os.getxattr(group, name)
    except OSError:
        return None


def sweep(parent: Path) -> None:
    """Remove what workers of this host left in `parent` that are dead, as far as nothing runs in it."""
    for folder in parent.glob(f"{_PREFIX}-*-*-*"):
        pid_ns, pid, started = (int(part) if part.isdigit() else 0 for part in folder.name.split("-")[1:4])
        if pid_ns == this_host().pid_ns and pid and not is_alive(pid, started):
            _remove_with_groups(folder)


def _own_name() -> str:
    return f"{_PREFIX}-{this_host().pid_ns}-{os.getpid()}-{start_time(os.getpid()) or 0}"


def _move(pid: int, group: Path) -> None:
    (group / "cgroup.procs").write_text(str(pid))


def _remove_with_groups(folder: Path) -> None:
    with contextlib.suppress(OSError):
        for group in folder.iterdir():
            if group.is_dir():
                _remove(group)
    _remove(folder)


def _remove(group: Path) -> None:
    # The kernel refuses where something still runs.
    with contextlib.suppress(OSError):
        os.rmdir(group)


def _was_full(group: Path) -> bool:
    """Whether a group of the first version, which counts no such event everywhere, met its limit."""
    peak_bytes = int((group / "memory.max_usage_in_bytes").read_text())
    return peak_bytes + _LARGEST_PAGE_BYTES >= int((group / "memory.limit_in_bytes").read_text())


def _counts(file: Path) -> dict[str, int]:
    return {key: int(count) for key, count in map(str.split, file.read_text().splitlines())}


def _write_if_there(file: Path, text: str) -> None:
    if file.exists():
        file.write_text(text)


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
