"""A proxy that speaks TLS in front of a server without it, with certificates made for the occasion."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from pathlib import Path

import trustme


class TlsProxy:
    """Listens on loopback for TLS and passes what it hears on to a plain port.

    With `asks_for_certificate`, clients must show one of the same authority.
    """

    def __init__(self, folder: Path, port: int, *, asks_for_certificate: bool = False) -> None:
        self._upstream = port
        authority = trustme.CA()
        self.authority = str(folder / "authority.pem")
        authority.cert_pem.write_to_path(self.authority)
        client = authority.issue_cert("worker@example.org")
        self.certificate, self.key = str(folder / "client.pem"), str(folder / "client.key")
        client.cert_chain_pems[0].write_to_path(self.certificate)
        client.private_key_pem.write_to_path(self.key)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(self._context)
        if asks_for_certificate:
            self._context.verify_mode = ssl.CERT_REQUIRED
            authority.configure_trust(self._context)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._lines: list[socket.socket] = []
        self._run(self._accept)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    def close(self) -> None:
        """Hang up on everybody."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for line in self._lines:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for line in self._lines:
            line.close()

    def _run(self, target, *args) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = self._listener.accept()
                self._run(self._serve, line)

    def _serve(self, plain: socket.socket) -> None:
        self._lines.append(plain)
        with contextlib.suppress(OSError):
            plain.settimeout(5)
            secure = self._context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
            self._lines.append(secure)
            # One that fails leaves the line open: a reset would take the alert away before it is read.
            secure.do_handshake()
            secure.settimeout(None)
            upstream = socket.create_connection(("127.0.0.1", self._upstream))
            self._lines.append(upstream)
            self._run(self._pass_on, upstream, secure)
            self._pass_on(secure, upstream)

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
        for line in (source, target):
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
