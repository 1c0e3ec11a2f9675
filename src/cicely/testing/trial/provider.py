"""A model provider that is not there: it takes its time, counts tokens, and refuses what goes over its limit.

It counts what was used in the last period, at any instant, as the strictest ones do.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import deque
from collections.abc import Sequence

import msgspec


class Call(msgspec.Struct, frozen=True):
    """One call as the provider saw it, by its own clock."""

    at: float
    tokens: int
    is_refused: bool


class Window:
    """What was used in the last `period_s`, at most `tokens`."""

    def __init__(self, tokens: int, period_s: float) -> None:
        self._tokens = tokens
        self._period_s = period_s
        self._used: deque[tuple[float, int]] = deque()
        self._sum = 0

    def takes(self, tokens: int, now: float) -> float:
        """Count a call and return 0, or return in how many seconds it may come again."""
        while self._used and self._used[0][0] <= now - self._period_s:
            self._sum -= self._used.popleft()[1]
        if self._sum + tokens <= self._tokens:
            self._used.append((now, tokens))
            self._sum += tokens
            return 0.0
        return self._used[0][0] + self._period_s - now if self._used else self._period_s


class Provider:
    """The provider's server, on a loopback port, in a thread of this process."""

    def __init__(self, *, tokens: int, period_s: float, latency_s: float) -> None:
        self.calls: list[Call] = []
        self._window = Window(tokens, period_s)
        self._latency_s = latency_s
        self._end = socket.create_server(("127.0.0.1", 0))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._end.getsockname()[1]
        return port

    def _run(self) -> None:
        self._loop.run_until_complete(asyncio.start_server(self._answer, sock=self._end))
        self._loop.run_forever()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tokens = int(await reader.readline())
        now = time.monotonic()
        again_s = self._window.takes(tokens, now)
        self.calls.append(Call(now, tokens, again_s > 0))
        if not again_s:
            await asyncio.sleep(self._latency_s)
        writer.write(b"%.3f\n" % again_s)
        await writer.drain()
        writer.close()

    def close(self) -> None:
        """Stop listening, and let go of those who still wait for an answer."""
        self._loop.call_soon_threadsafe(self._let_go)

    def _let_go(self) -> None:
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.call_soon(self._loop.stop)


def ask(port: int, tokens: int) -> float:
    """Make a call; return 0, or in how many seconds to come again after a refusal."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as end:
        end.sendall(b"%d\n" % tokens)
        return float(end.makefile("rb").readline())


def used_share(calls: Sequence[Call], *, tokens: int, period_s: float, skip_s: float) -> float:
    """Return the share of the budget that was used, the first and last `skip_s` left out."""
    began, ended = calls[0].at + skip_s, calls[-1].at - skip_s
    used = sum(call.tokens for call in calls if not call.is_refused and began <= call.at < ended)
    return used / (tokens * (ended - began) / period_s)
