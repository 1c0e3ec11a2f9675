"""This process's lines to the server: lent to one caller at a time, replaced when they break.

A line that broke while it lay idle is replaced without a word: every verb may be repeated. Scripts are
called by their hash, and sent again where the server has forgotten them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import Final

import hiredis

from cicely.engines.redis.faults import NotOnDisk, Refusal, translated
from cicely.engines.redis.line import Line, Reply, Word
from cicely.engines.redis.place import Place, Target
from cicely.engines.redis.scripts import Script, script
from cicely.errors import EngineError, EngineFull, EngineUnavailable

#: What a broken way to the server raises.
FAILURES: Final = (OSError, Refusal, hiredis.HiredisError)

_ATTEMPTS: Final = 4
#: A server that syncs its log each second answers within two.
_SYNC_S: Final = 3.0
#: Far enough in the future, and what any server can hold.
_MARK_S: Final = 3_000_000_000


class Connections:
    """Lines of one process to one place."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.pid = os.getpid()
        self.is_closed = False
        self._target: Target | None = None
        self._idle: list[Line] = []
        self._key = f"{{{place.namespace}}}".encode()
        self._mark = self._key + b":mark"

    # --- calling ------------------------------------------------------------------------------
    def run(self, script: Script, arguments: Sequence[Word], *, waits: bool) -> Reply:
        """Run a script and return its reply; with `waits`, when it is on disk. Raises EngineError."""
        command = (b"EVALSHA", script.sha, 1, self._key, *arguments)
        try:
            return self._run(script, command, waits=waits)
        except FAILURES as error:
            raise self._translated(error) from error

    def ask(self, *command: Word) -> Reply:
        """Send a command and return its reply. Raises EngineError."""
        try:
            return self._attempt(command, waits=False)
        except FAILURES as error:
            raise self._translated(error) from error

    def _run(self, script: Script, command: tuple[Word, ...], *, waits: bool) -> Reply:
        for _ in range(_ATTEMPTS):
            try:
                return self._attempt(command, waits=waits)
            except Refusal as refusal:
                if refusal.code == "NOSCRIPT":
                    self._attempt((b"SCRIPT", b"LOAD", script.text), waits=False)
                elif refusal.code == "MOVED":
                    self._follow(refusal)
                else:
                    raise
        raise ConnectionResetError("the server forgets its scripts, or moves its keys, all the time")

    def _attempt(self, command: tuple[Word, ...], *, waits: bool) -> Reply:
        line = self._idle_line()
        if line is not None:
            # A timeout is not a line that broke while it lay idle: it may be the call itself.
            with contextlib.suppress(ConnectionError):
                return self._on(line, command, waits=waits)
            self._hang_up()
        return self._on(self.dial(), command, waits=waits)

    def _idle_line(self) -> Line | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _on(self, line: Line, command: tuple[Word, ...], *, waits: bool) -> Reply:
        try:
            reply = self._waited(line, command) if waits else line.ask(*command)
        except Refusal:
            self._keep(line)
            raise
        except BaseException:
            line.close()
            raise
        self._keep(line)
        return reply

    def _waited(self, line: Line, command: tuple[Word, ...]) -> Reply:
        """Send a command and return its reply when the server's log with it is on disk.

        WAITAOF waits for the last write of its own line only. A call that is repeated on another line may
        find everything done and write nothing, while the first one's writes are not on disk yet. So each call
        writes its mark: EXPIRE, because a full server refuses most other writes.
        """
        mark, wait = (b"EXPIRE", self._mark, _MARK_S), (b"WAITAOF", 1, 0, int(_SYNC_S * 1000))
        line.send([command, mark, wait])
        replies = [line.read(), line.read(), line.read_late(_SYNC_S)]
        if replies[1] == 0:
            # The namespace is new, or was emptied: there is no mark.
            line.send([(b"SET", self._mark, b""), wait])
            replies[1:] = [line.read(), line.read_late(_SYNC_S)]
        for one in replies:
            if isinstance(one, Refusal):
                raise one
        reply, _, synced = replies
        if synced[0] < 1:
            raise NotOnDisk
        return reply

    def _keep(self, line: Line) -> None:
        if self.is_closed:
            line.close()
        else:
            self._idle.append(line)

    # --- lines --------------------------------------------------------------------------------
    def dial(self) -> Line:
        """Return a new line, which the caller closes. Raises one of FAILURES."""
        if self._target is None:
            self._target = _found(self.place)
        try:
            return Line(self.place, self._target)
        except OSError:
            self._target = None
            raise

    @property
    def target(self) -> Target | None:
        """Which server it is; None until one was found."""
        return self._target

    def dialled(self) -> Line:
        """Return a new line to where the namespace lives. Raises EngineError."""
        if self._target is None:
            # Of a cluster's nodes, only the one with the namespace's slot can tell.
            self.run(script("open"), (b"", b""), waits=False)
        try:
            return self.dial()
        except FAILURES as error:
            raise self._translated(error) from error

    def close(self) -> None:
        """Hang up all lines; those that are lent are closed when they come back."""
        self.is_closed = True
        self._hang_up()

    def _hang_up(self) -> None:
        while (line := self._idle_line()) is not None:
            line.close()

    def _follow(self, refusal: Refusal) -> None:
        """Go where a cluster keeps the namespace's slot; an empty host is the one that answered."""
        host, _, port = str(refusal).rpartition(" ")[2].rpartition(":")
        known = self._target or self.place.targets[0]
        self._hang_up()
        self._target = (host or known[0], int(port))

    def _translated(self, error: Exception) -> EngineError:
        refusal = translated(error, self.place.address)
        if isinstance(refusal, EngineUnavailable) and not isinstance(refusal, EngineFull):
            # After a fail-over the server is another one, which only a new look can find.
            self._target = None
            self._hang_up()
        return refusal


def _found(place: Place) -> Target:
    """Return the server of a place; a service is looked up at its sentinels."""
    if not place.service:
        return place.targets[0]
    failure: Exception | None = None
    for target in place.targets:
        try:
            found = _told_by_sentinel(place, target)
        except FAILURES as error:
            failure = error
            continue
        if found is not None:
            return found
    raise failure or ConnectionRefusedError(f"no sentinel knows a service {place.service!r}")


def _told_by_sentinel(place: Place, target: Target) -> Target | None:
    line = Line(place.sentinel(), target)
    try:
        found = line.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", place.service)
    finally:
        line.close()
    return (found[0].decode(), int(found[1])) if found else None
