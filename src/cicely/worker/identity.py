"""Who a worker is: its name and sessions, and what it serves, by its options and what its app declares."""

from __future__ import annotations

import os
from typing import Any

from cicely.engines.contract import Session
from cicely.worker.control import Begin
from cicely.worker.options import WorkerOptions
from cicely.worker.processes import start_time, this_host
from cicely.worker.queues import Groups, groups_to_serve, tags_to_accept


class Identity:
    """One worker's. `manifest` is what the app declares, known as soon as it is imported."""

    def __init__(self, options: WorkerOptions) -> None:
        self.id = os.urandom(12).hex()
        self.mark = os.urandom(12).hex()
        self.manifest: dict[str, Any] = {}
        self._options = options

    def renew(self) -> None:
        """Take another id: the old one is closed for ever."""
        self.id = os.urandom(12).hex()

    @property
    def name(self) -> str:
        """What people call it."""
        return self._options.name or f"{os.uname().nodename}:{os.getpid()}"

    @property
    def url(self) -> str:
        """Its engine's URL."""
        return self._options.url or str(self.manifest["url"])

    @property
    def groups(self) -> Groups:
        """The queues that it serves. Raises UnknownQueue."""
        return groups_to_serve(self._options.groups, self.manifest["queues"])

    @property
    def queues(self) -> tuple[str, ...]:
        """The same by name alone."""
        return tuple(name for group in self.groups for name, _ in group)

    def session(self) -> Session:
        """Return the supervisor's own registration. Raises UnknownQueue and ConfigError."""
        return Session(
            id=self.id,
            worker=self.id,
            lease_s=self._options.lease_s,
            host=this_host(),
            pid=os.getpid(),
            start_time=start_time(os.getpid()) or 0,
            mark=self.mark,
            name=self.name,
            queues=self.queues,
            offers=self._options.offers,
            accepts=tags_to_accept(self._options.accepts, self.manifest.get("accept_by")),
        )

    def begin(self, number: int, session_id: str, *, cgroup: str) -> Begin:
        """Return what a child is told at its start."""
        options = self._options
        return Begin(
            session_id=session_id,
            worker_id=self.id,
            name=f"{self.name}/{number}",
            mark=self.mark,
            lease_s=options.lease_s,
            groups=self.groups,
            threads=options.threads,
            coroutines=options.coroutines,
            max_jobs=options.max_jobs,
            target=options.target,
            cgroup=cgroup,
            offers=options.offers,
            accepts=options.accepts,
        )
