"""Translates what apsw raises into Cicely's tree, once, at the engine's edge."""

from __future__ import annotations

import apsw

from cicely.errors import EngineCorrupt, EngineError, EngineFull, EngineUnavailable


def translated(error: Exception, path: str) -> EngineError:
    """Return what the caller of an engine verb is told instead of `error`."""
    match error:
        case apsw.BusyError() | apsw.LockedError():
            return EngineUnavailable(
                f"{path} is locked by a program that is not Cicely (a SQLite shell, a backup?); "
                "the call may be repeated when it has let go"
            )
        case apsw.FullError():
            return EngineFull(
                f"no space is left for {path}; make room on its disk, then the call may be repeated"
            )
        case apsw.CorruptError() | apsw.NotADBError() | apsw.FormatError():
            return corrupt(path, str(error))
        case apsw.IOError():
            return EngineUnavailable(
                f"the disk failed under {path} ({error}); see the kernel's log (dmesg); "
                "the call may be repeated"
            )
        case apsw.CantOpenError() | apsw.PermissionsError() | apsw.AuthError():
            return EngineError(f"{path} cannot be opened ({error}); check who owns it and its folder")
        case apsw.ReadOnlyError():
            return EngineError(
                f"{path} cannot be written ({error}); check that it, its folder and its -wal and -shm "
                "files are writable for this user"
            )
        case UnicodeDecodeError():
            return corrupt(path, "a text in it is not UTF-8")
        case _:
            return EngineError(f"SQLite refused a statement on {path}: {error}")


def corrupt(path: str, detail: str) -> EngineCorrupt:
    """Return the error that says what can be done about an unreadable file."""
    return EngineCorrupt(
        f"{path} cannot be read as a Cicely database ({detail}); move it away together with its -wal "
        f'and -shm files and restore a backup, or rescue what can be read: sqlite3 {path} ".recover"'
    )
