"""Values at rest: in the job's row, in a blob of the engine, or in a file at `blobs=` or `results=`.

A row holds what the codec wrote, or, where that is large, a reference. A reference names a place
and a digest and never an address: where a file lies follows from the app's own settings.
"""

from __future__ import annotations

import math
import os
from enum import StrEnum
from hashlib import blake2b
from typing import Any, Final, Protocol, runtime_checkable
from urllib.parse import quote

import msgspec

from cicely.core.codec import Codec
from cicely.core.edge import ParentEnd
from cicely.errors import ConfigError, EngineUnavailable, Malformed, NotStorable
from cicely.patience import patiently

INLINE_BYTES: Final = 64 * 1024
ENGINE_BYTES: Final = 16 * 1024 * 1024

# An encoded value begins with its format version, which counts up from 1.
_MARK: Final = b"\xfe\x01"
_DIGEST_BYTES: Final = 16
_MEGABYTE: Final = 1024 * 1024
#: A file system that refuses for so long refuses for good: a wrong path, a right that is missing.
_STORE_PATIENCE_S: Final = 300.0


class ValueGone(Malformed):
    """A reference leads to nothing: what it names was swept or removed."""


class Place(StrEnum):
    """Where a value lies that is not in its row."""

    ENGINE = "engine"
    BLOBS = "blobs"
    RESULTS = "results"


class _Reference(msgspec.Struct, frozen=True, array_like=True):
    place: Place
    digest: str
    size: int


class Blobs(Protocol):
    """The two verbs of an engine that values need."""

    def put_blob(self, job_id: str, digest: str, data: bytes) -> None:
        """Keep bytes."""

    def get_blob(self, job_id: str, digest: str) -> bytes | None:
        """Return kept bytes, or None."""


@runtime_checkable
class Ends(Protocol):
    """The verb of an engine that tells how the jobs before one ended."""

    def parents(self, job_id: str, *, after: int = 0, limit: int = 1_000) -> list[ParentEnd]:
        """As `engines.contract.Engine.parents`."""


class Store:
    """A folder that `fsspec` can reach: one folder per job in it, one file per value.

    Cicely never deletes there; the folder's owner does. Raises ConfigError for what is no text.
    """

    def __init__(self, url: str, *, option: str) -> None:
        if not isinstance(url, str):
            raise ConfigError(f'{option}={url!r}: the URL of a folder as text, as in "s3://bucket/{option}"')
        self.url = url
        self._option = option
        self._opened: tuple[int, Any, str] = (0, None, "")

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine's file system, by its URL."""
        scheme, separator, _ = self.url.partition("://")
        return not separator or scheme in ("file", "local")

    def put(self, job_id: str, digest: str, data: bytes) -> None:
        """Write a file. Raises EngineUnavailable with the reason."""
        try:
            system, root = self._open()
            path = f"{root}/{_folder(job_id)}/{digest}"
            if "file" in system.protocol:
                _write_durably(path, data)
            else:
                system.pipe_file(path, data)
        except (ConfigError, MemoryError):
            raise
        except Exception as error:
            raise EngineUnavailable(self._sentence("write to", error)) from error

    def get(self, job_id: str, digest: str) -> bytes | None:
        """Return a file's content, or None. Raises EngineUnavailable with the reason."""
        try:
            system, root = self._open()
            data: bytes = system.cat_file(f"{root}/{_folder(job_id)}/{digest}")
        except FileNotFoundError:
            return None
        except (ConfigError, MemoryError):
            raise
        except Exception as error:
            raise EngineUnavailable(self._sentence("read", error)) from error
        return data

    def _open(self) -> tuple[Any, str]:
        # Once per process: the clients behind fsspec do not survive a fork.
        pid, system, root = self._opened
        if pid == os.getpid():
            return system, root
        try:
            from fsspec.core import url_to_fs
        except ImportError:
            raise ConfigError(
                f"{self._option}={self.url} needs fsspec: pip install 'cicely[results]'"
            ) from None
        try:
            system, root = url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise ConfigError(f"{self._option}={self.url}: {error}") from error
        self._opened = (os.getpid(), system, root.rstrip("/"))
        return system, root.rstrip("/")

    def _sentence(self, verb: str, error: Exception) -> str:
        return f"cannot {verb} {self._option}={self.url}: {type(error).__name__}: {error}"


def _folder(job_id: str) -> str:
    # A person chose some of the ids: none of them may lead out of the folder.
    return quote(job_id, safe="").replace(".", "%2E")


def _write_durably(path: str, data: bytes) -> None:
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    partial = f"{path}.{os.getpid()}.partial"
    with open(partial, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Values:
    """Packs values for an engine and unpacks what comes back.

    Without an engine (in an isolated attempt) values pass through whole; the process that has one
    stows them before, and has them at hand after.
    """

    def __init__(
        self,
        codec: Codec,
        engine: Blobs | None,
        *,
        blobs: Store | None = None,
        results: Store | None = None,
        patience_s: float = math.inf,
    ) -> None:
        self.codec = codec
        self._engine = engine
        self._blobs = blobs
        self._results = results
        self._patience_s = patience_s

    def pack_call(self, job_id: str, args: tuple[Any, ...], *, kwargs: dict[str, Any], where: str) -> bytes:
        """Encode the arguments of a call. Raises NotStorable."""
        data = self.codec.encode_call(args, kwargs, where=where)
        return data if len(data) <= INLINE_BYTES else self.stow(job_id, data, where=where)

    def pack(self, job_id: str, value: object, *, where: str) -> bytes:
        """Encode `value`. Raises NotStorable."""
        return self.stow(job_id, self.codec.encode(value, where=where), where=where)

    def pack_result(self, job_id: str, value: object, *, where: str) -> bytes:
        """Encode a result; it goes to `results=` where that is set. Raises NotStorable."""
        data = self.codec.encode(value, where=where)
        if self._results is None and len(data) <= INLINE_BYTES:
            return data
        return self.stow_result(job_id, data, where=where)

    def pack_event(self, value: object, *, where: str) -> bytes:
        """Encode the value of an event, which belongs to no job yet. Raises NotStorable."""
        data = self.codec.encode(value, where=where)
        if len(data) > INLINE_BYTES:
            raise NotStorable(
                f"{where} takes {len(data):,} bytes, and an event carries {INLINE_BYTES:,}: "
                "send what names it, a path or an id"
            )
        return data

    def unpack(self, job_id: str, data: bytes) -> Any:
        """Decode what was packed. Raises Malformed, or ValueGone where a reference leads to nothing."""
        return self.codec.decode(self.at_hand(job_id, data))

    def pack_bare_call(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, where: str) -> bytes:
        """Encode a call for a process that has neither the engine nor the keys. Raises NotStorable."""
        return self.codec.unsigned(self.codec.encode_call(args, kwargs, where=where))

    def parents(self, job_id: str, after: int, limit: int) -> list[ParentEnd]:
        """Return how the jobs before one stand, in order, without the first `after`."""
        engine = self._engine
        if not isinstance(engine, Ends):
            raise Malformed("it wants the results of other jobs, where no engine is at hand")
        return patiently(lambda: engine.parents(job_id, after=after, limit=limit), for_s=self._patience_s)

    def unpack_call(self, job_id: str, data: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Decode the arguments of a call. Raises Malformed, or ValueGone."""
        return self.codec.decode_call(self.at_hand(job_id, data) if data.startswith(_MARK) else data)

    def stow(self, job_id: str, data: bytes, *, where: str) -> bytes:
        """Return what goes into the row for encoded `data`, which is kept elsewhere if it is large."""
        if len(data) <= INLINE_BYTES or self._engine is None:
            return data
        if len(data) <= ENGINE_BYTES:
            return self._put(Place.ENGINE, job_id, data)
        if self._blobs is not None:
            return self._put(Place.BLOBS, job_id, data)
        raise NotStorable(
            f"{where} takes {len(data) / _MEGABYTE:.1f} MB, more than the 16 MB that an engine keeps; "
            "set blobs= to a folder that fsspec can reach, or pass a path"
        )

    def stow_result(self, job_id: str, data: bytes, *, where: str) -> bytes:
        """Return what goes into the row for an encoded result."""
        try:
            if self._results is None or self._engine is None:
                return self.stow(job_id, data, where=where)
            return self._put(Place.RESULTS, job_id, data)
        except EngineUnavailable as error:
            # The task's Retry decides: a folder that is full or away is no reason to lose the job.
            raise NotStorable(f"{where}: {error}") from error

    def at_hand(self, job_id: str, data: bytes) -> bytes:
        """Return the encoded value that a row holds or refers to."""
        if not data.startswith(_MARK):
            return data
        reference = _read_reference(data)
        found = patiently(lambda: self._get(reference, job_id), for_s=self._patience_of(reference.place))
        if found is None:
            raise ValueGone(
                f"its value of {reference.size:,} bytes is no longer in {self._name(reference.place)}",
                job_id=job_id,
            )
        if _digest(found) != reference.digest:
            raise Malformed(
                f"its value in {self._name(reference.place)} is not what was put there", job_id=job_id
            )
        return found

    def bare(self, job_id: str, data: bytes) -> bytes:
        """Return the encoded value for a process that has neither the engine nor the keys."""
        return self.codec.unsigned(self.at_hand(job_id, data))

    def keep_bare(self, job_id: str, data: bytes, *, where: str) -> bytes:
        """Return what goes into the row for what such a process encoded.

        Raises Malformed for bytes that no codec wrote, NotStorable for too many of them.
        """
        return self.stow(job_id, self.codec.signed(data), where=where)

    def keep_bare_result(self, job_id: str, data: bytes, *, where: str) -> bytes:
        """Do the same with a result."""
        return self.stow_result(job_id, self.codec.signed(data), where=where)

    def _put(self, place: Place, job_id: str, data: bytes) -> bytes:
        digest = _digest(data)
        put = self._store(place).put if place is not Place.ENGINE else self._with_engine().put_blob
        patiently(lambda: put(job_id, digest, data), for_s=self._patience_of(place))
        return _MARK + msgspec.msgpack.encode(_Reference(place, digest, len(data)))

    def _get(self, reference: _Reference, job_id: str) -> bytes | None:
        if reference.place is Place.ENGINE:
            return self._with_engine().get_blob(job_id, reference.digest)
        return self._store(reference.place).get(job_id, reference.digest)

    def _with_engine(self) -> Blobs:
        if self._engine is None:
            raise Malformed("it is a reference, where only whole values are at hand")
        return self._engine

    def _store(self, place: Place) -> Store:
        store = self._blobs if place is Place.BLOBS else self._results
        if store is None:
            raise ConfigError(f"a value lies at {place}=, which is not set in this process")
        return store

    def _patience_of(self, place: Place) -> float:
        return self._patience_s if place is Place.ENGINE else min(self._patience_s, _STORE_PATIENCE_S)

    def _name(self, place: Place) -> str:
        return "the engine" if place is Place.ENGINE else f"{place}={self._store(place).url}"


def _read_reference(data: bytes) -> _Reference:
    try:
        reference = msgspec.msgpack.decode(data[len(_MARK) :], type=_Reference)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise Malformed(f"its reference to a value cannot be read: {error}") from error
    digest = reference.digest
    if len(digest) != 2 * _DIGEST_BYTES or digest.strip("0123456789abcdef"):
        raise Malformed("its reference to a value names no digest")
    return reference


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=_DIGEST_BYTES).hexdigest()
