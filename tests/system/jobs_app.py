"""The jobs of the system tests. Each writes its start and end into the ledger outside Cicely."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cicely
from cicely import Cicely, Retry, chord
from cicely.testing.ledger import Ledger

_JOBS: list[tuple[Callable[..., Any], dict[str, Any]]] = []
_PAGE = 4096


def job(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def note(function: Callable[..., Any]) -> Callable[..., Any]:
        _JOBS.append((function, options))
        return function

    return note


def build(url: str) -> SimpleNamespace:
    """Return the app on this engine as `app`, and each of its tasks under its function's name."""
    app = Cicely("jobs", url)
    app.queue("other", priority=1)
    tasks = {function.__name__: app.task(**options)(function) for function, options in _JOBS}
    return SimpleNamespace(app=app, **tasks)


@contextlib.contextmanager
def noted() -> Iterator[cicely.Context]:
    context = cicely.current()
    with Ledger(os.environ["CICELY_LEDGER"]).attempt(context.job_id, context.fence):
        yield context


def hold_the_gil(seconds: float) -> None:
    """Block every thread of this process, as a long call in C does."""
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))


def say(path: str, text: str) -> None:
    """Append to a file, in one write."""
    with Path(path).open("a") as file:
        file.write(text + "\n")


# --- well-behaved ones ------------------------------------------------------------------------
@job()
def bare() -> None:
    """Do nothing, and leave no trace of it."""


@job()
def nothing() -> None:
    with noted():
        pass


@job()
def quick(seconds: float = 0.001) -> float:
    with noted():
        time.sleep(seconds)
        return time.time()


@job()
def naps(seconds: float) -> int:
    with noted():
        time.sleep(seconds)
        return os.getpid()


@job()
async def naps_async(seconds: float) -> int:
    with noted():
        await asyncio.sleep(seconds)
        return os.getpid()


@job()
async def naps_async_at_first(seconds: float) -> int:
    """Sleep in the first attempt only."""
    with noted() as context:
        await asyncio.sleep(seconds if context.fence == 1 else 0)
        return os.getpid()


@job()
def naps_in_steps(seconds: float) -> int:
    """Sleep in short steps, so that an exception can land."""
    with noted():
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.01)
        return os.getpid()


@job()
def computes(seconds: float) -> int:
    with noted():
        until = time.monotonic() + seconds
        total = 0
        while time.monotonic() < until:
            total += sum(range(1000))
        return total


@job()
def holds_gil(seconds: float) -> int:
    with noted():
        hold_the_gil(seconds)
        return os.getpid()


@job()
def says_its_pid(path: str, seconds: float) -> int:
    with noted():
        say(path, str(os.getpid()))
        time.sleep(seconds)
        return os.getpid()


@job()
def tells_its_token(path: str, seconds: float) -> None:
    """Write down its claim's token, which user code has no business to know."""
    with noted() as context:
        say(path, context._claim.token.hex())
        time.sleep(seconds)


@job(retry=Retry(attempts=3, backoff=0.1))
def fails_once() -> int:
    with noted() as context:
        if context.attempt == 1:
            raise ConnectionError("the first attempt fails")
        return context.attempt


@job(retry=Retry(attempts=3, backoff=0.05))
def goes_on_from_its_checkpoint(path: str) -> list[int]:
    """Step 1, checkpoint, die; the next attempt begins with step 2."""
    with noted() as context:
        done = list(context.restored or [])
        if not done:
            context.checkpoint([1])
            say(path, str(os.getpid()))
            time.sleep(30)
        return [*done, 2]


@job()
def stops_when_asked(path: str) -> list[int]:
    """Work until the worker stops, keep what was done, and end the next time."""
    with noted() as context:
        if context.restored:
            return [*context.restored, 2]
        say(path, str(os.getpid()))
        try:
            while True:
                time.sleep(0.01)
        except cicely.Cancelled:
            context.checkpoint([1])
            raise
    raise AssertionError


# --- limits -----------------------------------------------------------------------------------
@job(timeout=1.0)
def overruns(seconds: float) -> None:
    with noted():
        time.sleep(seconds)


@job(timeout=1.0)
def overruns_in_c(seconds: float) -> None:
    with noted():
        hold_the_gil(seconds)


@job(timeout=1.0)
async def overruns_async(seconds: float) -> None:
    with noted():
        await asyncio.sleep(seconds)


@job(soft_timeout=0.5)
def cleans_up_in_time(seconds: float) -> str:
    with noted():
        try:
            naps_until = time.monotonic() + seconds
            while time.monotonic() < naps_until:
                time.sleep(0.01)
        except cicely.SoftTimeout:
            return "cleaned up"
        return "was not told"


@job(stall_timeout=1.0)
def stalls_after(beats: int) -> None:
    with noted() as context:
        for _ in range(beats):
            time.sleep(0.3)
            context.heartbeat()
        time.sleep(30)


@job(stall_timeout=1.0)
def shows_progress(beats: int) -> int:
    with noted() as context:
        for beat in range(beats):
            time.sleep(0.3)
            context.progress(beat, beats)
        return beats


# --- in a process of their own ----------------------------------------------------------------
@job(isolate=True)
def alone(seconds: float = 0.0) -> int:
    with noted():
        time.sleep(seconds)
        return os.getpid()


@job(isolate=True, timeout=1.0)
def loops_alone() -> None:
    with noted():
        while True:
            pass


@job(isolate=True)
def exits_alone(code: int) -> None:
    with noted():
        os._exit(code)


@job(isolate=True)
def segfaults_alone() -> None:
    with noted():
        ctypes.string_at(0)


@job(isolate=True, memory="256M", timeout=60)
def hogs(total_bytes: int) -> None:
    """Touch memory as fast as the machine can: huge pages, one byte in each small one."""
    with noted():
        taken = []
        for _ in range(total_bytes // (64 << 20)):
            block = mmap.mmap(-1, 64 << 20)
            block.madvise(mmap.MADV_HUGEPAGE)
            ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(block)), 1, len(block))
            taken.append(block)
        time.sleep(30)


@job(isolate=True, memory="256M", timeout=60)
def hogs_in_a_helper(total_bytes: int) -> None:
    """Have another program take the memory, and fail when that one is gone."""
    with noted():
        subprocess.run([sys.executable, "-c", f"bytearray({total_bytes})"], check=True)


@job(isolate=True, memory="256M")
def reserves_much() -> int:
    """Ask for 8 GiB, and touch 8 MiB of it."""
    with noted():
        import numpy as np

        large = np.empty(8 << 30, dtype=np.uint8)
        large[: 8 << 20] = 1
        time.sleep(0.3)
        return int(large[: 8 << 20].sum(dtype=np.int64))


@job(isolate=True, timeout=2.0)
def bombs(path: str) -> None:
    """Fork in every process, as far as 60 of them, and stay."""
    with noted():
        for _ in range(5):
            os.fork()
        say(path, str(os.getpid()))
        time.sleep(60)


# --- ill-behaved ones -------------------------------------------------------------------------
@job()
def kills_its_process() -> None:
    with noted():
        os.kill(os.getpid(), signal.SIGKILL)


@job()
async def exits_async(seconds: float) -> None:
    with noted():
        await asyncio.sleep(seconds)
        os._exit(3)


@job()
def leaves_daemons(path: str, seconds: float) -> None:
    """Fork twice, each time into a session of its own, and go on working."""
    with noted():
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.setsid()
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                say(path, str(os.getpid()))
                time.sleep(600)
            os._exit(0)
        say(path, str(os.getpid()))
        time.sleep(seconds)


@job()
def leaves_daemons_and_holds_gil(path: str, seconds: float) -> None:
    with noted():
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.setsid()
                say(path, str(os.getpid()))
                time.sleep(600)
            os._exit(0)
        say(path, str(os.getpid()))
        hold_the_gil(seconds)


# --- workflows --------------------------------------------------------------------------------
@job(name="jobs.plus")
def plus(a: int, b: int = 1) -> int:
    with noted():
        return a + b


@job(name="jobs.plus_apart", isolate=True)
def plus_apart(a: int, b: int = 1) -> int:
    with noted():
        return a + b


@job(name="jobs.total")
def total(numbers: list[int]) -> int:
    with noted():
        return sum(numbers)


def _walk(path: str) -> list[Any]:
    with noted() as context:
        first = context.step("first", lambda: say(path, "first") or 1)
        context.sleep(0.3)
        told = context.wait_for("go")
        called = context.call(context_app().signature("jobs.plus", (first,)))
        context.step("last", say, path, "last")
        return [first, told, called]


@job(name="jobs.walks")
def walks(path: str) -> list[Any]:
    return _walk(path)


@job(name="jobs.walks_apart", isolate=True)
def walks_apart(path: str) -> list[Any]:
    return _walk(path)


@job(name="jobs.walks_async")
async def walks_async(path: str) -> list[Any]:
    with noted() as context:

        async def first() -> int:
            say(path, "first")
            return 1

        one = await context.step("first", first)
        context.sleep(0.3)
        told = context.wait_for("go")
        called = context.call(context_app().signature("jobs.plus", (one,)))
        context.step("last", say, path, "last")
        return [one, told, called]


@job(name="jobs.becomes")
def becomes(n: int) -> object:
    with noted():
        plus_one = context_app().signature("jobs.plus")
        return chord(
            [plus_one.clone((number,)) for number in range(n)], context_app().signature("jobs.total")
        )


@job(name="jobs.becomes_apart", isolate=True)
def becomes_apart(n: int) -> object:
    with noted():
        plus_one = context_app().signature("jobs.plus")
        return chord(
            [plus_one.clone((number,)) for number in range(n)], context_app().signature("jobs.total")
        )


def context_app() -> Cicely:
    """Return the app of the worker that runs this."""
    found: Cicely = sys.modules["jobs_app"].app
    return found


app = build(os.environ.get("CICELY_URL", "memory://")).app
