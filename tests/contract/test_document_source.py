"""Documents in files and in blobs: the same contract for both, the blob in Azurite."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from azure.core.exceptions import ResourceExistsError
from azure.storage.blob.aio import ContainerClient

from meter.adapters.documents.blob import build_blob_source
from meter.adapters.documents.file import FileSource
from meter.config.stored.address import blob_place
from meter.config.values import AzureEndpoint
from meter.reloading.document import DocumentUnread
from meter.wiring.stored.documents import ClosableSource


@dataclass
class Place:
    """A source, and where its document can be written and deleted."""

    source: ClosableSource
    path: Path | None
    container: ContainerClient | None

    async def write(self, data: bytes) -> None:
        if self.path is not None:
            self.path.write_bytes(data)
        if self.container is not None:
            await self.container.upload_blob("backends.json", data, overwrite=True)

    async def delete(self) -> None:
        if self.path is not None:
            self.path.unlink()
        if self.container is not None:
            await self.container.delete_blob("backends.json")


@pytest.fixture(params=["file", "blob"])
async def place(
    request: pytest.FixtureRequest, tmp_path: Path, azurite: str
) -> AsyncIterator[Place]:
    if request.param == "file":
        path = tmp_path / "backends.json"
        yield Place(FileSource(str(path)), path, None)
        return
    async with ContainerClient.from_connection_string(azurite, "config") as container:
        try:
            await container.create_container()
        except ResourceExistsError:
            async for name in container.list_blob_names():
                await container.delete_blob(name)
        address = f"{container.url.partition('?')[0]}/backends.json"
        source = build_blob_source(address, AzureEndpoint(connection_string=azurite))
        yield Place(source, None, container)
        await source.close()


async def test_a_document_is_read_with_its_version(place: Place) -> None:
    """An unchanged one is not given again."""
    await place.write(b'{"one": 1}')
    found = await place.source.read(None)
    assert found is not None
    again = await place.source.read(found.version)

    assert (found.text, again) == ('{"one": 1}', None)


async def test_a_changed_document_has_another_version(place: Place) -> None:
    """Also one of the same length."""
    await place.write(b"one")
    first = await place.source.read(None)
    assert first is not None
    await place.write(b"two")
    second = await place.source.read(first.version)

    assert second is not None
    assert (second.text, second.version != first.version) == ("two", True)


@pytest.mark.parametrize("data", [None, b"\xff\xfe"])
async def test_what_cannot_be_read_says_so(place: Place, data: bytes | None) -> None:
    """A document that is gone, or is no UTF-8; a later one is read."""
    await place.write(b"one")
    if data is None:
        await place.delete()
    else:
        await place.write(data)
    with pytest.raises(DocumentUnread, match=r"backends\.json"):
        await place.source.read(None)
    await place.write("\ufeffzwei".encode())
    found = await place.source.read("other")

    assert found is not None
    assert found.text == "zwei"


@pytest.mark.parametrize(
    ("address", "is_one"),
    [
        ("https://a.blob.core.windows.net/config/b.json", True),
        ("https://a.blob.core.windows.net/config/deep/b.json", True),
        ("https://a.z01.blob.storage.azure.net/config/b.json", True),
        ("http://127.0.0.1:10000/account/config/b.json", True),
        ("https://a.blob.core.windows.net/config", False),
        ("https://a.blob.core.windows.net/config/", False),
        ("https://a.blob.core.windows.net/config/b.json?sig=x", False),
        ("https://a.table.core.windows.net/config/b.json", False),
        ("http://a.blob.core.windows.net/config/b.json", False),
        ("http://127.0.0.1:10000/account/config", False),
    ],
)
def test_a_blobs_address_is_told_from_others(address: str, is_one: bool) -> None:
    """Without a signature, which would be a secret in a setting."""
    assert (blob_place(address) is not None) is is_one
