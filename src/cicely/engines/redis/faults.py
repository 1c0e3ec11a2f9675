"""Translates what a Redis server and the way to it refuse into Cicely's tree, once, at the edge."""

from __future__ import annotations

import ssl
from typing import Final

from cicely.errors import EngineCorrupt, EngineError, EngineFull, EngineUnavailable

AGAIN: Final = "the call may be repeated"


class Refusal(Exception):
    """An error reply, as the server worded it; `code` is its first word."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        # An error inside a script comes wrapped in where it happened.
        inner = next((code for code in _INSIDE if f"-{code} " in text or f" {code} " in text), "")
        self.code = inner or text.partition(" ")[0]


_INSIDE: Final = ("OOM", "READONLY", "MISCONF", "NOREPLICAS", "WRONGTYPE")


class NotOnDisk(OSError):
    """The server's log with a call was not written to disk in time."""


#: What passes by itself: a start, a fail-over, a slot on its way, somebody's long script.
_PASSING: Final = {
    "LOADING": "is reading its data from disk after a start",
    "BUSY": "is held up by a long script (SCRIPT KILL ends it)",
    "MASTERDOWN": "has lost its master",
    "CLUSTERDOWN": "belongs to a cluster that is down",
    "TRYAGAIN": "is moving its keys to another node",
    "ASK": "is moving its keys to another node",
    "NOREPLICAS": "has too few replicas to accept writes (min-replicas-to-write)",
    "READONLY": "is a read-only replica; a fail-over may be under way",
}


def translated(error: Exception, address: str) -> EngineError:
    """Return what the caller of an engine verb is told instead of `error`."""
    match error:
        case Refusal():
            return _refused(error, address)
        case NotOnDisk():
            return EngineUnavailable(
                f"{address} took the call, but its log was not on disk in time, as durability=power asks "
                f"(a slow disk, or appendfsync no?); {AGAIN}"
            )
        case TimeoutError():
            return EngineUnavailable(f"{address} did not answer in time; {AGAIN}")
        case ssl.SSLCertVerificationError():
            return EngineError(
                f"the certificate of {address} is not trusted ({error.verify_message}); name the file of its "
                "authority as tls_ca="
            )
        case ssl.SSLError() if "CERTIFICATE_REQUIRED" in str(error.reason):
            return EngineError(
                f"{address} asks for a certificate of ours; name its file as tls_cert=, and its key's "
                "as tls_key="
            )
        case ssl.SSLError():
            return EngineUnavailable(
                f"{address} does not speak TLS as asked ({error.reason}); for a server without it "
                "write redis://"
            )
        case OSError():
            return EngineUnavailable(f"cannot reach {address} ({error.strerror or error}); {AGAIN}")
        case _:
            return EngineError(f"{address} answered what is no Redis reply: {error}")


def _refused(refusal: Refusal, address: str) -> EngineError:
    match refusal.code:
        case "OOM":
            return EngineFull(
                f"{address} has no memory left under its maxmemory; raise it, or let jobs end and their "
                f"retention pass, then {AGAIN}"
            )
        case "MISCONF":
            return EngineFull(
                f"{address} cannot write to its disk and accepts nothing more; make room there, then {AGAIN}"
            )
        case code if code in _PASSING:
            return EngineUnavailable(f"{address} {_PASSING[code]}; {AGAIN}")
        case "WRONGTYPE":
            return EngineCorrupt(
                f"{address} holds a key of Cicely's with another type: another program writes under this "
                "namespace; choose another as namespace="
            )
        case _:
            return _refused_for_good(refusal, address)


def _refused_for_good(refusal: Refusal, address: str) -> EngineError:
    text = str(refusal)
    match refusal.code:
        case "WRONGPASS" | "NOAUTH":
            return EngineError(f"{address} refuses this user and password; correct them in the URL")
        case "NOPERM":
            return EngineError(
                f"{address} lacks a permission for this user ({text.partition(' ')[2]}); grant it "
                "with ACL SETUSER"
            )
        case "DENIED":
            return EngineError(
                f"{address} runs in protected mode; give it a password, or bind it to loopback"
            )
        case _ if "invalid password" in text or "AUTH" in text:
            return EngineError(f"{address} refuses this user and password; correct them in the URL")
        case _ if "WAITAOF" in text:
            return EngineError(
                f"{address} writes no append-only file any more, so durability=power cannot be kept; turn it "
                "on with CONFIG SET appendonly yes (and in redis.conf)"
            )
        case _ if "DB index" in text or "SELECT is not allowed" in text:
            return EngineError(
                f"{address} has no such database ({text}); correct the number in the URL's path"
            )
        case _ if "max number of clients" in text:
            return EngineUnavailable(f"{address} has no connection left (maxclients); {AGAIN}")
        case _:
            return EngineError(f"{address} refused a command: {text}")
