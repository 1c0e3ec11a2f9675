"""A pytest plugin with one fixture: `cicely_inline(app)` runs an app's jobs inside a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from cicely.app import Cicely
from cicely.testing.inline import Inline, inline


@pytest.fixture
def cicely_inline() -> Iterator[Callable[[Cicely], Inline]]:
    """Return a function that puts an app into virtual time for the length of the test."""
    with ExitStack() as stack:
        yield lambda app: stack.enter_context(inline(app))
