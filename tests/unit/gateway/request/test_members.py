"""Which bodies are looked at in one step, and how much a step does of the others."""

import pytest

from meter.gateway.request.body import json_at_once, read_json
from meter.gateway.request.members import members_at_once

MIB = 1_048_576
MOST_VALUES = 6_000  # of one step


def filled(opening: bytes, unit: bytes, closing: bytes, size: int) -> bytes:
    return opening + unit * ((size - len(opening) - len(closing)) // len(unit)) + closing


def dense(unit: bytes, size: int) -> bytes:
    return filled(b'{"model":"gpt","x":[', unit, b"0]}", size)


DENSE = pytest.mark.parametrize(
    "unit", [b"{},", b"[[]],", b'{"a":0},', b"0,", b"[ ] , ", b"0,\n\t\r    "]
)


@DENSE
def test_a_long_body_of_brackets_commas_and_blanks_is_not_read_at_once(unit: bytes) -> None:
    """It would take long; a shorter one does not."""
    assert members_at_once(dense(unit, 2 * MIB)) is None
    assert members_at_once(dense(unit, MIB // 2)) is not None


@pytest.mark.parametrize(
    "unit",
    [
        b'\\tif word == \\"a\\\\b\\":\\n',
        b"iVBORw0KGgoAAAANSUhEUgAA",
        b"A sentence, with a comma and (perhaps) [more]. ",
        "\u4f60\u597d".encode(),
    ],
    ids=["code", "image", "prose", "not ASCII"],
)
def test_an_ordinary_long_body_is_read_at_once(unit: bytes) -> None:
    """Up to 2 MiB: texts, code and images."""
    body = filled(b'{"model":"gpt","messages":[{"content":"', unit, b'"}]}', 2 * MIB)

    assert members_at_once(body) is not None


def test_a_first_request_of_a_coding_agent_is_read_in_one_step() -> None:
    """90 KB of code with a few members; with 131,072 bytes it may be, beyond that it is read in turns."""
    code = b'\\tif word == \\"a\\\\b\\":\\n'
    bodies = [
        filled(b'{"model":"gpt","messages":[{"content":"', code, b'"}]}', size)
        for size in (90_000, 131_072, 131_200)
    ]

    assert [json_at_once(body) is not None for body in bodies] == [True, True, False]


def test_members_by_the_ten_thousand_are_not_read_in_one_step() -> None:
    """They would take 4 ms, and be refused as too many in the end."""
    members = ",".join(f'"{number:x}":0' for number in range(13_000))

    assert json_at_once(f'{{"model":"gpt",{members}}}'.encode()) is None
    assert members_at_once(f'{{"model":"gpt",{members}}}'.encode()) is None


def test_no_body_is_laid_around_what_is_looked_at() -> None:
    """Harmless bytes at fixed places hide nothing: the places differ from process to process."""
    hiding = b'"aaaaa",' + b"{}," * 167  # as long as the distance of these places

    bodies = [
        filled(b'{"model":"%04d","x":[' % number, hiding, b"0]}", 2 * MIB) for number in range(6)
    ]

    assert any(members_at_once(body) is None for body in bodies)


@DENSE
def test_no_step_reads_more_than_so_many_values(unit: bytes) -> None:
    """So a step takes a few milliseconds, whatever the body is made of."""
    body = dense(unit, 3 * MIB)

    steps = sum(1 for _ in read_json(body))

    assert body.count(b",") / steps < MOST_VALUES
