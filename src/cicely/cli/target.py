"""The engine that a command talks to, and how it was found.

In this order: `--url`, `--app`, `CICELY_APP`, `CICELY_URL`, the only `.cicely/*.db` file of the
current folder. With an app at hand, its codec reads arguments and results.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote, unquote, urlsplit

import click
import msgspec

from cicely.cli.whereabouts import whereabouts
from cicely.errors import ConfigError

if TYPE_CHECKING:
    from cicely.engines.contract import Engine
    from cicely.values import Values

T = TypeVar("T")

_HOW_TO: Final = (
    "name the engine with --app module:app (or CICELY_APP) or --url (or CICELY_URL), "
    "or run this in the folder that holds .cicely"
)


class Where(msgspec.Struct, frozen=True):
    """What a command line and the environment say about the engine."""

    app: str
    url: str

    @contextmanager
    def open(self) -> Iterator[Target]:
        """Open the engine for the time of a command. Raises ConfigError where none is named."""
        app = load_app(self.app) if self.app else None
        if app is not None and not self.url:
            try:
                yield Target(app.engine, values=app.values(app.engine), app=app, url=app.url, source=self.app)
            finally:
                app.close()
            return
        url, source = self._url_and_source()
        engine = _open(url)
        try:
            yield Target(engine, values=_values(engine, app), app=app, url=url, source=source)
        finally:
            engine.close()

    def place(self) -> tuple[str, str]:
        """Return the engine's URL and where it was found; opens nothing."""
        if self.app and not self.url:
            return load_app(self.app).url, self.app
        return self._url_and_source()

    def _url_and_source(self) -> tuple[str, str]:
        for url, source in ((self.url, "--url"), (os.environ.get("CICELY_URL", ""), "CICELY_URL")):
            if url:
                _refuse_missing_file(url)
                return url, source
        file = _only_file()
        return f"sqlite:///{quote(str(file.resolve()))}", str(file)


def _open(url: str) -> Engine:
    from cicely.engines.connect import connect

    engine = connect(url, role="producer")
    engine.open()
    return engine


class Target:
    """An open engine, the codec for what is in it, and how both were found."""

    def __init__(self, engine: Engine, *, values: Values, app: Any, url: str, source: str) -> None:
        self.engine = engine
        self.values = values
        self.app = app
        self.url = url
        self.source = source

    @property
    def declared_queues(self) -> tuple[str, ...]:
        """The queues that the app declares; none where no app is known."""
        return tuple(self.app.registry.queues) if self.app is not None else ()


def located(command: Callable[..., T]) -> Callable[..., T]:
    """Add `--app` and `--url` to a command, which gets them as `where`."""

    @functools.wraps(command)
    def call(*, app: str, url: str, **options: Any) -> T:
        found = Where(app or os.environ.get("CICELY_APP", ""), url)
        return command(where=found, **options)

    with_url = click.option("--url", default="", help="The engine's URL [env: CICELY_URL].")
    with_app = click.option(
        "--app", "-A", default="", help="The app: module:app or file.py:app [env: CICELY_APP]."
    )
    return with_app(with_url(call))


def load_app(written: str) -> Any:
    """Import an app. Raises CicelyError with the user's part of the traceback."""
    from cicely.worker.preload import load

    found = whereabouts(written)
    sys.path[:0] = [path for path in found.python_path if path not in sys.path]
    app = load(found.target)
    if not hasattr(app, "registry"):
        raise ConfigError(f"{written} is no Cicely app but {type(app).__name__}: {_HOW_TO}")
    return app


def _values(engine: Engine, app: Any) -> Values:
    if app is not None:
        values: Values = app.values(engine)
        return values
    from cicely.core.codec import Codec
    from cicely.values import Values

    return Values(Codec(), engine, patience_s=1.0)


def _refuse_missing_file(url: str) -> None:
    """Raise ConfigError for a file that is not there: to look at it must not create it."""
    file = file_of(url)
    if file is not None and not file.exists():
        raise ConfigError(f"there is no file {file}: check the URL; a producer or worker creates it")


def file_of(url: str) -> Path | None:
    """Return the file that a URL of the embedded engine names; None for other engines."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    if parts.scheme != "sqlite" or parts.netloc:
        return None
    path = unquote(parts.path)
    return Path(path[1:]) if path.startswith("/") else Path(path)


def _only_file() -> Path:
    files = sorted(Path(".cicely").glob("*.db"))
    if len(files) == 1:
        return files[0]
    if not files:
        raise ConfigError(f"no engine is named, and there is no .cicely/*.db here: {_HOW_TO}")
    names = ", ".join(file.name for file in files)
    raise ConfigError(f"no engine is named, and .cicely has several files ({names}): {_HOW_TO}")


def pass_on(ctx: click.Context, where: Where, *, as_json: bool) -> None:
    """Let what was written before a subcommand hold for the subcommand, too."""
    given = {"app": where.app, "url": where.url, "as_json": as_json}
    ctx.default_map = {str(ctx.invoked_subcommand): {name: value for name, value in given.items() if value}}
