"""A form that is accepted has the same `model` for other parsers: Werkzeug's, aiohttp's, email's."""

import asyncio
import io
import random
import warnings
from collections.abc import Callable
from email.parser import BytesParser
from email.policy import HTTP
from typing import cast

import pytest
from aiohttp import MultipartReader, StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.multipart import BodyPartReader
from werkzeug.formparser import MultiPartParser

from meter.errors import CallerError
from meter.gateway.request.form import FormBody
from meter.gateway.request.route import is_deployment_name
from tests.fakes.gateway import FakeRequestBody, FakeSpool
from tests.support.gateway import BOUNDARY, form

KIND = f"multipart/form-data; boundary={BOUNDARY}"
DELIMITER = f"--{BOUNDARY}".encode()
PIECES = [
    *(DELIMITER, DELIMITER + b"--", b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"--", b"\r\n ", b"\x00"),
    *(b"gpt-4o", b"cheap", b" ", b"\t", b":", b";", b";;", b"=", b'"', b"\\", b'\\"', b"X: y"),
    b'Content-Disposition: form-data; name="model"',
    b"content-disposition: form-data; name=model",
    b'Content-Disposition: form-data; name="a"',
    b'Content-Disposition: form-data; x="\\"; name="model[]"; y="',
    b'Content-Disposition: attachment; name="model"',
    b'Content-Disposition: form-data, name="model"',
    *(b"Content-Disposition:", b"Content-Type: text/plain", b"Content-Transfer-Encoding: base64"),
    *(b'; name="model"', b"; NAME=model", b'; name = "model"', b";name*=utf-8''model"),
    *(b'; filename="model"', b"; filename*=utf-8''m", b'; x="a; name=model"', b"; x=a b; name=z"),
]


def ours(body: bytes) -> str | None:
    """The model; None where the form is refused, or names nothing that is served."""

    async def read() -> str | None:
        held = FormBody(source=FakeRequestBody([body]), spool=FakeSpool(), declared_bytes=None)
        try:
            await held.read_model(KIND)
            _ = [part async for part in held.parts()]
        except CallerError:
            return None
        return held.model if is_deployment_name(held.model) else None

    return asyncio.run(read())


def werkzeugs(body: bytes) -> list[str]:
    values, files = MultiPartParser().parse(io.BytesIO(body), BOUNDARY.encode(), len(body))
    return [*values.getlist("model"), *(file.read().decode() for file in files.getlist("model"))]


def aiohttps(body: bytes) -> list[str]:
    async def read() -> list[str]:
        stream = StreamReader(BaseProtocol(asyncio.get_running_loop()), limit=65_536)
        stream.feed_data(body)
        stream.feed_eof()
        found = []
        reader = MultipartReader({"Content-Type": KIND}, stream)
        while isinstance(part := await reader.next(), BodyPartReader):
            value = (await part.read()).decode()
            found += [value] if part.name == "model" else []
        return found

    return asyncio.run(read())


def emails(body: bytes) -> list[str]:
    head = f"Content-Type: {KIND}\r\n\r\n".encode()
    message = BytesParser(policy=HTTP).parsebytes(head + body)
    return [
        cast(bytes, part.get_payload(decode=True)).decode()
        for part in message.iter_parts()
        if part.get_param("name", header="content-disposition") == "model"
    ]


PARSERS: list[Callable[[bytes], list[str]]] = [werkzeugs, aiohttps, emails]


def agrees(parser: Callable[[bytes], list[str]], body: bytes, model: str) -> bool:
    """A parser that refuses a form serves nothing."""
    try:
        return parser(body) == [model]
    except Exception:
        return True


def mutated(dice: random.Random) -> bytes:
    """A form to which up to three odd things have happened, mostly at the ends of its tokens."""
    names = dice.sample(["model", "a", "file"], 3)
    body = form(*[(name, b"gpt" if name == "model" else b"v") for name in names])
    for _ in range(dice.randint(1, 3)):
        ends = [at for at in range(len(body)) if body[at : at + 1] in b'\r"-:;=']
        at = dice.choice(ends) + dice.choice([0, 0, 1, 2])
        if dice.random() < 0.7:
            pieces = b"".join(dice.choice(PIECES) for _ in range(dice.randint(1, 4)))
            body = body[:at] + pieces + body[at:]
        else:
            body = body[:at] + body[at + dice.randint(1, 4) :]
    return body


@pytest.mark.parametrize("seed", range(3))
def test_other_parsers_find_the_same_model(seed: int) -> None:
    """Whatever is accepted, of hundreds of mutated forms."""
    dice = random.Random(seed)
    forms = [mutated(dice) for _ in range(300)]
    accepted = [(body, model) for body in forms if (model := ours(body)) is not None]

    with warnings.catch_warnings(action="ignore"):
        differ = [
            (parser.__name__, model, body)
            for body, model in accepted
            for parser in PARSERS
            if not agrees(parser, body, model)
        ]

    assert len(accepted) > 10
    assert differ == []
