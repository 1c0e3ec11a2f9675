"""Keeping a worker up while its code changes: start it, watch the files, stop it, start it again."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from typing import Final, Self

from cicely.cli.screen import note
from cicely.cli.sources import Sources
from cicely.cli.text import counted

_LOOK_S: Final = 0.4
#: Running jobs get so long after a change; a second signal then hands them back.
_PATIENCE_S: Final = 1.0
_MOST_PATIENCE_S: Final = 20.0


class Front:
    """Where the worker's lines and ours go: here, straight to the terminal or pipe."""

    #: What the worker gets as its stdout and stderr.
    worker_output: int | None = None

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """End."""

    def say(self, line: str) -> None:
        """Show a line of ours."""
        note(line)

    def hear(self, line: str) -> None:
        """Show a line of the worker's; only where `worker_output` is a pipe."""

    def connect(self, url: str) -> None:
        """Learn where the worker's engine is."""

    def draw(self) -> None:
        """Show what is new."""


class Reload:
    """The worker process and what becomes of it."""

    def __init__(self, command: Sequence[str], sources: Sources, *, front: Front) -> None:
        self._command = command
        self._sources = sources
        self._front = front
        self._process: subprocess.Popen[bytes] | None = None
        self._url_end = -1
        self._rest = b""
        self._signals = 0

    def run(self) -> int:
        """Work until told to stop; return the exit code."""
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, self._on_signal)
        self._start()
        try:
            while not self._signals:
                self._turn()
        finally:
            code = self._stop(by_change=False)
        return 0 if code in (0, -signal.SIGTERM) else 1

    def _on_signal(self, *_: object) -> None:
        self._signals += 1
        if self._process is not None:
            self._process.terminate()

    def _start(self) -> None:
        self._url_end, told = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._url_end, False)
        try:
            self._process = subprocess.Popen(
                [*self._command, "--tell-url", str(told)],
                stdin=subprocess.DEVNULL,
                stdout=self._front.worker_output,
                stderr=subprocess.STDOUT if self._front.worker_output else None,
                pass_fds=(told,),
                # Ctrl-C reaches this process alone, which passes it on once.
                start_new_session=True,
            )
        finally:
            os.close(told)
        if self._process.stdout is not None:
            os.set_blocking(self._process.stdout.fileno(), False)

    def _turn(self) -> None:
        self._hear(_LOOK_S)
        if self._signals:
            return
        changed = self._sources.changed()
        if changed:
            self._front.say(_after_a_change(changed))
            self._stop(by_change=True)
            if not self._signals:
                self._start()
        elif self._process is not None and self._process.poll() is not None:
            code = self._forget()
            self._front.say(f"the worker ended with exit code {code}; it starts again when a file changes")
        self._front.draw()

    def _hear(self, wait_s: float) -> None:
        process = self._process
        output = process.stdout if process is not None else None
        readers = [self._url_end] if self._url_end >= 0 else []
        if output is not None:
            readers.append(output.fileno())
        try:
            ready, _, _ = select.select(readers, [], [], wait_s)
        except InterruptedError:
            return
        if self._url_end in ready:
            self._learn_url()
        if output is not None and output.fileno() in ready:
            self._pass_on(os.read(output.fileno(), 1 << 16))
            # A worker that closed its end is readable for ever: do not spin until it is buried.
            time.sleep(0.02)

    def _learn_url(self) -> None:
        url = os.read(self._url_end, 1 << 14).decode()
        os.close(self._url_end)
        self._url_end = -1
        if url:
            self._front.connect(url)

    def _pass_on(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._front.hear(line.decode("utf-8", "replace"))

    def _stop(self, *, by_change: bool) -> int:
        process = self._process
        if process is None:
            return 0
        if by_change:
            process.terminate()
        began_at = time.monotonic()
        was_hurried = not by_change
        while process.poll() is None:
            self._hear(0.05)
            ran_s = time.monotonic() - began_at
            if ran_s > _PATIENCE_S and not was_hurried:
                was_hurried = True
                process.terminate()
            if by_change and ran_s > _MOST_PATIENCE_S:
                process.kill()
        return self._forget()

    def _forget(self) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        if process.stdout is not None:
            self._pass_on(process.stdout.read() or b"")
            process.stdout.close()
        if self._url_end >= 0:
            os.close(self._url_end)
            self._url_end = -1
        return process.wait()


def _after_a_change(paths: Sequence[str]) -> str:
    rest = f" and {counted(len(paths) - 1, 'other')}" if len(paths) > 1 else ""
    return f"{paths[0]}{rest} changed: restarting"
