"""Every 429 and 503 tells a wait that each client can read, and sleep through."""

from datetime import timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis.strategies import floats, none, one_of, sampled_from

from meter.errors import (
    BadRequest,
    CallerError,
    EncodingRefused,
    Forbidden,
    MethodNotAllowed,
    NotServed,
    Overloaded,
    TooLarge,
    Unauthenticated,
    UpgradeRefused,
)
from meter.gateway.http import INTERNAL_ERROR, NO_KEYS, NOT_CONFIGURED, error_answer
from tests.fakes.gateway import START, FakeUpstream, json_answer
from tests.support.gateway import Door, backend, door, error_of, headers_of

DATE, DAY = (format_datetime(START + timedelta(seconds=n), usegmt=True) for n in (7, 86_400))
PAST = format_datetime(START - timedelta(seconds=7), usegmt=True)


def told(headers: dict[str, str]) -> int:
    """The wait that an answer tells: the same in both headers."""
    seconds = headers["retry-after"]
    assert seconds.isdigit()
    assert 1 <= int(seconds) <= 60
    assert headers["retry-after-ms"] == f"{seconds}000"
    return int(seconds)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("named", "wait"),
    [
        ((("retry-after", "7"),), 7),
        ((("retry-after", "1.5"),), 2),
        ((("retry-after-ms", "300"),), 1),
        ((("retry-after-ms", "2500"),), 3),
        ((("retry-after", DATE),), 7),
        ((("retry-after", "86400"),), 60),
        ((("retry-after", DAY),), 60),
        ((("retry-after-ms", "86400000"),), 60),
        ((("retry-after-ms", "200"), ("retry-after", "3")), 1),
        ((("retry-after-ms", "0"), ("retry-after", "3")), 3),
        ((("retry-after", "0"),), None),
        ((("retry-after", "-1"),), None),
        ((("retry-after", PAST),), None),
        ((("retry-after", "junk"),), None),
        ((("retry-after", ""),), None),
        ((("retry-after", "inf"),), None),
        ((), None),
    ],
    ids=str,
)
async def test_a_backends_own_wait_is_told_in_whole_seconds(
    status: int, named: tuple[tuple[str, str], ...], wait: int | None
) -> None:
    """In both headers the same, whatever form the backend chose; its status and code stay."""
    words = b'{"error":{"code":"its-own","message":"Please retry after 900 seconds."}}'
    answer = await door(json_answer(status, words, *named)).answer()

    seconds = told(headers_of(answer))
    assert (answer.status, error_of(answer)["code"]) == (status, "its-own")
    # A throttled backend is asked again after 3 s at most, and its caller is told when.
    assert wait is None or seconds == (min(wait, 3) if status == 429 else wait)
    assert f"retry after {seconds} seconds" in str(error_of(answer)["message"])
    assert answer.headers.count(("retry-after", str(seconds))) == 1


async def test_while_a_backend_cools_down_the_wait_is_told_too() -> None:
    """By the gateway alone, without a call to the backend, and shorter each time."""
    made = door(json_answer(429, b"{}", ("retry-after", "30")))
    first = await made.answer()
    made.clock.advance(0.4)
    second = await made.answer()

    assert [told(headers_of(answer)) for answer in (first, second)] == [3, 3]
    assert len(made.upstream.requests) == 1


async def test_a_throttles_advice_is_kept() -> None:
    """A quota that is used up is not helped by a wait: the backend says so."""
    spent = b'{"error":{"code":"insufficient_quota","message":"You exceeded your quota."}}'
    other = json_answer(500, b"{}")
    throttled = json_answer(429, spent, ("x-should-retry", "false"))
    upstream = FakeUpstream({"a": [throttled], "b": [other]})
    made = Door(upstream, [backend("a"), backend("b", priority=2)])
    answer = await made.answer()

    assert (answer.status, error_of(answer)["code"]) == (429, "insufficient_quota")
    assert headers_of(answer)["x-should-retry"] == "false"
    assert told(headers_of(answer)) >= 1


@given(
    status=sampled_from([429, 503]),
    wait=one_of(none(), floats(min_value=0, max_value=1e9)),
)
def test_any_wait_is_told_within_a_minute(status: int, wait: float | None) -> None:
    """Rounded up, so that no caller returns too early."""
    seconds = told(
        headers_of(error_answer(CallerError("x", status=status, retry_after_seconds=wait)))
    )

    assert seconds >= min(wait or 1, 60)


@pytest.mark.parametrize("error", [NO_KEYS, NOT_CONFIGURED, CallerError("x", status=503)], ids=str)
def test_what_the_gateway_lacks_has_a_wait_as_well(error: CallerError) -> None:
    """Keys, settings, backends."""
    assert told(headers_of(error_answer(error))) >= 1


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (BadRequest("x"), "false"),
        (Forbidden("x", reason="roles"), "false"),
        (NotServed("x"), "false"),
        (MethodNotAllowed(["GET"]), "false"),
        (EncodingRefused("x"), "false"),
        (TooLarge("x"), "false"),
        (TooLarge("x", status=431), "false"),
        (Unauthenticated("x"), None),
        (UpgradeRefused("x"), None),
        (TooLarge("x", status=408), None),
        (TooLarge("x", status=400), None),
        (Overloaded("x", retry_after_seconds=1), None),
        (CallerError("x", status=502), None),
        (INTERNAL_ERROR, None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_what_no_wait_can_help_is_not_to_be_repeated(
    error: CallerError, advice: str | None
) -> None:
    """Some agents repeat 400 and 403 for half a minute; upon 401 they fetch a new token."""
    headers = headers_of(error_answer(error))

    assert headers.get("x-should-retry") == advice
    assert ("retry-after" in headers) is (error.status in {429, 503})
