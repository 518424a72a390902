"""Bodies as clients frame and spell them reach a backend as they were, of any size up to the limits."""

import json
from collections.abc import Sequence
from copy import replace

import pytest

from tests.contract.test_recorded_clients import front_door
from tests.support.gateway import token
from tests.support.replay import Answered, Arrived, recorded_requests, recording_backend, send

LIMIT = 1_000_000
V1_CHAT, V1_HEARD = "/openai/v1/chat/completions", "/openai/v1/audio/transcriptions"
BOUNDARY = "ks=APBNvaXkEInwgif4k=_12YySPBdQ9zr3qj=q"


def chunked(body: bytes, size: int) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return framed + b"0\r\n\r\n"


async def sent(
    path: str, body: bytes, kind: str, *, chunk: int | None = None
) -> tuple[Answered, Sequence[Arrived]]:
    """The answer to one request, and what arrived."""
    framing = f"content-length: {len(body)}" if chunk is None else "transfer-encoding: chunked"
    head = (
        f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token()}\r\n"
        f"content-type: {kind}\r\n{framing}\r\n\r\n"
    )
    data = head.encode() + (body if chunk is None else chunked(body, chunk))
    async with recording_backend() as made, front_door(made) as address:
        return await send(address, data), made.arrived


def form(*parts: bytes, boundary: str = BOUNDARY) -> bytes:
    line = b"--" + boundary.encode()
    return b"".join(line + b"\r\n" + part + b"\r\n" for part in parts) + line + b"--\r\n"


MODEL = b"Content-Disposition: form-data; name=model\r\n\r\nwhisper"
FILE = b'Content-Type: audio/wav\r\nContent-Disposition: form-data; name=file; filename="a b.wav"\r\n\r\n'
NAMED = (
    b"Content-Disposition: form-data; name=file; "
    b"filename=\"=?utf-8?B?Z3LDvG4ud2F2?=\"; filename*=utf-8''gr%C3%BCn.wav\r\n"
    b"Content-Type: audio/wav\r\n\r\n"
)
FORMS = {
    "model behind the file": form(FILE + bytes(2_000), MODEL),
    "model before it": form(MODEL, FILE + bytes(2_000)),
    "extended file name": form(NAMED + b"RIFF", MODEL),
    "type before disposition": form(
        b"Content-Type: text/plain; charset=utf-8\r\n" + MODEL, FILE + b"RIFF"
    ),
    "long file": form(FILE + bytes(range(256)) * 3_000, MODEL),
}


@pytest.mark.parametrize("chunk", [None, 1_000_000, 4_093], ids=["length", "one chunk", "chunks"])
@pytest.mark.parametrize("body", FORMS.values(), ids=list(FORMS))
async def test_a_form_arrives_as_it_was_written(body: bytes, chunk: int | None) -> None:
    """Unquoted names, the model anywhere, a quoted boundary with `=`, in either framing."""
    kind = f'multipart/form-data; boundary="{BOUNDARY}"'
    answer, arrived = await sent(V1_HEARD, body, kind, chunk=chunk)

    assert answer.status == 200, answer
    assert [(each.body, each.headers["content-type"]) for each in arrived] == [(body, kind)]


@pytest.mark.parametrize("size", [60, 70_000, LIMIT])
@pytest.mark.parametrize("chunk", [7, 65_536, LIMIT])
async def test_json_in_chunks_arrives_up_to_the_limit(size: int, chunk: int) -> None:
    """One package sends every body so, however short."""
    if size > 100_000 and chunk < 100:
        chunk = 1_021  # as many small chunks as are worth sending
    body = b'{"model":"gpt-4o","x":"%b"}' % (b"a" * (size - 25))
    answer, arrived = await sent(V1_CHAT, body, "application/json", chunk=chunk)

    assert len(body) == size
    assert (answer.status, [each.body for each in arrived]) == (200, [body])


@pytest.mark.parametrize("path", [V1_CHAT, V1_HEARD])
async def test_without_a_length_the_limit_is_the_same(path: str) -> None:
    """413, and no backend gets the half."""
    kind = "application/json" if path == V1_CHAT else f'multipart/form-data; boundary="{BOUNDARY}"'
    long = b"a" * (LIMIT + 1)
    body = b'{"x":"%b"}' % long if path == V1_CHAT else form(FILE + long, MODEL)
    answer, arrived = await sent(path, body, kind, chunk=65_536)

    assert (answer.status, answer.error["code"], arrived) == (413, "RequestTooLarge", [])


async def test_a_recorded_form_finds_its_model_under_another_name() -> None:
    """Where the backend's own name differs, that alone changes in what .NET sends."""
    forms = [
        each
        for each in recorded_requests()
        if each.target == V1_HEARD and b"name=model" in each.body and each.has_credential
    ]
    async with recording_backend() as made, front_door(made, own="-eu") as address:
        for each in forms:
            changed = replace(each, body=each.body)
            assert (await send(address, changed.on_the_wire(token()))).status == 200

    assert len(forms) >= 2
    for each, arrived in zip(forms, made.arrived, strict=True):
        model = each.body.split(b"name=model\r\n\r\n")[1].split(b"\r\n")[0]
        assert arrived.body == each.body.replace(
            b"\r\n" + model + b"\r\n", b"\r\n" + model + b"-eu\r\n"
        )


async def test_an_option_is_added_to_a_chunked_body_too() -> None:
    """The usage that a stream is asked for; the body then has a length."""
    body = b'{"model":"gpt-4o","stream":true,"messages":[]}'
    _, arrived = await sent(V1_CHAT, body, "application/json", chunk=5)

    assert json.loads(arrived[0].body)["stream_options"] == {"include_usage": True}
