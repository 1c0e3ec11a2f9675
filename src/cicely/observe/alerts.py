"""Telling somebody: a webhook that gets JSON, or a function."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from cicely.core.dead_letter import DeadGroup
from cicely.errors import ConfigError

log = logging.getLogger("cicely.alerts")

#: Says why a group could not be told of; "" where it was.
Post = Callable[[DeadGroup], str]

_TIMEOUT_S: Final = 10.0
_NAMED: Final = 20


def post_to(to: str | Callable[[DeadGroup], object], *, app: str) -> Post:
    """Return what tells a webhook or a function. Raises ConfigError for what is neither."""
    if callable(to):
        return lambda group: _called(to, group)
    if not isinstance(to, str) or urlsplit(to).scheme not in ("http", "https") or not urlsplit(to).netloc:
        raise ConfigError(f"to={to!r}: the http:// or https:// address of a webhook, or a function")
    return lambda group: _posted(to, document(group, app=app))


def document(group: DeadGroup, *, app: str) -> dict[str, object]:
    """Return what a webhook gets."""
    newest = group.letters[-1]
    return {
        "app": app,
        "fingerprint": group.fingerprint,
        "task": group.task,
        "error": group.error,
        "message": newest.error.message,
        "reason": newest.reason,
        "count": group.count,
        "first_at": group.first_at,
        "last_at": group.last_at,
        "jobs": list(group.job_ids[-_NAMED:]),
        "text": f"{app}: {group.count} x {group.task}: {group.error}: {group.message}",
    }


def _posted(url: str, body: dict[str, object]) -> str:
    # Not before: it brings ssl and an e-mail parser with it, and every worker would pay for that.
    from urllib.error import URLError
    from urllib.request import Request, urlopen

    request = Request(  # noqa: S310  (the scheme was checked)
        url,
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "User-Agent": "cicely"},
        method="POST",
    )
    try:
        with urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
            answer.read(1)
    except (URLError, OSError, ValueError) as error:
        log.warning("an alert could not be sent: %s", error)
        return str(error) or type(error).__name__
    return ""


def _called(function: Callable[[DeadGroup], object], group: DeadGroup) -> str:
    try:
        function(group)
    except Exception as error:
        log.exception("an alert could not be sent")
        return f"{type(error).__name__}: {error}"
    return ""
