"""What each client is asked, and what must come of it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from local.clients.programs import (
    AI_SDK,
    CLAUDE,
    CODEX,
    COPILOT,
    LANGCHAIN,
    OPENCODE,
    PUBLISHED,
    Program,
)

DEPLOYMENT = "gpt-4o"
ANSWER = "Every token"  # the local stack's answers begin so


class Ask(StrEnum):
    """What is asked, in the words of the table."""

    ANSWER = "an answer"
    WAIT = "an answer, after 429 and 2 s"
    AUDIENCE = "with a token for another audience (401)"
    APP = "as an app that is not allowed (403)"
    DEPLOYMENT = "an unknown deployment (404)"
    MESSAGES = "the Messages API (404)"


REFUSALS = (Ask.AUDIENCE, Ask.APP, Ask.DEPLOYMENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One run: a client, what it is asked, and a pattern that what it shows must match."""

    program: Program
    ask: Ask
    shows: str

    @property
    def is_answered(self) -> bool:
        """Whether an answer is expected, and so calls that were served."""
        return self.ask in {Ask.ANSWER, Ask.WAIT}

    @property
    def deployment(self) -> str:
        """The deployment that it asks for."""
        return "no-such-model" if self.ask is Ask.DEPLOYMENT else DEPLOYMENT

    def is_shown(self, output: str) -> bool:
        """Whether the output is as expected."""
        return re.search(self.shows, output, re.IGNORECASE) is not None


def all_cases() -> Iterator[Case]:
    """All of them, in the table's order."""
    for program in (CODEX, OPENCODE, PUBLISHED, COPILOT, LANGCHAIN, AI_SDK):
        yield Case(program=program, ask=Ask.ANSWER, shows=ANSWER)
        if program is PUBLISHED:
            continue
        yield Case(program=program, ask=Ask.WAIT, shows=ANSWER)
        for ask in REFUSALS:
            yield Case(program=program, ask=ask, shows=_THEIRS.get((program, ask), _OURS[ask]))
    yield Case(program=CLAUDE, ask=Ask.MESSAGES, shows="claude-sonnet-4-5")


# The gateway's own words. Some programs show only their own.
_OURS = {
    Ask.AUDIENCE: "audience",
    Ask.APP: "may not call this API",
    Ask.DEPLOYMENT: "does not exist here",
}
_THEIRS: Mapping[tuple[Program, Ask], str] = {
    (COPILOT, Ask.AUDIENCE): r"authentication failed .*401",
    (COPILOT, Ask.APP): r"authentication failed .*403",
    (COPILOT, Ask.DEPLOYMENT): r"not found on provider .*404",
}
