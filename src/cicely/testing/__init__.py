"""For tests: of programs that use Cicely, and of engines that others write."""

from cicely.testing.inline import Inline, Ran, inline

__all__ = ["Inline", "Ran", "inline"]
