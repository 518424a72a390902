"""The fault proxy of HTTP: requests are numbered, and chosen ones fail before or after forwarding.

Rules for connections and bytes apply as in `FaultProxy`. A signature over the path, such as Azure
Storage's SharedKey, stays valid: requests are forwarded unchanged.
"""

from dataclasses import dataclass, field
from http import HTTPStatus

import httptools

from local.faults.link import Link, LinkEnded, Side, Way
from local.faults.messages import Request, answer_pieces, read_request
from local.faults.rules import Ending, RequestFault, Rules
from local.faults.tcp import FaultProxy


class HttpFaultProxy(FaultProxy):
    """Forwards HTTP/1.1 to a target, with one target connection per caller connection."""

    def __init__(self, target_host: str, target_port: int) -> None:
        super().__init__(target_host, target_port)
        self._faults = _Faults(())

    async def put(self, rules: Rules) -> None:
        """Apply these rules from now on; the next request is number 1."""
        self._faults = _Faults(rules.requests)
        await super().put(rules)

    async def _serve(self, link: Link) -> None:
        try:
            while request := await read_request(link.caller.reader):
                self.traffic.requests += 1
                fault = self._faults.take(request)
                if fault is None:
                    await self._relay(link, request)
                else:
                    self.traffic.struck += 1
                    await self._strike(link, request, fault)
        except httptools.HttpParserError as exc:
            raise ConnectionError("this is not HTTP/1.1") from exc

    async def _relay(self, link: Link, request: Request) -> None:
        target = await self._send(link, request)
        async for piece in answer_pieces(target.reader, request.method):
            await link.forward(Way.DOWN, piece)

    async def _strike(self, link: Link, request: Request, fault: RequestFault) -> None:
        if fault.applied:
            target = await self._send(link, request)
            async for _ in answer_pieces(target.reader, request.method):
                pass
        if fault.status is None:
            link.end(Ending.RESET)
            raise LinkEnded
        await link.forward(Way.DOWN, _answer(fault.status, fault.answer.encode()))

    async def _send(self, link: Link, request: Request) -> Side:
        if link.target is not None and link.target.reader.at_eof():
            await link.target.drop()
            link.target = None
        link.target = target = link.target or await Side.connect(*self.target)
        await link.forward(Way.UP, request.raw)
        if link.is_dead:
            await link.caller.reader.read()
            raise LinkEnded
        return target


@dataclass(slots=True)
class _Faults:
    """The request faults in force, and how often each has struck."""

    faults: tuple[RequestFault, ...]
    _number: int = 0
    _strikes: dict[int, int] = field(default_factory=dict)
    _struck: dict[str, RequestFault] = field(default_factory=dict)

    def take(self, request: Request) -> RequestFault | None:
        """The fault that strikes this request: the first match."""
        self._number += 1
        if request.identity is not None and request.identity in self._struck:
            return self._struck[request.identity]
        for index, fault in enumerate(self.faults):
            is_left = fault.count is None or self._strikes.get(index, 0) < fault.count
            if is_left and self._fits(fault, request):
                self._strikes[index] = self._strikes.get(index, 0) + 1
                if fault.repeats and request.identity is not None:
                    self._struck[request.identity] = fault
                return fault
        return None

    def _fits(self, fault: RequestFault, request: Request) -> bool:
        return (
            fault.number in {None, self._number}
            and fault.method in {None, request.method}
            and (fault.path or "") in request.path
            and (fault.body or "").encode() in request.body
        )


def _answer(status: int, body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
