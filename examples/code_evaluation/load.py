"""Callers of the gateways: so many evaluations per second; what is not accepted is sent again."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from urllib.parse import urlsplit

_CALLERS = 32
_AGAIN_S = 0.1
_ANSWER_S = 15.0

Code = Callable[[int], str]


def plain(number: int) -> str:
    """Return a program that says which it is."""
    return f"print({number})"


class Load:
    """`with Load(urls, ...) as load:` sends at a steady rate until the block is left and all is acknowledged.

    Each evaluation is sent to one gateway, and after a failure to the next, until one says that it is
    accepted: its id makes that harmless. `acknowledged` maps ids to the side that was named, if any.
    """

    def __init__(self, urls: Sequence[str], *, run: str, rate: float, code: Code = plain) -> None:
        self.acknowledged: dict[str, str] = {}
        self.sent = 0
        self.retries = 0
        self.rate = rate
        self._addresses = [urlsplit(url).netloc for url in urls]
        self._run = run
        self._code = code
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._send_all()))

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()

    async def _send_all(self) -> None:
        waiting: asyncio.Queue[int | None] = asyncio.Queue()
        callers = [asyncio.create_task(self._call(waiting, number)) for number in range(_CALLERS)]
        due_at = time.monotonic()
        while not self._is_over.is_set():
            while due_at <= time.monotonic():
                waiting.put_nowait(self.sent)
                self.sent += 1
                due_at += 1 / self.rate
            await asyncio.sleep(max(0.0, due_at - time.monotonic()))
        for _ in callers:
            waiting.put_nowait(None)
        await asyncio.gather(*callers)

    async def _call(self, waiting: asyncio.Queue[int | None], caller: int) -> None:
        connection = Connection()
        while (number := await waiting.get()) is not None:
            eval_id = f"{self._run}-{number}"
            body = json.dumps({"eval_id": eval_id, "code": self._code(number)}).encode()
            attempt = 0
            while eval_id not in self.acknowledged:
                address = self._addresses[(caller + attempt) % len(self._addresses)]
                side = await connection.post(address, "/evaluations", body)
                if side is not None:
                    self.acknowledged[eval_id] = side
                else:
                    attempt += 1
                    self.retries += 1
                    await asyncio.sleep(_AGAIN_S)
        connection.close()


class Connection:
    """A connection that is kept: a caller that costs little beside what it calls."""

    def __init__(self) -> None:
        self._address = ""
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, address: str, path: str, body: bytes) -> str | None:
        """Return the side that accepted, "" where it named none; None where nobody did."""
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await self._posted(address, path, body)
        except (OSError, ValueError, IndexError, asyncio.IncompleteReadError):
            self.close()
            return None

    async def _posted(self, address: str, path: str, body: bytes) -> str | None:
        reader, writer = await self._streams_to(address)
        head = f"POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        status = int((await reader.readline()).split()[1])
        length = 0
        while (line := await reader.readline()).strip():
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        said = await reader.readexactly(length)
        return str(json.loads(said).get("side", "")) if status in (200, 202) else None

    async def _streams_to(self, address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None or self._address != address:
            self.close()
            self._address = address
            host, _, port = address.partition(":")
            self._streams = await asyncio.open_connection(host, int(port))
        return self._streams

    def close(self) -> None:
        """Let go of it."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
