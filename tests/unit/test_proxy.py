"""The bad network does what it says to a server that answers each line in capitals."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from cicely.testing.proxy import Loss, Proxy, proxy_before

SHORT_S = 0.2


class Capitals(socketserver.ThreadingTCPServer):
    """Answers, and remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        super().__init__(("127.0.0.1", 0), Answer)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was cut off is no failure of the server."""


class Answer(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.server.heard.append(line)  # type: ignore[attr-defined]
            self.wfile.write(line.upper())


@pytest.fixture
def server() -> Iterator[Capitals]:
    with Capitals() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def proxy(server: Capitals) -> Iterator[Proxy]:
    with Proxy(server.server_address[1]) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), 5.0) as client:
        assert ask(client, b"hello\n") == b"HELLO\n"
        yield client


def ask(client: socket.socket, words: bytes) -> bytes:
    client.sendall(words)
    return client.recv(100)


def ask_twice(client: socket.socket) -> None:
    """Speak until a reset has had time to arrive."""
    ask(client, b"one\n")
    ask(client, b"two\n")


def dial_and_ask(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 5.0) as client:
        ask_twice(client)


def test_a_lost_reply_was_carried_out_and_resets_the_connection(server, proxy, client):
    proxy.lose_reply(2)

    assert ask(client, b"one\n") == b"ONE\n"
    with pytest.raises(ConnectionResetError):
        ask(client, b"two\n")
    assert server.heard == [b"hello\n", b"one\n", b"two\n"]
    assert (proxy.replies, proxy.lost) == (2, 1)


def test_a_reply_may_be_lost_in_silence(server, proxy, client):
    proxy.lose_reply(loss=Loss.SILENCE)
    client.settimeout(SHORT_S)

    with pytest.raises(TimeoutError):
        ask(client, b"one\n")
    assert server.heard == [b"hello\n", b"one\n"]


def test_a_reset_ends_old_connections_only(proxy, client):
    proxy.reset()

    with pytest.raises(ConnectionError):
        ask_twice(client)
    with socket.create_connection(("127.0.0.1", proxy.port), 5.0) as another:
        assert ask(another, b"two\n") == b"TWO\n"


def test_a_half_open_connection_hears_nothing_again(server, proxy, client):
    proxy.silence()
    client.settimeout(SHORT_S)

    with pytest.raises(TimeoutError):
        ask(client, b"one\n")
    assert server.heard == [b"hello\n"]


def test_what_was_said_during_a_cut_arrives_after_it(server, proxy, client):
    proxy.cut()
    client.settimeout(SHORT_S)
    with pytest.raises(TimeoutError):
        ask(client, b"late\n")
    assert server.heard == [b"hello\n"]

    proxy.rejoin()
    client.settimeout(5.0)

    assert client.recv(100) == b"LATE\n"


def test_latency_delays_both_directions(proxy, client):
    proxy.latency_s = 0.1
    began_at = time.monotonic()

    assert ask(client, b"one\n") == b"ONE\n"
    assert time.monotonic() - began_at >= 0.2


def test_a_server_that_is_not_there_resets_the_client():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with Proxy(unused.getsockname()[1]) as proxy, pytest.raises(ConnectionError):
            dial_and_ask(proxy.port)


def test_a_url_is_led_through_it_with_its_credentials_and_options(proxy):
    url = "postgresql://ann:s%40cret@db.example:5433/jobs?schema=x"

    assert proxy.before(url) == f"postgresql://ann:s%40cret@127.0.0.1:{proxy.port}/jobs?schema=x"


@pytest.mark.parametrize("url", ["sqlite:///jobs.db", "rediss://h/0", "redis+sentinel://a,b/jobs/0"])
def test_there_is_no_proxy_before_a_file_tls_or_several_hosts(url):
    assert proxy_before(url) is None
