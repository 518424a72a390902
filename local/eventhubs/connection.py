"""One client: bytes to frames, SASL, open, sessions, close.

    GREETING --SASL header--> SASL --init--> SECURED --AMQP header--> OPENING --open--> OPEN
    GREETING --AMQP header--> OPENING
    any --close, error, loss--> CLOSED

A client's input can end only its own connection. The memory held per client is bounded: one frame
of input, one message per link, and output up to `MAX_OUTPUT_BYTES`; beyond that the endpoint stops
reading from the client.
"""

import asyncio
import logging
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from local.eventhubs.codec import CodecError
from local.eventhubs.frames import (
    AMQP_HEADER,
    CHANNEL_MAX,
    EMPTY_FRAME,
    FRAME_HEADER,
    MAX_FRAME_BYTES,
    MIN_MAX_FRAME_BYTES,
    SASL_HEADER,
    close_body,
    end_body,
    frame,
    open_body,
    sasl_mechanisms,
    sasl_outcome,
)
from local.eventhubs.namespace import Access, Namespace
from local.eventhubs.performatives import (
    Begin,
    Close,
    Condition,
    End,
    Open,
    Performative,
    ProtocolError,
    Refusal,
    SaslInit,
    Transfer,
    read_performative,
)
from local.eventhubs.session import Session

HANDSHAKE_SECONDS: Final = 30.0
MAX_OUTPUT_BYTES: Final = 4 * 1024 * 1024

_MECHANISMS: Final = ("MSSBCBS", "PLAIN", "ANONYMOUS", "EXTERNAL")
_HIGH_WATER_BYTES: Final = 256 * 1024
_MAX_DATA_OFFSET: Final = 255

_log = logging.getLogger(__name__)


class _Stage(Enum):
    GREETING = auto()
    SASL = auto()
    SECURED = auto()
    OPENING = auto()
    OPEN = auto()
    CLOSED = auto()


class Connection(asyncio.Protocol):
    """The protocol of one accepted socket."""

    def __init__(self, namespace: Namespace, on_lost: Callable[["Connection"], None]) -> None:
        self._namespace = namespace
        self._on_lost = on_lost
        self._access = Access(namespace)
        self._stage = _Stage.GREETING
        self._input = bytearray()
        self._output: list[bytes] = []
        self._is_flush_due = False
        self._sessions: dict[int, Session] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._heard_at = 0.0
        self.is_congested = False
        self.peer_frame_bytes = MIN_MAX_FRAME_BYTES

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock of the handshake."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)
        self._timer = self._loop.call_later(HANDSHAKE_SECONDS, self._abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop every session when the socket has closed."""
        _log.debug("connection lost", extra={"reason": repr(exc)})
        self._stage = _Stage.CLOSED
        self._stop_timer()
        self._end_sessions()
        self._output.clear()
        self._on_lost(self)

    def pause_writing(self) -> None:
        """The peer reads too slowly: stop sending to it."""
        self.is_congested = True

    def resume_writing(self) -> None:
        """The peer caught up: send to it and read from it again."""
        self.is_congested = False
        if self._stage is _Stage.CLOSED:
            return
        self._transport.resume_reading()
        for session in list(self._sessions.values()):
            session.wake()

    def data_received(self, data: bytes) -> None:
        """Handle every whole frame; an invalid one ends this connection and no other."""
        self._input += data
        self._heard_at = self._loop.time()
        self._is_flush_due = True  # below, without a further turn of the loop
        try:
            self._handle_input()
        except ProtocolError as exc:
            self.shut(exc.refusal)
        except CodecError as exc:
            self.shut(Refusal(Condition.DECODE_ERROR, str(exc)))
        except Exception:  # entry point of all input: log, end the connection
            _log.exception("connection failed")
            self.shut(Refusal(Condition.INTERNAL_ERROR, "the endpoint failed; see its log"))
        self._flush()

    def send(self, channel: int, body: bytes) -> None:
        """Send one AMQP frame, together with all others of this turn of the event loop."""
        self._write(frame(channel, body))

    def shut(self, refusal: Refusal | None) -> None:
        """Send the reason, if the peer can understand it, and close the socket."""
        if self._stage is _Stage.CLOSED:
            return
        if self._stage is _Stage.OPEN:
            self.send(0, close_body(refusal))
        self._stage = _Stage.CLOSED
        self._end_sessions()
        self._stop_timer()
        self._flush()
        self._transport.close()
        # A peer that never reads would keep a closing socket open for ever.
        self._timer = self._loop.call_later(HANDSHAKE_SECONDS, self._abort)

    def _handle_input(self) -> None:
        start = 0
        while self._stage is not _Stage.CLOSED:
            end = self._handle_next(start)
            if end == start:
                break
            start = end
        del self._input[:start]
        if self._stage is _Stage.CLOSED:
            self._input.clear()

    def _handle_next(self, start: int) -> int:
        """Handle the frame at `start`; return where the next begins, or `start` if it is incomplete."""
        available = len(self._input) - start
        if available < FRAME_HEADER.size:
            return start
        if self._stage in (_Stage.GREETING, _Stage.SECURED):
            end = start + FRAME_HEADER.size
            self._on_header(bytes(self._input[start:end]))
            return end
        size, data_offset, kind, channel = FRAME_HEADER.unpack_from(self._input, start)
        body_start = data_offset * 4
        if not FRAME_HEADER.size <= body_start <= size <= MAX_FRAME_BYTES:
            raise ProtocolError(
                Condition.FRAMING_ERROR,
                f"a frame of {size} bytes with its body at {body_start}; at most"
                f" {MAX_FRAME_BYTES} bytes are taken",
            )
        if available < size:
            return start
        body = bytes(self._input[start + body_start : start + size])
        if kind != (1 if self._stage is _Stage.SASL else 0):
            raise ProtocolError(Condition.FRAMING_ERROR, f"frame of type {kind} is out of place")
        if body:  # an empty frame is a keep-alive
            self._on_performative(channel, read_performative(body))
        return start + int(size)

    def _on_header(self, header: bytes) -> None:
        if header == SASL_HEADER and self._stage is _Stage.GREETING:
            self._write(SASL_HEADER + sasl_mechanisms(_MECHANISMS))
            self._stage = _Stage.SASL
        elif header == AMQP_HEADER:
            self._write(AMQP_HEADER)
            self._stage = _Stage.OPENING
        else:
            # AMQP part 2, section 2.2: answer with the expected header.
            self._write(AMQP_HEADER)
            self.shut(None)

    def _on_performative(self, channel: int, performative: Performative) -> None:
        if type(performative) is Transfer:  # nearly all are
            self._session(channel).on_frame(performative)
            return
        match performative, self._stage:
            case SaslInit(), _Stage.SASL:
                self._on_sasl_init(performative)
            case Open(), _Stage.OPENING:
                self._on_open(performative)
            case Begin(), _Stage.OPEN:
                self._on_begin(channel, performative)
            case End(), _Stage.OPEN:
                self._session(channel).close()
                del self._sessions[channel]
                self.send(channel, end_body())
            case Close(), _Stage.OPEN:
                self.shut(None)
            case ((SaslInit() | Open() | Begin() | End() | Close()), _):
                name = type(performative).__name__
                raise ProtocolError(Condition.NOT_ALLOWED, f"{name} is out of place")
            case session_frame, _:
                self._session(channel).on_frame(session_frame)

    def _on_sasl_init(self, init: SaslInit) -> None:
        is_plain = init.mechanism == "PLAIN"
        accepted = init.mechanism in _MECHANISMS
        if is_plain:
            accepted = self._namespace.tokens.accepts_plain(init.initial_response)
            self._access.is_granted = accepted
        self._write(sasl_outcome(accepted=accepted))
        if not accepted:
            self.shut(None)
        else:
            self._stage = _Stage.SECURED

    def _on_open(self, peer: Open) -> None:
        if peer.max_frame_bytes < MIN_MAX_FRAME_BYTES:
            raise ProtocolError(
                Condition.INVALID_FIELD,
                f"max-frame-size must be at least {MIN_MAX_FRAME_BYTES},"
                f" got {peer.max_frame_bytes}",
            )
        self.peer_frame_bytes = min(peer.max_frame_bytes, MAX_FRAME_BYTES)
        idle_seconds = self._namespace.idle_seconds
        self.send(0, open_body("local-eventhubs", int(1000 * idle_seconds)))
        self._stage = _Stage.OPEN
        self._stop_timer()
        self._idle_timer = self._loop.call_later(idle_seconds, self._end_if_silent)
        if peer.idle_timeout_ms:
            self._keep_alive(peer.idle_timeout_ms / 2000)

    def _on_begin(self, channel: int, begin: Begin) -> None:
        if channel > CHANNEL_MAX or channel in self._sessions:
            raise ProtocolError(Condition.NOT_ALLOWED, f"channel {channel} cannot be begun")
        self._sessions[channel] = Session(self, self._access, channel, begin)

    def _session(self, channel: int) -> Session:
        session = self._sessions.get(channel)
        if session is None:
            raise ProtocolError(Condition.NOT_ALLOWED, f"channel {channel} has no session")
        return session

    def _keep_alive(self, interval_seconds: float) -> None:
        """Send an empty frame twice per idle timeout of the peer."""
        self._write(EMPTY_FRAME)
        self._timer = self._loop.call_later(interval_seconds, self._keep_alive, interval_seconds)

    def _end_if_silent(self) -> None:
        rest = self._heard_at + self._namespace.idle_seconds - self._loop.time()
        if rest > 0:
            self._idle_timer = self._loop.call_later(rest, self._end_if_silent)
        else:
            self.shut(Refusal(Condition.CONNECTION_FORCED, "The connection was inactive."))

    def _write(self, data: bytes) -> None:
        self._output.append(data)
        if not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        if not self._output or self._transport.is_closing():
            return
        self._transport.write(b"".join(self._output))
        self._output.clear()
        if self._transport.get_write_buffer_size() > MAX_OUTPUT_BYTES:
            self._transport.pause_reading()

    def _end_sessions(self) -> None:
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()

    def _stop_timer(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _abort(self) -> None:
        self._transport.abort()
