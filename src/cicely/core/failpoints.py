"""Named places where a test may stop a process dead, or note that it passed by.

`CICELY_FAILPOINT="name:n"` kills the process at the n-th passing of `name`; with
`CICELY_FAILPOINTS_LOG=path` each passing appends its name to that file, so that a test can first
list the places and then die at each of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Final

_SIGKILL: Final = 9

Hook = Callable[[str], None]


def failpoint(name: str) -> None:
    """Pass the place called `name`; does nothing unless a hook is installed."""
    if _hook is not None:
        _hook(name)


def install(hook: Hook | None) -> None:
    """Call `hook` with the name of every place that is passed from now on (None: no more)."""
    global _hook  # noqa: PLW0603  (one process, one hook)
    _hook = hook


class Fuse:
    """A hook that kills this process at the n-th passing of one place."""

    def __init__(self, name: str, passings: int) -> None:
        self._name = name
        self._left = passings

    def __call__(self, name: str) -> None:
        """Count a passing; the last one kills."""
        if name != self._name:
            return
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), _SIGKILL)


class Trail:
    """A hook that appends each name to a file."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __call__(self, name: str) -> None:
        """Note a passing."""
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, name.encode() + b"\n")
        finally:
            os.close(file)


def _asked_for(environment: Mapping[str, str]) -> Hook | None:
    """Return the hook that the environment names, if any."""
    fuse = environment.get("CICELY_FAILPOINT", "")
    trail = environment.get("CICELY_FAILPOINTS_LOG", "")
    if fuse:
        name, _, passings = fuse.partition(":")
        return Fuse(name, int(passings or 1))
    return Trail(trail) if trail else None


_hook: Hook | None = _asked_for(os.environ)
