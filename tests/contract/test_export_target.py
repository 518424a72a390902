"""`meter.reports.export.target`: memory, a local folder and a container on Azurite keep the same promises."""

import asyncio
import io
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
from azure.storage.blob.aio import ContainerClient

from local.child import free_ports
from meter.adapters.blobs.container import BLOB_OPTIONS, BLOCK_BYTES, BlobContainer
from meter.adapters.blobs.folder import LocalFolder
from meter.errors import ExportHeld, ExportUnavailable
from meter.reports.export.layout import LOCK
from meter.reports.export.target import ExportTarget
from tests.fakes.export import MemoryTarget

PATH = "v1/usage/date=2026-11-23/usage.csv.gz"


class Broken(io.BytesIO):
    """Content that cannot be read to its end, as of a disk that fails."""

    def read(self, size: int | None = -1, /) -> bytes:
        raise OSError(5, "Input/output error")


@pytest.fixture(params=["memory", "folder", "azurite"])
async def target(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ExportTarget]:
    if request.param == "memory":
        yield MemoryTarget()
    elif request.param == "folder":
        yield LocalFolder(tmp_path / "not" / "there yet")
    else:
        container = container_on(request.getfixturevalue("azurite"))
        yield container
        await container.close()


def container_on(connection_string: str, name: str | None = None) -> BlobContainer:
    """A container of the test's own, which is not there yet."""
    client = ContainerClient.from_connection_string(
        connection_string, name or f"exports-{uuid4().hex}", **BLOB_OPTIONS
    )
    return BlobContainer(client)


async def test_a_file_is_read_as_it_was_put(target: ExportTarget) -> None:
    """The place is made when it is needed."""
    async with target.hold() as folder:
        version = await folder.put(PATH, io.BytesIO(b"abc"), replaces=None)
        found = await folder.read(PATH)

    assert found is not None
    assert found.data == b"abc"
    assert found.version == version


async def test_a_file_that_is_not_there_is_none(target: ExportTarget) -> None:
    """Neither reading nor deleting it is an error, and no path is listed."""
    async with target.hold() as folder:
        await folder.delete(PATH)

        assert await folder.read(PATH) is None
        assert await folder.paths("v1/") == []


async def test_a_replaced_file_has_a_new_version(target: ExportTarget) -> None:
    """The second content is there, under the same path, and only once."""
    async with target.hold() as folder:
        first = await folder.put(PATH, io.BytesIO(b"one"), replaces=None)
        second = await folder.put(PATH, io.BytesIO(b"two"), replaces=first)
        found = await folder.read(PATH)

        assert first != second
        assert found is not None
        assert found.data == b"two"
        assert await folder.paths("v1/") == [PATH]


async def test_a_version_that_was_replaced_is_refused(target: ExportTarget) -> None:
    """Who read an older manifest must not put one on top of the newer."""
    async with target.hold() as folder:
        first = await folder.put(PATH, io.BytesIO(b"one"), replaces=None)
        await folder.put(PATH, io.BytesIO(b"two"), replaces=None)

        with pytest.raises(ExportHeld):
            await folder.put(PATH, io.BytesIO(b"three"), replaces=first)
        found = await folder.read(PATH)
        assert found is not None
        assert found.data == b"two"


async def test_content_of_many_blocks_arrives_whole(target: ExportTarget) -> None:
    """More than one block, and no multiple of it."""
    content = bytes(range(256)) * (2 * BLOCK_BYTES // 256) + b"end"
    async with target.hold() as folder:
        await folder.put(PATH, io.BytesIO(content), replaces=None)
        found = await folder.read(PATH)

    assert found is not None
    assert found.data == content


async def test_paths_are_listed_by_their_beginning(target: ExportTarget) -> None:
    """In order, without the lock."""
    async with target.hold() as folder:
        for path in ("v1/b", "v1/a/c", "v2/a"):
            await folder.put(f"{path}.json", io.BytesIO(b"{}"), replaces=None)

        assert await folder.paths("v1/") == ["v1/a/c.json", "v1/b.json"]


async def test_a_deleted_file_is_gone(target: ExportTarget) -> None:
    """Its neighbours are not."""
    async with target.hold() as folder:
        await folder.put("v1/a.json", io.BytesIO(b"a"), replaces=None)
        await folder.put("v1/b.json", io.BytesIO(b"b"), replaces=None)
        await folder.delete("v1/a.json")

        assert await folder.paths("v1/") == ["v1/b.json"]


async def test_one_writer_at_a_time(target: ExportTarget) -> None:
    """The second is refused while the first holds the place, and may have it afterwards."""
    async with target.hold():
        with pytest.raises(ExportHeld):
            async with target.hold():
                pass
    async with target.hold() as folder:
        await folder.put(PATH, io.BytesIO(b"abc"), replaces=None)


@pytest.mark.parametrize("target", ["folder", "azurite"], indirect=True)
async def test_content_that_breaks_off_changes_nothing(target: ExportTarget) -> None:
    """The old file stays, and no part of the new one is listed."""
    async with target.hold() as folder:
        await folder.put(PATH, io.BytesIO(b"old"), replaces=None)
        with pytest.raises(ExportUnavailable):
            await folder.put(PATH, Broken(b"new"), replaces=None)
        found = await folder.read(PATH)

        assert found is not None
        assert found.data == b"old"
        assert await folder.paths("v1/") == [PATH]


async def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    """The file that was meant, and the system's own words; the same goes for a folder that is a file."""
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "usage").write_bytes(b"no folder")
    async with LocalFolder(tmp_path).hold() as folder:
        with pytest.raises(ExportUnavailable, match=r"date=2026-11-23/usage\.csv\.gz: "):
            await folder.put(PATH, io.BytesIO(b"abc"), replaces=None)

        assert await folder.paths("v1/") == ["v1/usage"]


async def test_what_a_dead_writer_left_is_cleared(tmp_path: Path) -> None:
    """A part that was not renamed is no file of the export."""
    part = tmp_path / "v1" / ".manifest.json.part"
    part.parent.mkdir()
    part.write_bytes(b"half")
    async with LocalFolder(tmp_path).hold():
        assert not part.exists()


def test_a_dead_process_lets_go_of_its_folder(tmp_path: Path) -> None:
    """The system releases the lock, however the process ended."""
    program = (
        "import asyncio, os, signal, sys; from pathlib import Path\n"
        "from meter.adapters.blobs.folder import LocalFolder\n"
        "async def main():\n"
        "    async with LocalFolder(Path(sys.argv[1])).hold():\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], timeout=60)

    async def hold() -> bool:
        async with LocalFolder(tmp_path).hold():
            return True

    assert done.returncode == -9
    assert (tmp_path / LOCK).exists()
    assert asyncio.run(hold())


async def test_a_container_that_does_not_answer_is_unavailable(azurite: str) -> None:
    """The address is in the message; a key is not."""
    elsewhere = re.sub(
        r"(BlobEndpoint=http://127\.0\.0\.1):\d+", rf"\1:{free_ports(1)[0]}", azurite
    )
    client = ContainerClient.from_connection_string(
        elsewhere, "exports", **{**BLOB_OPTIONS, "retry_total": 0}
    )
    container = BlobContainer(client)
    try:
        with pytest.raises(ExportUnavailable, match="/exports: ServiceRequestError"):
            async with container.hold():
                pass
    finally:
        await container.close()
