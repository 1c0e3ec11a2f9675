"""One connection to a Redis server: commands out, replies in."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

import hiredis

from cicely.engines.redis.faults import Refusal
from cicely.engines.redis.place import Place, Target
from cicely.errors import ConfigError

#: What a reply may be: bytes, an integer, None, a list of such, or a Refusal.
Reply = Any
Word = bytes | str | int

#: Its stub says that a command has one word.
_pack: Final = cast(Callable[[tuple[Word, ...]], bytes], hiredis.pack_command)
_PARTIAL: Final = object()
_READ_BYTES: Final = 65_536
#: A peer that went silent is noticed after about a minute, also on a line that only listens.
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}


class Line:
    """A connected, authenticated socket. Belongs to one thread at a time."""

    __slots__ = ("_reader", "_socket")

    def __init__(self, place: Place, target: Target) -> None:
        self._reader = hiredis.Reader(
            replyError=Refusal, protocolError=hiredis.ProtocolError, notEnoughData=_PARTIAL
        )
        self._socket = _connected(place, target)
        try:
            self._greet(place)
        except BaseException:
            self.close()
            raise

    def _greet(self, place: Place) -> None:
        if place.password:
            credentials = (place.user, place.password) if place.user else (place.password,)
            self.ask("AUTH", *credentials)
        if place.db:
            self.ask("SELECT", place.db)

    def fileno(self) -> int:
        """Return the socket."""
        return self._socket.fileno()

    def send(self, commands: Iterable[tuple[Word, ...]]) -> None:
        """Send commands in one go; each has a reply of its own."""
        self._socket.sendall(b"".join(map(_pack, commands)))

    def read(self) -> Reply:
        """Return the next reply; an error reply is returned, too, as a Refusal."""
        while True:
            reply = self._reader.gets()
            if reply is not _PARTIAL:
                return reply
            data = self._socket.recv(_READ_BYTES)
            if not data:
                raise ConnectionResetError("the server hung up")
            self._reader.feed(data)

    def read_late(self, spare_s: float) -> Reply:
        """Return the next reply, which may take so much longer than usual."""
        patience_s = self._socket.gettimeout() or 0.0
        self._socket.settimeout(patience_s + spare_s)
        try:
            return self.read()
        finally:
            self._socket.settimeout(patience_s)

    def ask(self, *command: Word) -> Reply:
        """Send one command and return its reply. Raises Refusal."""
        self._socket.sendall(_pack(command))
        reply = self.read()
        if isinstance(reply, Refusal):
            raise reply
        return reply

    def drain(self) -> bool | None:
        """Drop what has come unasked; return whether there was any, None where the server hung up."""
        was_rung = False
        self._socket.setblocking(False)
        try:
            while self._socket.recv(_READ_BYTES):
                was_rung = True
        except (BlockingIOError, ssl.SSLWantReadError):
            return was_rung
        except OSError:
            return None
        return None

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            self._socket.close()


def _connected(place: Place, target: Target) -> socket.socket:
    plain = socket.create_connection(target, place.timeout_s)
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE.items():
            if hasattr(socket, option):
                plain.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        return _secured(plain, place, target[0]) if place.is_tls else plain
    except BaseException:
        plain.close()
        raise


def _secured(plain: socket.socket, place: Place, host: str) -> ssl.SSLSocket:
    context = _trusting(place)
    try:
        return context.wrap_socket(plain, server_hostname=host)
    except TimeoutError as error:
        raise OSError("no answer to TLS; a server without it is reached by redis://") from error


def _trusting(place: Place) -> ssl.SSLContext:
    # Not the server's fault, and nothing that passes by itself: OSError would be tried again for ever.
    try:
        context = ssl.create_default_context(cafile=place.tls_ca or None)
    except OSError as error:
        raise ConfigError(f"tls_ca={place.tls_ca} cannot be used ({error.strerror or error})") from error
    if not place.tls_cert:
        return context
    try:
        context.load_cert_chain(place.tls_cert, place.tls_key or None)
    except OSError as error:
        named = f"tls_cert={place.tls_cert}" + (f" with tls_key={place.tls_key}" if place.tls_key else "")
        raise ConfigError(f"{named} cannot be used ({error.strerror or error})") from error
    return context
