"""Reads a multipart form into the fields and files of an operation."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

from aiohttp import BodyPartReader, MultipartReader, StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError

from local.openai.call import JsonObject, Upload

_MULTIPART = "multipart/form-data"
# A form has only texts where a JSON body has numbers and booleans.
_JSON_FIELDS = frozenset({"n", "partial_images", "stream"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A form's fields as a JSON body would hold them, and its files."""

    fields: JsonObject
    uploads: tuple[Upload, ...]


def is_form(content_type: str) -> bool:
    """True when the content type is that of a multipart form."""
    return content_type.partition(";")[0].strip().lower() == _MULTIPART


async def read_form(content_type: str, body: bytes) -> Form | None:
    """The form in a body, or None if it is malformed or ends before its last boundary.

    A name loses its `[]`, the mark of a list: one image and a list of one are equal.
    """
    fields: JsonObject = {}
    uploads: list[Upload] = []
    try:
        async for part in _parts(content_type, body):
            if part.name is None:
                return None
            name = part.name.removesuffix("[]")
            content = await part.read()
            if part.filename is None:
                fields[name] = _field_value(name, content.decode())
            else:
                uploads.append(Upload(name=name, size=len(content)))
    except (ValueError, HttpProcessingError):
        return None
    return Form(fields=fields, uploads=tuple(uploads))


async def _parts(content_type: str, body: bytes) -> AsyncIterator[BodyPartReader]:
    # A limit above the body's size keeps the reader from asking a connection to pause.
    stream = StreamReader(BaseProtocol(asyncio.get_running_loop()), limit=len(body) + 1)
    stream.feed_data(body)
    stream.feed_eof()
    reader = MultipartReader({"Content-Type": content_type}, stream)
    while (part := await reader.next()) is not None:
        if not isinstance(part, BodyPartReader):
            raise ValueError("a form has no parts within parts")
        yield part


def _field_value(name: str, text: str) -> object:
    if name not in _JSON_FIELDS:
        return text
    try:
        value: object = json.loads(text)
    except ValueError:
        return text
    return value
