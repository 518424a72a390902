"""Any split of a form's bytes gives every backend the same form."""

import asyncio
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from meter.errors import CallerError
from meter.gateway.request.form import FormBody
from tests.fakes.gateway import FakeRequestBody, FakeSpool
from tests.support.gateway import BOUNDARY, form

KIND = f"multipart/form-data; boundary={BOUNDARY}"
DELIMITER = f"\r\n--{BOUNDARY}".encode()
NAMES = st.sampled_from(["file", "language", "prompt", "image[]", "x.y"])
MODELS = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)
# Bytes that a parser may take for the beginning of a delimiter, and hold back.
VALUES = (
    st.lists(
        st.one_of(
            st.binary(max_size=30), st.sampled_from([b"\r", b"\r\n", b"\r\n--", DELIMITER[:-1]])
        ),
        max_size=6,
    )
    .map(b"".join)
    .filter(lambda value: BOUNDARY.encode() not in value)
)
CUTS = st.lists(st.integers(min_value=0, max_value=900), max_size=12)
EVERY_BYTE = list(range(900))


def _body(fields: list[tuple[str, bytes]], model: str, at: int) -> bytes:
    at = min(at, len(fields))
    return form(*fields[:at], ("model", model.encode()), *fields[at:])


def _chunks(body: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    return [body[a:b] for a, b in pairwise(places)]


def _held(chunks: list[bytes], declared: int | None = None) -> FormBody:
    return FormBody(source=FakeRequestBody(chunks), spool=FakeSpool(), declared_bytes=declared)


async def _sent(body: FormBody, model: str | None) -> bytes:
    return b"".join([part async for part in body.parts(model)])


@given(st.lists(st.tuples(NAMES, VALUES), max_size=4), MODELS, st.integers(0, 4), CUTS, MODELS)
@example([("file", b"\r\n--x-boundary-")], "gpt", 1, EVERY_BYTE, "other")
@example([("file", b"a")], "g", 0, EVERY_BYTE, "a-longer-name")
def test_any_split_of_a_form_gives_the_same_bytes(
    fields: list[tuple[str, bytes]], model: str, at: int, cuts: list[int], own: str
) -> None:
    """Only the model's name differs, and the declared length is that of the bytes."""
    body = _body(fields, model, at)
    before, _, after = body.partition(b'name="model"\r\n\r\n' + model.encode() + DELIMITER)
    renamed = before + b'name="model"\r\n\r\n' + own.encode() + DELIMITER + after

    async def send() -> None:
        held = _held(_chunks(body, cuts), len(body))
        await held.read_model(KIND)

        assert held.model == model
        assert await _sent(held, own) == renamed
        assert await _sent(held, None) == body
        assert (held.length(own), held.length()) == (len(renamed), len(body))

    asyncio.run(send())


@given(st.lists(st.tuples(NAMES, VALUES), max_size=3), MODELS, CUTS, st.lists(st.booleans()))
def test_copies_that_are_sent_at_once_are_the_same(
    fields: list[tuple[str, bytes]], model: str, cuts: list[int], turns: list[bool]
) -> None:
    """An abandoned copy may still run when the next one begins; each has all the bytes."""
    body = _body(fields, model, 1)

    async def send() -> None:
        held = _held(_chunks(body, cuts))
        await held.read_model(KIND)
        one, other = held.parts("one"), held.parts("other")
        taken = [await anext(one if turn else other, b"") for turn in turns]
        rest = [
            b"".join([part for turn, part in zip(turns, taken, strict=True) if turn is which])
            + b"".join([part async for part in copy])
            for which, copy in ((True, one), (False, other))
        ]

        assert rest == [await _sent(held, "one"), await _sent(held, "other")]

    asyncio.run(send())


@given(
    st.lists(st.one_of(st.binary(max_size=40), st.just(DELIMITER), st.just(DELIMITER + b"\r\n")))
)
def test_no_bytes_at_all_do_more_than_be_refused(chunks: list[bytes]) -> None:
    """A caller's bytes are hostile input: a CallerError, or a form."""

    async def read() -> None:
        held = _held(chunks)
        try:
            await held.read_model(KIND)
            await _sent(held, "other")
        except CallerError:
            assert held.error is not None or not held.model

    asyncio.run(read())


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=8))
def test_whether_a_form_is_refused_does_not_depend_on_its_split(
    tail: bytes, cuts: list[int]
) -> None:
    """The part after the model is validated as a whole."""
    opening = form(("model", b"gpt")).removesuffix(DELIMITER + b"--\r\n")
    body = opening + DELIMITER + b"\r\n" + tail + DELIMITER + b"--\r\n"

    async def is_refused(chunks: list[bytes]) -> bool:
        held = _held(chunks)
        try:
            await held.read_model(KIND)
            await _sent(held, None)
        except CallerError:
            return True
        return False

    places = [cut + len(opening) for cut in cuts]

    assert asyncio.run(is_refused([body])) == asyncio.run(is_refused(_chunks(body, places)))
