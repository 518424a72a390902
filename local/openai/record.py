"""The account's own record of every call that reached it: what Azure would bill.

Kept in memory and, if a file is named, as JSON lines. A line is written before the last byte of the
answer, so the call of a received answer is always in the record. When the end fails after that, a
second line with the same id corrects the first: the last line of an id counts.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from local.openai.call import JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """One call; `id` is the answer's x-request-id, `status` is None without an answer.

    `usage` is what the account computed, also for a caller that disconnected before receiving it, in
    the form that the answer tells it; `counts` is what is billed, by the names of the usage event,
    without the zeros. `tools` has the `deployment`, `model` and `counts` of image tools. Of speech as
    bytes and of DALL-E's images, which report no tokens, `counts` has the characters and the images.
    `requested_tier` is the body's word, `service_tier` the answer's; `spilled_from` is the deployment of
    which a fault's headers say that its traffic came here.
    `request_headers` are names without values, so the record holds no secret.
    """

    id: str
    at: str
    operation: str | None
    deployment: str | None
    model: str | None
    status: int | None
    streaming: bool
    completed: bool
    usage: JsonObject | None
    caller_subject: str | None
    api_version: str | None
    request_headers: tuple[str, ...]
    body_sha256: str
    counts: Mapping[str, int] = field(default_factory=dict)
    requested_tier: str | None = None
    service_tier: object = None
    spilled_from: str | None = None
    tools: tuple[JsonObject, ...] = ()


class CallLog:
    """The records in order of arrival; those already in the file are read first."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._by_id: dict[str, CallRecord] = {}
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._by_id = {record.id: record for record in _read(path)}

    def put(self, record: CallRecord) -> None:
        """Adds a record, or replaces the one with its id."""
        if self._by_id.get(record.id) == record:
            return
        self._by_id[record.id] = record
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(record)) + "\n")

    def as_json(self) -> list[JsonObject]:
        """Every record as a JSON object."""
        return [asdict(record) for record in self._by_id.values()]

    def clear(self) -> None:
        """Empties the record and its file."""
        self._by_id.clear()
        if self._path is not None:
            self._path.write_bytes(b"")


def _read(path: Path) -> Iterator[CallRecord]:
    if not path.exists():
        return
    text = path.read_text(encoding="utf-8")
    whole, _, torn = text.rpartition("\n")
    if torn:
        # A killed process leaves half a line; the next record must not be appended to it.
        path.write_text(f"{whole}\n" if whole else "", encoding="utf-8")
    for line in whole.splitlines():
        content = json.loads(line)
        content["request_headers"] = tuple(content["request_headers"])
        content["tools"] = tuple(content.get("tools", ()))
        yield CallRecord(**content)
