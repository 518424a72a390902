"""The stand-in reads any complete form, and never takes a part of one for the whole."""

import asyncio
import io
from typing import Any

import pytest
from aiohttp import FormData
from hypothesis import example, given
from hypothesis import strategies as st

from local.openai.call import Upload
from local.openai.form import Form, is_form, read_form

TYPE = "multipart/form-data; boundary=B"
FILES = st.binary(max_size=200)
# The reader warns when it skips a header, such as one without an end.
BROKEN_HEADERS = pytest.mark.filterwarnings("ignore::aiohttp.BadContentDispositionHeader")


def encoded(fields: dict[str, str], files: list[tuple[str, bytes]]) -> tuple[str, bytes]:
    """Content type and body of a form as a client sends it."""
    form = FormData(fields, default_to_multipart=True)
    for name, content in files:
        form.add_field(name, io.BytesIO(content), filename="any.bin")
    payload: Any = form()
    return str(payload.headers["content-type"]), asyncio.run(payload.as_bytes())


def read(content_type: str, body: bytes) -> Form | None:
    return asyncio.run(read_form(content_type, body))


@given(prompt=st.text(st.characters(codec="utf-8"), max_size=30), files=st.lists(FILES, max_size=3))
@example(prompt="", files=[b""])
@example(prompt="\r\n--", files=[b"\r\n--B--\r\n", b"\r", b"\n"])
def test_a_form_is_read_as_it_was_written(prompt: str, files: list[bytes]) -> None:
    """Fields keep their text and files their size, for any content."""
    content_type, body = encoded({"prompt": prompt}, [("image[]", file) for file in files])

    form = read(content_type, body)
    assert form is not None
    assert form.fields == {"prompt": prompt}
    assert form.uploads == tuple(Upload(name="image", size=len(file)) for file in files)


@BROKEN_HEADERS
@given(data=st.data(), file=FILES)
def test_a_form_cut_anywhere_is_refused(data: st.DataObject, file: bytes) -> None:
    """Without its last boundary a form may lack anything, so none of it is used."""
    content_type, body = encoded({"model": "whisper"}, [("file", file)])
    end = len(body) - len("--\r\n")
    cut = data.draw(st.integers(min_value=0, max_value=end))

    assert read(content_type, body[:cut]) is None


def test_a_large_file_is_read() -> None:
    """Only the stand-in's own limit on bodies bounds a file."""
    content_type, body = encoded({}, [("file", bytes(5_000_000))])

    form = read(content_type, body)
    assert form is not None
    assert form.uploads == (Upload(name="file", size=5_000_000),)


def test_numbers_and_truth_values_are_read_as_such() -> None:
    """This holds for fields that are not texts in JSON; others stay texts."""
    fields = {"stream": "true", "n": "2", "partial_images": "many", "prompt": "3"}
    form = read(*encoded(fields, []))

    assert form is not None
    assert form.fields == {"stream": True, "n": 2, "partial_images": "many", "prompt": "3"}


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"--B\r\n\r\nx\r\n--B--\r\n"),
        (TYPE, b""),
        (TYPE, b"{}"),
        (TYPE, b"--C\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n--C--\r\n"),
        (TYPE, b"--B\r\nnonsense\r\n\r\nx\r\n--B--\r\n"),
        (TYPE, b"--B\r\nContent-Type: text/plain\r\n\r\nx\r\n--B--\r\n"),
        (TYPE, b"--B\r\nContent-Type: multipart/mixed; boundary=D\r\n\r\n--D--\r\n--B--\r\n"),
        (TYPE, b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\n\xff\r\n--B--\r\n'),
    ],
)
def test_a_malformed_form_is_refused(content_type: str, body: bytes) -> None:
    """No or another boundary, no readable header, no name, nested parts, invalid UTF-8."""
    assert read(content_type, body) is None


@pytest.mark.parametrize(
    ("content_type", "is_one"),
    [(TYPE, True), ("Multipart/Form-Data", True), ("application/json", False), ("", False)],
)
def test_a_form_is_recognised_by_its_content_type(content_type: str, is_one: bool) -> None:
    """In upper or lower case, with or without parameters."""
    assert is_form(content_type) is is_one
