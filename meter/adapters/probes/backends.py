"""Sends `doctor`'s request for a deployment to a backend, with the app's own client and credentials."""

from email.utils import parsedate_to_datetime

from meter.adapters.probes.network import fault_of
from meter.doctor.answers import Answered, NoAnswer, NoToken
from meter.doctor.backends import BODY, BackendAnswer, Probed
from meter.doctor.basics import Offsets
from meter.errors import UpstreamError
from meter.gateway.answer.error_shapes import error_in_body
from meter.ports import (
    BackendCredentials,
    Clock,
    Headers,
    Upstream,
    UpstreamAnswer,
    UpstreamRequest,
)
from meter.terminal import printable

ANSWER_SECONDS = 10.0
MAX_ERROR_BYTES = 65_536
MAX_CHARS = 200


class BackendProbe:
    """Asks backends for their deployments. Close the client and the credentials that it is given."""

    def __init__(
        self,
        upstream: Upstream,
        credentials: BackendCredentials,
        *,
        clock: Clock,
        offsets: Offsets,
    ) -> None:
        self._upstream = upstream
        self._credentials = credentials
        self._clock = clock
        self._offsets = offsets

    async def ask(self, probed: Probed, url: str) -> BackendAnswer:
        """The backend's answer, or why there is none."""
        try:
            credentials = await self._credentials.headers_for(probed.backend)
        except UpstreamError:
            return NoToken()
        request = UpstreamRequest(
            backend=probed.backend,
            method="POST",
            url=f"{url}{probed.path()}",
            headers=(("content-type", "application/json"), *credentials),
            body=BODY,
        )
        sent_at = self._clock.now().timestamp()
        try:
            answer = await self._upstream.send(request, first_byte_timeout_seconds=ANSWER_SECONDS)
        except UpstreamError as exc:
            return NoAnswer(fault_of(exc))
        self._learn(probed.backend, answer.headers, sent_at)
        try:
            return _answered(answer.status, await _body(answer), credentials)
        finally:
            await answer.close()

    def _learn(self, server: str, headers: Headers, sent_at: float) -> None:
        date = dict(headers).get("date", "")
        try:
            served_at = parsedate_to_datetime(date).timestamp()
        except (ValueError, TypeError, OverflowError):
            return
        self._offsets.learn(server, served_at, sent_at, self._clock.now().timestamp())


async def _body(answer: UpstreamAnswer) -> bytes:
    body = b""
    try:
        async for chunk in answer.chunks():
            body += chunk
            if len(body) > MAX_ERROR_BYTES:
                break
    except UpstreamError:
        return b""
    return body


def _answered(status: int, body: bytes, credentials: Headers) -> Answered:
    """The answer, without a text that repeats our credentials."""
    text = body.decode(errors="replace")
    if any(value.rpartition(" ")[2] in text for _, value in credentials):
        return Answered(status)
    error = error_in_body(body)
    if error is None:  # a page, which may tell of a firewall
        return Answered(status, message=printable(text, most=MAX_CHARS))
    code, message = error.code or "", error.message or ""
    return Answered(status, printable(code, most=MAX_CHARS), printable(message, most=MAX_CHARS))
