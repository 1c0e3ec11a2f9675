"""What lies between a worker and its engine, so that it can be disturbed."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Sequence
from functools import cache
from typing import Final
from urllib.parse import urlsplit

from cicely.testing.proxy import Proxy, proxy_before

_PATIENCE_S: Final = 10.0
#: Leases of a torture are short: a worker must not wait for a silent server longer than they last.
_IMPATIENCE: Final = {
    "redis": "timeout=0.5",
    "postgresql": "tcp_user_timeout=1000",
    "postgres": "tcp_user_timeout=1000",
}
#: `WorkerProcess` takes what it starts inside of something for the parent of the supervisor.
_AS_A_CHILD: Final = ("unshare", "--fork", "--kill-child")


class Network:
    """A proxy before the engine, for one worker. `inside` is a program that starts it behind the network."""

    def __init__(self, proxy: Proxy, *, inside: Sequence[str] = ()) -> None:
        self.proxy = proxy
        self.inside = tuple(inside)

    def cut(self) -> None:
        """Let nothing pass until `rejoin`."""
        self.proxy.cut()

    def rejoin(self) -> None:
        """Let all pass again, what was under way before it."""
        self.proxy.rejoin()

    def close(self) -> None:
        """Take it down."""
        self.proxy.__exit__()


class Namespace(Network):
    """A network namespace of its own, joined to the proxy by a virtual cable; see `can_pull_cables`."""

    def __init__(self, proxy: Proxy, cable: Cable) -> None:
        super().__init__(proxy, inside=("ip", "netns", "exec", cable.name, *_AS_A_CHILD))
        self._cable = cable.name

    def cut(self) -> None:
        """Pull the cable."""
        _ip("link", "set", self._cable, "down")

    def rejoin(self) -> None:
        """Plug the cable in."""
        _ip("link", "set", self._cable, "up")

    def close(self) -> None:
        """Take it down, the cable with it."""
        super().close()
        _ip("netns", "delete", self._cable)


class Cable:
    """A virtual cable from here into a new network namespace, both called `name`."""

    def __init__(self) -> None:
        number = next(_numbers)
        subnet = f"10.213.{os.getpid() % 250}.{4 * (number % 60)}".rpartition(".")
        self.name = f"cicely{os.getpid() % 100_000}n{number}"
        self.here = f"{subnet[0]}.{int(subnet[2]) + 1}"
        there, peer = f"{subnet[0]}.{int(subnet[2]) + 2}", f"{self.name}p"
        inside = ("netns", "exec", self.name, "ip")
        _ip("netns", "add", self.name)
        _ip("link", "add", self.name, "type", "veth", "peer", "name", peer, "netns", self.name)
        _ip("addr", "add", f"{self.here}/30", "dev", self.name)
        _ip("link", "set", self.name, "up")
        _ip(*inside, "addr", "add", f"{there}/30", "dev", peer)
        _ip(*inside, "link", "set", peer, "up")
        _ip(*inside, "link", "set", "lo", "up")


_numbers: Final = itertools.count()


def network_before(url: str) -> Network | None:
    """Return a network on the loopback interface before a server; None where there is none to disturb."""
    proxy = proxy_before(url)
    return Network(proxy.__enter__()) if proxy is not None else None


def namespace_before(url: str) -> Network | None:
    """Return a namespace of its own before a server; None where there is none to disturb."""
    if proxy_before(url) is None:
        return None
    cable = Cable()
    proxy = proxy_before(url, listen=cable.here)
    assert proxy is not None
    return Namespace(proxy.__enter__(), cable)


@cache
def can_pull_cables() -> bool:
    """Return whether this process may make network namespaces."""
    probe = f"cicely{os.getpid() % 100_000}"
    try:
        _ip("netns", "add", probe)
        _ip("netns", "exec", probe, "true")
        _ip("netns", "delete", probe)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def impatient(url: str) -> str:
    """Return a URL with a short patience, unless it names one."""
    parts = urlsplit(url)
    wanted = _IMPATIENCE.get(parts.scheme, "")
    if not wanted or wanted.partition("=")[0] in parts.query:
        return url
    return parts._replace(query=f"{parts.query}&{wanted}" if parts.query else wanted).geturl()


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=_PATIENCE_S)  # noqa: S607
