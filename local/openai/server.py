"""Serves one account on loopback and keeps the record of every call that reached it.

Beside the account's own paths (classic and v1) there are two for tests, which need no key:

| request | answer |
|---|---|
| `GET /_calls`, `DELETE /_calls` | the record (local/openai/record.py); empties it |
| `POST /_faults`, `DELETE /_faults` | queues a fault (local/openai/faults.py); clears them |
"""

import asyncio
import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import web

from local.openai.account import Account, Inquiry, Ruling
from local.openai.answers import Stamp
from local.openai.call import parse_body
from local.openai.delivery import deliver, reset_connection
from local.openai.faults import Fault, parse_fault
from local.openai.form import is_form, read_form
from local.openai.headers import answer_headers
from local.openai.record import CallLog, CallRecord

DEFAULT_DEPLOYMENTS: Mapping[str, str] = {
    "gpt-4o": "gpt-4o-2024-11-20",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "text-embedding-3-small": "text-embedding-3-small",
    "gpt-image-1": "gpt-image-1-2025-04-15",
    "gpt-4o-transcribe": "gpt-4o-transcribe-2025-03-20",
    "whisper": "whisper-001",
    "tts": "gpt-4o-mini-tts-2025-03-20",
    "dall-e-3": "dall-e-3",
    "tts-hd": "tts-hd",
}
_HOST = "127.0.0.1"
_SHUTDOWN_SECONDS = 0.2
_MAX_BODY_BYTES = 64 * 1024 * 1024


class StandIn:
    """One account; its answers carry `name` in `x-ms-region`, so tests can see which one answered."""

    def __init__(
        self,
        name: str,
        deployments: Mapping[str, str] = DEFAULT_DEPLOYMENTS,
        key: str | None = None,
        record: Path | None = None,
    ) -> None:
        self.calls = CallLog(record)
        self._name = name
        self._account = Account(deployments, key)
        self._runner: web.AppRunner | None = None

    async def start(self, port: int = 0) -> int:
        """Listens on a loopback port (0: a free one) and returns it."""
        app = web.Application(client_max_size=_MAX_BODY_BYTES)
        app.router.add_get("/_calls", self._list_calls)
        app.router.add_delete("/_calls", self._clear_calls)
        app.router.add_post("/_faults", self._add_fault)
        app.router.add_delete("/_faults", self._clear_faults)
        app.router.add_route("*", "/{path:.*}", self._serve)
        # A handler that sleeps or hangs is cancelled when its caller disconnects.
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS, handler_cancellation=True
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, _HOST, port).start()
        bound_port: int = self._runner.addresses[0][1]
        return bound_port

    async def stop(self) -> None:
        """Closes the port and every connection, hanging ones too; a second call does nothing."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def add_fault(self, fault: Fault) -> None:
        """Queues a fault, as `POST /_faults` does."""
        self._account.faults.add(fault)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        inquiry = await _read_inquiry(request)
        request_id = str(uuid.uuid4())
        now = datetime.now(UTC)
        stamp = Stamp(identity=request_id.replace("-", ""), created=int(now.timestamp()))
        ruling = self._account.rule(inquiry, stamp)
        record = _record(inquiry, ruling, request_id, now)
        answer = ruling.answer
        if answer is None:
            self.calls.put(record)
            await _stay_silent(request, ruling.fault)
            return web.StreamResponse()

        def note(*, completed: bool) -> None:
            self.calls.put(replace(record, completed=completed))

        headers = answer_headers(inquiry, ruling, answer, request_id=request_id, region=self._name)
        return await deliver(request, answer, ruling.fault, headers=headers, note=note)

    async def _list_calls(self, _request: web.Request) -> web.Response:
        return web.json_response(self.calls.as_json())

    async def _clear_calls(self, _request: web.Request) -> web.Response:
        self.calls.clear()
        return web.Response(status=204)

    async def _add_fault(self, request: web.Request) -> web.Response:
        body = parse_body(await request.read())
        if body is None:
            return web.json_response({"error": "a fault must be a JSON object"}, status=400)
        try:
            self.add_fault(parse_fault(body))
        except ValueError as exc:
            return web.json_response({"error": str(exc)}, status=400)
        return web.Response(status=204)

    async def _clear_faults(self, _request: web.Request) -> web.Response:
        self._account.faults.clear()
        return web.Response(status=204)


async def _read_inquiry(request: web.Request) -> Inquiry:
    headers = {name.lower(): value for name, value in request.headers.items()}
    content_type = headers.get("content-type", "")
    body = await request.read()
    return Inquiry(
        method=request.method,
        path=request.path,
        query=request.query,
        headers=headers,
        body=body,
        form=await read_form(content_type, body) if is_form(content_type) else None,
    )


def _record(inquiry: Inquiry, ruling: Ruling, request_id: str, now: datetime) -> CallRecord:
    bill = ruling.answer.bill if ruling.answer else None
    return CallRecord(
        id=request_id,
        at=now.isoformat(timespec="milliseconds"),
        operation=ruling.operation,
        deployment=ruling.deployment,
        model=ruling.model,
        status=ruling.answer.status if ruling.answer else None,
        streaming=ruling.is_streaming,
        completed=False,
        usage=bill.usage if bill else None,
        counts=bill.counts if bill else {},
        requested_tier=ruling.requested_tier,
        service_tier=bill.service_tier if bill else None,
        spilled_from=ruling.fault.headers.get("x-ms-spillover-from-deployment"),
        tools=tuple(asdict(tool) for tool in bill.tools) if bill else (),
        caller_subject=inquiry.headers.get("caller-subject"),
        api_version=inquiry.api_version,
        request_headers=tuple(sorted(inquiry.headers)),
        body_sha256=hashlib.sha256(inquiry.body).hexdigest(),
    )


async def _stay_silent(request: web.Request, fault: Fault) -> None:
    if fault.hang:
        await asyncio.Event().wait()  # until the caller disconnects or the server stops
    await asyncio.sleep(fault.delay_ms / 1000)
    await reset_connection(request)
