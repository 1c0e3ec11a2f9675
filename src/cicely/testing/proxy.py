"""A bad network: a TCP proxy before one server, which delays, resets, goes silent and loses replies.

It knows no protocol. A *reply* is what the server sends after the client has asked something; when the
first bytes of it arrive, the server has carried out what was asked. All that it does can be done from
any thread; a loop in a thread of its own does it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from enum import StrEnum
from typing import Final, TypeVar
from urllib.parse import urlsplit, urlunsplit

T = TypeVar("T")

_LOOPBACK: Final = "127.0.0.1"
_CHUNK_BYTES: Final = 1 << 16
_PATIENCE_S: Final = 10.0
#: Closing a socket with this says RST to its peer, not FIN.
_AT_ONCE: Final = struct.pack("ii", 1, 0)
_PORTS: Final = {"redis": 6379, "postgres": 5432, "postgresql": 5432}


class Loss(StrEnum):
    """What the client sees of a lost reply: its connection is reset, or nothing ever comes."""

    RESET = "reset"
    SILENCE = "silence"


class Proxy:
    """Stands before the server at `host` and `port`. Use as a context manager.

    `listen` is the address of the interface on which it takes clients. `latency_s` delays each chunk,
    in each direction, and may be set at any time. `replies` counts those that were passed on, `lost`
    those that were not, `connections` the clients so far.
    """

    def __init__(self, port: int, *, host: str = _LOOPBACK, listen: str = _LOOPBACK) -> None:
        self.latency_s = 0.0
        self.replies = self.lost = self.connections = 0
        self.port = 0
        self.listen = listen
        self._server_at = (host, port)
        self._lose_in = 0
        self._loss = Loss.RESET
        self._ways: set[_Way] = set()
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._loop = asyncio.new_event_loop()
        self._has_started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def __enter__(self) -> Proxy:
        """Start to listen."""
        self._thread.start()
        if not self._has_started.wait(_PATIENCE_S):
            raise RuntimeError("the proxy did not start")
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Hang up all connections, and end the thread."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(_PATIENCE_S)

    def before(self, url: str) -> str:
        """Return the URL of a server, led through this proxy."""
        parts = urlsplit(url)
        credentials = parts.netloc.rpartition("@")[0]
        host = f"{self.listen}:{self.port}"
        return urlunsplit(parts._replace(netloc=f"{credentials}@{host}" if credentials else host))

    # --- what can be done to the connections ----------------------------------------------------
    def lose_reply(self, number: int = 1, *, loss: Loss = Loss.RESET) -> None:
        """Lose one reply, the `number`-th from now, after the server has done what it answers."""
        self._do(lambda: self._plan_loss(number, loss))

    def keep_replies(self) -> None:
        """Lose no reply after all."""
        self._do(lambda: self._plan_loss(0, Loss.RESET))

    def reset(self) -> None:
        """Reset all connections; new ones may be made."""
        self._do(lambda: self._for_all(_Way.reset))

    def silence(self) -> None:
        """Leave all connections half-open: nothing passes on them again, and no side hears of it.

        New ones may be made.
        """
        self._do(lambda: self._for_all(_Way.fall_silent))

    def cut(self) -> None:
        """Let nothing pass, ends of connections included, on old connections or new ones, until `rejoin`."""
        self._do(self._is_open.clear)

    def rejoin(self) -> None:
        """Let all pass again, and what was under way during the cut before it."""
        self._do(self._is_open.set)

    def _do(self, change: Callable[[], T]) -> T:
        """Make a change in the loop's thread, and return when it is made."""

        async def made() -> T:
            return change()

        return asyncio.run_coroutine_threadsafe(made(), self._loop).result(_PATIENCE_S)

    def _plan_loss(self, number: int, loss: Loss) -> None:
        self._lose_in, self._loss = number, loss

    def _for_all(self, what: Callable[[_Way], None]) -> None:
        for way in list(self._ways):
            what(way)

    # --- the thread -----------------------------------------------------------------------------
    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._over = asyncio.Event()
        server = await asyncio.start_server(self._attend, self.listen, 0)
        self.port = int(server.sockets[0].getsockname()[1])
        self._has_started.set()
        await self._over.wait()
        server.close()
        self._is_open.set()
        self._for_all(_Way.reset)
        # Each ends by itself once its connections have: a cancelled one would be reported as a failure.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=_PATIENCE_S)

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await self._is_open.wait()
        if self._over.is_set():
            _reset(writer)
            return
        try:
            server = await asyncio.open_connection(*self._server_at)
        except OSError:
            _reset(writer)
            return
        way = _Way((reader, writer), server)
        self._ways.add(way)
        try:
            await asyncio.gather(self._pass_requests(way), self._pass_replies(way))
        finally:
            self._ways.discard(way)
            way.close()

    async def _pass_requests(self, way: _Way) -> None:
        while data := await self._arriving(way.client[0]):
            if not way.is_silent:
                way.is_asked = True
                await _send(way.server[1], data)
        if not way.is_silent:
            way.server[1].close()

    async def _pass_replies(self, way: _Way) -> None:
        while data := await self._arriving(way.server[0]):
            if way.is_asked and not way.is_silent:
                way.is_asked = False
                self._count_reply(way)
            if not way.is_silent:
                await _send(way.client[1], data)
        if not way.is_silent:
            way.client[1].close()

    def _count_reply(self, way: _Way) -> None:
        self._lose_in -= 1
        if self._lose_in != 0:
            self.replies += 1
            return
        self.lost += 1
        if self._loss is Loss.RESET:
            way.reset()
        else:
            way.fall_silent()

    async def _arriving(self, reader: asyncio.StreamReader) -> bytes:
        """Return what comes next, b"" at the end, when the network carries it."""
        try:
            data = await reader.read(_CHUNK_BYTES)
        except OSError:
            data = b""
        if self.latency_s:
            await asyncio.sleep(self.latency_s)
        await self._is_open.wait()
        return data


Side = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Way:
    """A client's connection and the server's, and what passes between them."""

    def __init__(self, client: Side, server: Side) -> None:
        self.client = client
        self.server = server
        #: Whether the server owes a reply.
        self.is_asked = False
        self.is_silent = False

    def reset(self) -> None:
        """Say RST to both; what the server had sent is gone."""
        self.is_silent = True
        _reset(self.client[1])
        _reset(self.server[1])

    def close(self) -> None:
        """Hang up politely what is not hung up yet."""
        self.client[1].close()
        self.server[1].close()

    def fall_silent(self) -> None:
        """Pass nothing on from now on, the end of either side included."""
        self.is_silent = True


def _reset(writer: asyncio.StreamWriter) -> None:
    end = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    writer.transport.abort()


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Pass data on; a side that has hung up is noticed by whoever reads from it."""
    with contextlib.suppress(OSError):
        writer.write(data)
        await writer.drain()


def proxy_before(url: str, *, listen: str = _LOOPBACK) -> Proxy | None:
    """Return a proxy for the server of a URL, not started; None where there is no one server to stand before.

    A certificate names its host, which a proxy is not: TLS and services of several hosts have none.
    """
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or "," in parts.netloc or not parts.hostname:
        return None
    return Proxy(parts.port or _PORTS[parts.scheme], host=parts.hostname, listen=listen)
