"""Everything that Azure bills by, from the SDK's call to the tables, as the backends recorded it."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import openai
import requests

from meter.usage import COUNT_NAMES
from tests.support.kinds import KINDS, seen_in
from tests.support.running import RunningStack, eventually, new_subject

APP = "00000000-0000-4000-8000-00000000c1d5"
LONG_CONTEXT_TOKENS = 272_000
BILLED_TIERS = {"priority": "priority", "flex": "flex"}


class Billed(NamedTuple):
    """What a row counts under."""

    deployment: str
    model: str
    backend: str
    tier: str
    context: str


def column(count: str) -> str:
    return "".join(part.capitalize() for part in count.split("_"))


COUNTS = {
    column(name): name
    for name in (*COUNT_NAMES, "calls", "failed_calls", "estimated_calls", "missing_calls")
}


def recorded(stack: RunningStack, subject: str) -> Mapping[Billed, Counter[str]]:
    """What the backends recorded of a subject: all counts but the zeros, by what they count under."""
    sums: defaultdict[Billed, Counter[str]] = defaultdict(Counter)
    for backend in stack.description["backends"]:
        for call in requests.get(f"{backend['url']}/_calls", timeout=10).json():
            if call["caller_subject"] == subject:
                for billed, counts in parts_of(call, backend["name"]):
                    sums[billed].update(counts)
    return sums


def parts_of(call: Mapping[str, Any], backend: str) -> Iterator[tuple[Billed, dict[str, int]]]:
    """A call, and what other deployments did for it at their own rates."""
    is_long = call["counts"].get("prompt_tokens", 0) > LONG_CONTEXT_TOKENS
    tier = BILLED_TIERS.get(call["service_tier"], "standard")
    context = "long" if is_long else "short"
    yield (
        Billed(call["deployment"], call["model"], backend, tier, context),
        {
            "calls": 1,
            **call["counts"],
        },
    )
    for tool in call["tools"]:
        billed = Billed(tool["deployment"], tool["model"], backend, "standard", "short")
        yield billed, tool["counts"]


def counts_of(row: Mapping[str, Any]) -> dict[str, int]:
    """The counts of a row that are not 0."""
    return {name: row[title].value for title, name in COUNTS.items() if row[title].value}


def counted(stack: RunningStack, subject: str) -> Mapping[Billed, Counter[str]]:
    """What the tables have of a subject, in the same form."""
    sums: defaultdict[Billed, Counter[str]] = defaultdict(Counter)
    for row in stack.usage(subject, "UsageByDay"):
        billed = Billed(*(row[column(name)] for name in Billed._fields))
        sums[billed].update(counts_of(row))
        place = row["Region"], row["DeploymentType"]
        assert (row["ClientApp"], *place) == (APP, "swedencentral", "global")
    return sums


def test_the_tables_have_every_kind_as_the_backends_recorded_it(stack: RunningStack) -> None:
    """Each column of each row, by deployment, model, backend, tier and context: nothing else."""
    subject = new_subject("kinds")
    token = stack.token(subject, "--app", APP)
    with openai.OpenAI(base_url=f"{stack.url}/openai/v1/", api_key=token, max_retries=0) as client:
        for make in KINDS.values():
            seen_in(make(client))
    expected = recorded(stack, subject)
    with suppress(AssertionError):  # the comparison below says more
        eventually(lambda: counted(stack, subject) == expected, "all is counted", seconds=20)

    assert counted(stack, subject) == expected
    assert sum(counts["calls"] for counts in expected.values()) == len(KINDS)
    kinds = {name for counts in expected.values() for name in counts}
    assert kinds == {*COUNT_NAMES, "calls"}
    assert {(billed.tier, billed.context) for billed in expected} == {
        *(("standard", "short"), ("standard", "long"), ("priority", "short"), ("flex", "short"))
    }


def test_nonsense_in_an_answer_costs_that_count_alone(stack: RunningStack) -> None:
    """Negative and absurd counts, odd tiers, items without a type and 10,000 others: the call counts."""
    subject = new_subject("nonsense")
    words = (
        "cached_tokens=-5 cache_write_tokens=1e30 audio_prompt_tokens=many service_tier=[] "
        "web_searches=10000 untyped_items=3"
    )
    token = stack.token(subject)
    for is_streamed in (False, True):
        body = {"model": "gpt-4o", "input": words, "stream": is_streamed}
        assert stack.post("/openai/v1/responses", token, body).ok
    rows = stack.wait_until_counted(subject, 2)

    assert {(row["Tier"], row["Context"]) for row in rows} == {("standard", "short")}
    sums = Counter[str]()
    for row in rows:
        sums.update(counts_of(row))
    # Each text has 6 words, and 3 tokens for the message; 5 + 9 % 11 words are answered.
    assert sums == {
        "calls": 2,
        "prompt_tokens": 18,
        "completion_tokens": 28,
        "total_tokens": 46,
        "web_search_calls": 20_000,
    }
