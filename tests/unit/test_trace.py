"""W3C trace context: which traceparent is valid."""

import pytest

from meter.trace import valid_traceparent

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
VALID = f"00-{TRACE}-{PARENT}-01"


@pytest.mark.parametrize(
    "value",
    [
        VALID,
        f"00-{TRACE}-{PARENT}-00",
        f"00-{TRACE}-{PARENT}-ff",
        f"01-{TRACE}-{PARENT}-01",
        f"cc-{TRACE}-{PARENT}-01-what-the-future-will-be-like",
        f"fe-{TRACE}-{PARENT}-01-",
    ],
)
def test_a_valid_traceparent_is_kept_as_it_is(value: str) -> None:
    """Also of a later version, which may have more behind the flags."""
    assert valid_traceparent(value) == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        "00",
        VALID.upper(),
        f"ff-{TRACE}-{PARENT}-01",
        f"0x-{TRACE}-{PARENT}-01",
        f"0-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}-{PARENT}-01",
        f"00-{TRACE}-{PARENT[:-1]}-01",
        f"00-{TRACE}-{PARENT}-1",
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE}-{PARENT}-01-more",
        f"01-{TRACE}-{PARENT}-01more",
        f"01-{TRACE}-{PARENT}-01-" + "x" * 250,
        f"01-{TRACE}-{PARENT}-01-a\nb",
        f" {VALID}",
        f"{VALID}\n",
        f"{VALID},{VALID}",
        f"00_{TRACE}_{PARENT}_01",
        f"00-{TRACE[:-1]}\u0661-{PARENT}-01",
        None,
        7,
        [VALID],
    ],
    ids=repr,
)
def test_anything_else_is_none(value: object) -> None:
    """W3C Trace Context, section 3.2: lower case, no id of zeros, version 00 of exactly this length."""
    assert valid_traceparent(value) is None
