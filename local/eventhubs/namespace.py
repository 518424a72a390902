"""The endpoint's hubs and policy; the one place where an attach becomes a link."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from local.eventhubs.addresses import (
    CBS,
    NodeAddress,
    ReceiveAddress,
    SendAddress,
    read_address,
    resolve,
)
from local.eventhubs.broker import Broker
from local.eventhubs.codec import CodecError
from local.eventhubs.links import Feed, Intake, Link, Reply
from local.eventhubs.management import (
    Answer,
    Request,
    encode_answer,
    find_denial,
    put_token,
    read_entity,
    read_request,
)
from local.eventhubs.message import split_delivery
from local.eventhubs.performatives import Attach, Condition, Refusal
from local.eventhubs.selector import SelectorError, find_first, read_position
from local.eventhubs.session import Session
from local.eventhubs.tokens import TokenCheck

type Refuse = Callable[[str, str], bool]

_EPOCH: Final = "com.microsoft:epoch"
_RUNTIME_METRIC: Final = "com.microsoft:enable-receiver-runtime-metric"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """The hubs, the policy that guards them, and the fault hook of the tests.

    `refuse(hub, partition_id)` is called before each send; True answers it with server-busy.
    A connection that sends no frame for `idle_seconds` is closed.
    """

    broker: Broker
    tokens: TokenCheck
    refuse: Refuse | None
    idle_seconds: float


class Access:
    """One connection's access to the hubs: closed until a valid token was put."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self.is_granted = False

    def offers(self, attach: Attach) -> tuple[str, ...]:
        """The desired capabilities that this endpoint has."""
        return (_RUNTIME_METRIC,) if _RUNTIME_METRIC in attach.desired_capabilities else ()

    def connect(self, attach: Attach, session: Session) -> Link | Refusal:
        """Return the link an attach requests, or the reason for refusing it."""
        terminus = attach.source if attach.peer_receives else attach.target
        address = resolve(read_address(terminus), self._namespace.broker)
        if not (self.is_granted or isinstance(address, NodeAddress)):  # nodes check each request
            return Refusal(Condition.UNAUTHORIZED, "put a token to $cbs before attaching links")
        match address, attach.peer_receives:
            case Refusal(), _:
                return address
            case NodeAddress(name=name), True:
                return Reply(session, attach.handle, name, read_address(attach.target))
            case NodeAddress(name=name), False:
                return Intake(session, attach.handle, partial(self._answer, session, name))
            case SendAddress(), False:
                return Intake(session, attach.handle, partial(self._publish, address))
            case ReceiveAddress(), True:
                return _open_feed(attach, session, address)
            case _:
                direction = "receive from" if attach.peer_receives else "send to"
                return Refusal(Condition.NOT_ALLOWED, f"this address is not one to {direction}")

    def _publish(self, address: SendAddress, payload: bytes, message_format: int) -> Refusal | None:
        try:
            key, messages = split_delivery(payload, message_format)
        except CodecError as exc:
            return Refusal(Condition.DECODE_ERROR, str(exc))
        partition = address.partition or address.hub.route(key)
        refuse = self._namespace.refuse
        if refuse is not None and refuse(address.hub.name, partition.partition_id):
            return Refusal(Condition.SERVER_BUSY, "The server is busy. Please retry later.")
        try:
            partition.append(messages)
        except OSError as exc:
            _log.exception("append failed", extra={"hub": address.hub.name})
            return Refusal(Condition.INTERNAL_ERROR, f"the log cannot be written: {exc.strerror}")
        return None

    def _answer(
        self, session: Session, node: str, payload: bytes, _message_format: int
    ) -> Refusal | None:
        try:
            request = read_request(payload)
        except CodecError as exc:
            return Refusal(Condition.DECODE_ERROR, str(exc))
        reply = session.find_reply(node, request.reply_to)
        if reply is None:
            return Refusal(Condition.NOT_ALLOWED, f"attach a receiving link to {node} first")
        answer = self._put_token(request) if node == CBS else self._read_entity(request)
        return reply.answer(encode_answer(request, answer))

    def _put_token(self, request: Request) -> Answer:
        answer = put_token(request, self._namespace.tokens)
        if answer.status < 300:
            self.is_granted = True
        return answer

    def _read_entity(self, request: Request) -> Answer:
        tokens = self._namespace.tokens
        denial = find_denial(request, tokens, is_granted=self.is_granted)
        return denial or read_entity(request, self._namespace.broker)


def _open_feed(attach: Attach, session: Session, address: ReceiveAddress) -> Link | Refusal:
    try:
        first = find_first(address.partition.log, read_position(attach.source))
    except SelectorError as exc:
        return Refusal(Condition.ARGUMENT_ERROR, str(exc))
    epoch = attach.properties.get(_EPOCH)
    feed = Feed(
        session,
        attach.handle,
        address.partition,
        first,
        owner_level=int(epoch) if isinstance(epoch, int) else None,
        tracks_last_enqueued=_RUNTIME_METRIC in attach.desired_capabilities,
        on_close=partial(address.partition.dismiss, address.group),
    )
    return address.partition.admit(address.group, feed) or feed
