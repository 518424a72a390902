"""A caller's name is what people read, taken from the token's claims, and never in a log."""

import logging
from copy import replace

import pytest

from meter.errors import CallerError, UpstreamError
from meter.gateway.caller.auth import TokenRules
from tests.fakes.gateway import FakeAnswer, FakeClock, FakeUpstream, json_answer
from tests.support.gateway import (
    RULES,
    SERVED,
    Door,
    backend,
    bearer,
    claims,
    token,
    verifier,
)

NAME = "Ada Wong"


async def name_of(rules: TokenRules, **changes: object) -> str | None:
    principal = await verifier(FakeClock(), rules=rules).verify(token(payload=claims(**changes)))
    return principal.name


def by(*names: str) -> TokenRules:
    return replace(RULES, name_claims=names)


@pytest.mark.parametrize(
    ("found", "name"),
    [
        ({"app_displayname": "Nightly job", "email": "a@contoso.example"}, "Nightly job"),
        ({"preferred_username": "ada@contoso.example", "upn": "ada2"}, "ada@contoso.example"),
        ({"upn": "ada", "unique_name": "ada2", "name": "Ada"}, "ada"),
        ({"unique_name": "live.com#ada@contoso.example"}, "live.com#ada@contoso.example"),
        ({"email": "ada@contoso.example"}, "ada@contoso.example"),
        ({"name": "Ada"}, None),
        ({}, None),
    ],
    ids=str,
)
async def test_the_first_claim_that_has_a_name_counts(
    found: dict[str, object], name: str | None
) -> None:
    """No kind of token has all of them: applications have no user name, v1 tokens other claims."""
    assert await name_of(RULES, **found) == name


@pytest.mark.parametrize("empty", ["", "  ", "\u202e\u200b", "\x00", "\ud800", 7, ["Ada"], {}])
async def test_a_claim_without_a_name_gives_way_to_the_next(empty: object) -> None:
    """Only text with something visible is a name."""
    assert await name_of(RULES, app_displayname=empty, upn=NAME) == NAME


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("x" * 10_000, "x" * 128),
        ("Ada\r\nWong\t!", "Ada Wong !"),
        ("\u202eadA\x1b[31m", "adA[31m"),
        ("J\u00fcrgen \u4e2d\U0001f600", "J\u00fcrgen \u4e2d\U0001f600"),
    ],
    ids=["long", "lines", "marks", "letters"],
)
async def test_a_name_is_one_short_line_of_visible_text(text: str, name: str) -> None:
    """It is shown to people, and anybody may choose their own; it is never an error."""
    assert await name_of(RULES, upn=text) == name


async def test_the_claims_and_their_order_are_a_setting() -> None:
    """`METER_NAME_CLAIMS`; without any, no name is recorded."""
    assert await name_of(by("email", "name"), name=NAME, upn="ada") == NAME
    assert await name_of(by(), upn="ada") is None


async def test_a_name_is_read_once_per_token() -> None:
    """It is remembered with the verified token, so a further call costs nothing more."""
    door, text = verifier(FakeClock()), token(payload=claims(upn=NAME))
    first = await door.verify(text)

    assert (await door.verify(text)).name is first.name


async def test_a_name_is_in_the_event_and_in_no_log_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Logs are read by more people, and kept where nobody would look for personal data."""
    caplog.set_level(logging.DEBUG)
    answers: dict[str, list[FakeAnswer | UpstreamError]] = {
        "a": [json_answer(500, b"{}")],
        "b": [json_answer(200, SERVED)],
    }
    made = Door(FakeUpstream(answers), backends=[backend("a"), backend("b", priority=2)])

    await made.call(headers=bearer(token(payload=claims(app_displayname=NAME))))

    assert [event.principal.name for event in made.sink.events] == [NAME]
    assert caplog.records
    assert NAME not in "".join(str(vars(record)) for record in caplog.records)


@pytest.mark.parametrize("changes", [{"exp": 1}, {"tid": "other"}, {"azp": "other"}, {"sub": ""}])
async def test_a_refusal_has_no_name(
    changes: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    """Neither its message nor its logged reason."""
    rules = replace(
        RULES, allowed_tenants=frozenset({"tenant-1"}), allowed_apps=frozenset({"app-1"})
    )

    with pytest.raises(CallerError) as refused:
        await name_of(rules, app_displayname=NAME, **changes)

    assert NAME not in f"{refused.value!r} {vars(refused.value)} {caplog.text}"
