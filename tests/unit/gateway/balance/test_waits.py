"""The waits that backends name, in headers and in texts."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter.gateway.balance.waits import named_wait_seconds, wait_in, with_wait
from tests.fakes.gateway import START

AZURE_429 = (
    "Your requests to gpt-4o for gpt-4o in Sweden Central have exceeded the token rate limit. "
    "Please retry after 45 seconds."
)


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        (AZURE_429, 45.0),
        ("Please retry after 1 second.", 1.0),
        ("Please try again in 1.2s. Visit https://example.com", 1.2),
        ("Please try again in 6ms.", 0.006),
        ("Try again in 1m30s", 90.0),
        ("Try again in 1 minute, 5 seconds.", 65.0),
        ("Retry your requests after 2 hours", 7200.0),
        ("Please wait 30 seconds and retry.", 30.0),
        ("Please retry after 0 seconds.", None),
        ("Please retry later. 3 minutes are usual.", None),
        ("limit is 100000 tokens per minute, retry with a smaller request", None),
        ("Please retry after 1 hour 20 minutes.", 4800.0),
        ("Please retry after 1 hour and 20 minutes.", 4800.0),
        ("Retry in 2 days", 172_800.0),
        ("Please wait 86,400 seconds.", 86_400.0),
        ("Out of call volume quota. Quota will be replenished in 00:59:12.", 3552.0),
        ("Quota will be replenished in 1.02:00:01.", 93_601.0),
        ("Please try again at 12:00:00 UTC.", None),
        ("At most 100 requests per 60 seconds. Please retry after 20 seconds.", 20.0),
        ("R\u00e9essayez dans 86400 secondes.", 86_400.0),
        ("R\u00e9essayez dans 86\u202f400 secondes.", 86_400.0),
        ("Veuillez r\u00e9essayer dans 5 minutes et 3 secondes", 303.0),
        ("Bitte versuchen Sie es in 86400 Sekunden erneut.", 86_400.0),
        ("Bitte 2 Stunden warten", 7200.0),
        ("H\u00f6chstens 10 Anfragen pro 60 Sekunden.", None),
        ("Vuelva a intentarlo en 1 hora y 20 minutos.", 4800.0),
        ("Tente novamente em 30 segundos", 30.0),
        ("Riprova tra 2 ore", 7200.0),
        ("\u0427\u0435\u0440\u0435\u0437 30 \u0441\u0435\u043a\u0443\u043d\u0434", 30.0),
        ("Spr\u00f3buj ponownie za 2 minuty", 120.0),
        ("\u8bf7\u572886400\u79d2\u540e\u91cd\u8bd5\u3002", 86_400.0),
        (
            "86400 \u79d2\u5f8c\u306b\u518d\u8a66\u884c\u3057\u3066\u304f\u3060\u3055\u3044",
            86_400.0,
        ),
        ("30\ucd08 \ud6c4\uc5d0 \ub2e4\uc2dc \uc2dc\ub3c4\ud558\uc138\uc694", 30.0),
        ("", None),
    ],
)
def test_the_wait_that_a_message_asks_for_is_read(message: str, seconds: float | None) -> None:
    """In the spellings of Azure OpenAI and OpenAI."""
    assert wait_in(message) == seconds


def test_the_wait_in_a_message_can_be_replaced() -> None:
    """Clients read it there too: it must not contradict the headers."""
    text = "Please retry after 86400 seconds. See https://aka.ms/quota"

    assert with_wait(text, 60) == "Please retry after 60 seconds. See https://aka.ms/quota"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Please retry after 1 hour 20 minutes.", "Please retry after 9 seconds."),
        ("R\u00e9essayez dans 86400 secondes.", "R\u00e9essayez dans 9 seconds."),
        ("Bitte in 86400 Sekunden erneut", "Bitte in 9 seconds erneut"),
        ("\u8bf7\u572886400\u79d2\u540e\u91cd\u8bd5", "\u8bf7\u57289 seconds\u540e\u91cd\u8bd5"),
        ("100 calls per 60 seconds; wait 20 s", "100 calls per 60 seconds; wait 9 seconds"),
        ("Try again in 20s. Or wait 1 day.", "Try again in 9 seconds. Or wait 9 seconds."),
        ("Your model gpt-4o-32k took 90 minutes", "Your model gpt-4o-32k took 90 minutes"),
        ("", ""),
    ],
)
def test_only_waits_are_replaced(text: str, told: str) -> None:
    """In any of the languages; rates and other numbers stay."""
    assert with_wait(text, 9) == told


@given(st.text(alphabet="0123456789 ,.:smhd\u79d2retywaifog/", max_size=300))
def test_no_text_breaks_the_reader_of_waits(text: str) -> None:
    """Texts are hostile input."""
    found = wait_in(text)

    assert found is None or 0 < found < math.inf
    assert isinstance(with_wait(text, 1), str)


JUNK = ["", "0", "-1", "-0.5", "soon", "nan", "inf", "-inf", "1e999", "1,5", "0x10", "--", "\u00bd"]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "1500.5"}, 1.5005),
        ({"retry-after": "30"}, 30.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "20s"}, 20.0),
        ({"retry-after": " 20 s "}, 20.0),
        ({"retry-after": "20 seconds"}, 20.0),
        ({"retry-after": "1m30s"}, 90.0),
        ({"retry-after": "250ms"}, 0.25),
        ({"retry-after": "86400"}, 86400.0),
        ({"retry-after-ms": "86400000"}, 86400.0),
        ({"retry-after-ms": "100", "retry-after": "30"}, 0.1),
        ({"retry-after-ms": "0", "retry-after": "30"}, 30.0),
        ({"retry-after-ms": "-1", "retry-after": "30"}, 30.0),
        ({"retry-after-ms": "junk", "retry-after": "30"}, 30.0),
        ({"retry-after": "Mon, 23 Nov 2026 07:30:20 GMT"}, 20.0),
        ({"retry-after": "Mon, 23 Nov 2026 07:30:20 +0000"}, 20.0),
        ({"retry-after": "Mon, 23 Nov 2026 07:30:20 -0000"}, 20.0),
        ({"retry-after": "Mon, 23 Nov 2026 08:30:20 +0100"}, 20.0),
        ({"retry-after": "Monday, 23-Nov-26 07:30:20 GMT"}, 20.0),
        ({"retry-after": "Mon, 23 Nov 2026 07:29:00 GMT"}, None),
        ({"retry-after": "Mon, 32 Nov 2026 07:29:00 GMT"}, None),
        ({"x-ratelimit-reset-requests": "7"}, 7.0),
        ({"x-ratelimit-reset-tokens": "8s"}, 8.0),
        ({"x-rate-limit-reset-tokens": "9"}, 9.0),
        ({"x-ratelimit-reset-tokens": "1m30s"}, 90.0),
        ({"x-ratelimit-reset-tokens": "250ms"}, 0.25),
        ({"x-ratelimit-reset-tokens": "1h0m1.5s"}, 3601.5),
        ({"x-ratelimit-reset-tokens": "0s"}, None),
        ({"x-ratelimit-reset-tokens": "1m30x"}, None),
        ({"x-ratelimit-reset-requests": "7", "x-ratelimit-reset-tokens": "3"}, 7.0),
        ({"x-ratelimit-reset-requests": "0", "x-ratelimit-reset-tokens": "junk"}, None),
        ({"retry-after": "2", "x-ratelimit-reset-tokens": "60"}, 2.0),
        ({"retry-after": "0", "x-ratelimit-reset-tokens": "60"}, 60.0),
        ({}, None),
    ],
    ids=repr,
)
def test_the_first_wait_above_zero_counts(headers: dict[str, str], expected: float | None) -> None:
    """`retry-after-ms`, then `retry-after`, then the largest rate-limit reset."""
    assert named_wait_seconds(tuple(headers.items()), START) == expected


@pytest.mark.parametrize("junk", JUNK, ids=repr)
@pytest.mark.parametrize("name", ["retry-after-ms", "retry-after", "x-ratelimit-reset-requests"])
def test_a_wait_that_is_no_positive_number_is_no_wait(name: str, junk: str) -> None:
    """Zero, negative, not finite and junk."""
    assert named_wait_seconds(((name, junk),), START) is None


@pytest.mark.parametrize(
    "date",
    [
        "Mon, 01 Jan 2026 00:00:00 +99999999999999999999",
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "Mon, 99999999999999999999 Jan 2027 00:00:00 GMT",
    ],
)
def test_an_absurd_date_is_no_wait(date: str) -> None:
    """What a date parser cannot hold must not fail the call."""
    assert named_wait_seconds((("retry-after", date),), START) is None


@pytest.mark.parametrize("text", ["999999999", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_wait_is_at_most_a_day(text: str) -> None:
    """A backend that asks for more is asked again after a day."""
    assert named_wait_seconds((("retry-after", text),), START) == 86_400.0
