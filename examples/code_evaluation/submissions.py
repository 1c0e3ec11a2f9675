"""What the gateway accepts, and into which queue it goes."""

from __future__ import annotations

import hashlib
from typing import Literal

from pydantic import BaseModel, Field, field_validator
from pydantic_core import PydanticCustomError

from examples.code_evaluation.sandbox import LANGUAGES

MAX_CODE_CHARS = 65_536
MAX_BATCH = 10_000
Tier = Literal["standard", "premium"]

#: What the tag begins with that says which program an evaluation is of.
MARK = "code:"
PREMIUM, SINGLE, BULK = "high_priority", "evaluation", "batch"


class Submission(BaseModel):
    """One program to be evaluated. The id is the caller's: submitting it again changes nothing."""

    eval_id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$")
    code: str = Field(max_length=MAX_CODE_CHARS)
    language: str = "python"
    tier: Tier = "standard"

    @field_validator("language")
    @classmethod
    def _is_known(cls, language: str) -> str:
        if language not in LANGUAGES:
            raise PydanticCustomError(
                "unknown_language",
                "the language {given} is not known here; there are {known}",
                {"given": language, "known": ", ".join(LANGUAGES)},
            )
        return language

    @property
    def mark(self) -> str:
        """A word that follows from the program: two submissions of one id must agree in it."""
        return MARK + hashlib.sha256(f"{self.language}\n{self.code}".encode()).hexdigest()[:16]


def queue_of(tier: Tier) -> str:
    """Return the queue of a single submission."""
    return PREMIUM if tier == "premium" else SINGLE
