"""Makes the front door's values for tests: signing keys, tokens, backends, streams, front doors."""

import base64
import json
from collections.abc import Mapping, Sequence
from copy import replace
from dataclasses import dataclass, field
from functools import cache
from uuid import UUID

import jwt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from meter.gateway.answer.estimate import Estimator
from meter.gateway.answer.relay import DrainLimits, Drains, Relays, RelayTimes
from meter.gateway.backend import Backend, Deployment
from meter.gateway.background import Background
from meter.gateway.balance.demand import Demand
from meter.gateway.balance.exchange import ForwardLimits
from meter.gateway.balance.forward import Forwarder
from meter.gateway.balance.pool import Pool
from meter.gateway.call import Instance
from meter.gateway.caller.auth import TokenRules, TokenVerifier
from meter.gateway.caller.jwks import KeyRing
from meter.gateway.front_door import FrontDoor
from meter.gateway.http import Answer, Arrival, Request, RequestLimits, StreamingAnswer
from meter.gateway.joining.joins import JoinLimits, Joins
from meter.gateway.limits.admission import Admission, AdmissionLimits
from meter.gateway.limits.intake import BodyLimits
from meter.gateway.request.dispatch import Dispatcher
from meter.gateway.request.route import Routes
from meter.gateway.request.spelling import Spellings
from meter.ports import NO_TELEMETRY, Headers, Telemetry, TokenCounter
from meter.usage import Principal, Tier
from tests.fakes.gateway import (
    START,
    FakeAnswer,
    FakeClock,
    FakeCredentials,
    FakeKeySource,
    FakeRequestBody,
    FakeSink,
    FakeSpool,
    FakeUpstream,
    FixedDice,
)

ISSUER = "https://login.example/tenant/v2.0"
AUDIENCE = "api://meter"
KID = "key-1"
EVENT_ID = UUID(int=7)
NOW = int(START.timestamp())
CHAT_PATH = "/openai/deployments/gpt/chat/completions"
CHAT_BODY = b'{"model":"gpt","messages":[{"role":"user","content":"secret prompt"}]}'
STREAM_BODY = b'{"model":"gpt","stream":true,"messages":[]}'
SERVED = (
    b'{"id":"1","model":"gpt-4o-2024","choices":[{"message":{"content":"secret completion"}}],'
    b'"usage":{"prompt_tokens":12,"completion_tokens":34,"total_tokens":46,'
    b'"prompt_tokens_details":{"cached_tokens":5},'
    b'"completion_tokens_details":{"reasoning_tokens":6}}}'
)
TEXT_FRAME = b'data: {"model":"gpt-4o","choices":[{"delta":{"content":"hi"}}],"usage":null}\n\n'
USAGE_FRAME = (
    b'data: {"model":"gpt-4o","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,'
    b'"total_tokens":7}}\n\n'
)
DONE_FRAME = b"data: [DONE]\n\n"


@cache
def rsa_key(bits: int = 2048, name: str = "") -> rsa.RSAPrivateKey:
    """A key pair; each name has its own pair."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@cache
def ec_key() -> ec.EllipticCurvePrivateKey:
    """A P-256 key pair."""
    return ec.generate_private_key(ec.SECP256R1())


def jwk(
    kid: str | None = KID, key: rsa.RSAPrivateKey | None = None, **more: object
) -> dict[str, object]:
    """An RSA public key as its issuer publishes it."""
    public = (key or rsa_key()).public_key()
    document: dict[str, object] = {**RSAAlgorithm.to_jwk(public, as_dict=True)}
    document.pop("key_ops", None)
    return document | ({} if kid is None else {"kid": kid}) | {"use": "sig"} | more


def ec_jwk(kid: str = "ec-1") -> dict[str, object]:
    """The P-256 public key as its issuer publishes it."""
    document = ECAlgorithm.to_jwk(ec_key().public_key(), as_dict=True)
    return {**document, "kid": kid}


def b64(data: bytes) -> str:
    """Unpadded base64url."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims(**changes: object) -> dict[str, object]:
    """The claims of an accepted token; a change to None removes a claim."""
    usual: dict[str, object] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "alice",
        "iat": NOW - 10,
        "nbf": NOW - 10,
        "exp": NOW + 3600,
        "tid": "tenant-1",
        "oid": "object-1",
        "azp": "app-1",
    }
    return {name: value for name, value in (usual | changes).items() if value is not None}


def token(
    header: Mapping[str, object] | None = None,
    payload: Mapping[str, object] | None = None,
    *,
    key: rsa.RSAPrivateKey | None = None,
) -> str:
    """A token signed with RS256, whatever its header says; a header value of None removes it."""
    usual: dict[str, object] = {"alg": "RS256", "typ": "JWT", "kid": KID}
    head = {
        name: value for name, value in (usual | dict(header or {})).items() if value is not None
    }
    body = claims() if payload is None else payload
    signed = f"{b64(json.dumps(head).encode())}.{b64(json.dumps(body).encode())}"
    signature = (key or rsa_key()).sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{signed}.{b64(signature)}"


def ec_token(kid: str = "ec-1") -> str:
    """A token signed with ES256."""
    return jwt.encode(claims(), ec_key(), "ES256", headers={"kid": kid})


RULES = TokenRules(issuers=frozenset({ISSUER}), audiences=frozenset({AUDIENCE}))


def verifier(
    clock: FakeClock, source: FakeKeySource | None = None, *, rules: TokenRules = RULES
) -> TokenVerifier:
    """A verifier that trusts the one issuer."""
    source = source or FakeKeySource({ISSUER: [jwk()]})
    return TokenVerifier(rules, KeyRing(source, clock, 30.0), clock)


def backend(name: str = "a", *, priority: int = 1, weight: int = 1, own: str = "gpt") -> Backend:
    """A backend that serves the deployment `gpt`."""
    return Backend(
        name=name,
        url=f"https://{name}.example",
        priority=priority,
        weight=weight,
        tier=Tier.PROVISIONED if priority == 1 else Tier.STANDARD,
        deployments={"gpt": Deployment(own)},
    )


def arrival_of(
    sent: Request, principal: Principal, *, event_id: UUID = EVENT_ID, came: float = 0.0
) -> Arrival:
    """A caller's request that has come."""
    return Arrival(event_id=event_id, request=sent, principal=principal, came_at=START, came=came)


@dataclass
class Door:
    """A front door on fakes, and the fakes."""

    upstream: FakeUpstream
    backends: Sequence[Backend] = field(default_factory=lambda: [backend()])
    clock: FakeClock = field(default_factory=FakeClock)
    sink: FakeSink = field(default_factory=FakeSink)
    keys: FakeKeySource = field(default_factory=lambda: FakeKeySource({ISSUER: [jwk()]}))
    rules: TokenRules = RULES
    credentials: FakeCredentials = field(default_factory=FakeCredentials)
    drains: Drains = field(default_factory=lambda: Drains(DrainLimits(most=10, seconds=5)))
    exposes_backend: bool = False
    total_timeout_seconds: float = 5
    max_concurrent_calls: int = 100
    subject_share_percent: int = 100
    body_budget_bytes: int = 1_000_000_000
    bodies: BodyLimits = field(
        default_factory=lambda: BodyLimits(max_form_bytes=100_000_000, max_json_bytes=100_000_000)
    )
    first_byte_timeout_seconds: float = 120
    write_seconds: float = 5
    keepalive_seconds: float = 20
    first_keepalive_seconds: float = 60
    max_frame_bytes: int = 4_194_304
    max_buffered_bytes: int = 33_554_432
    counter: TokenCounter | None = None
    spool_room: int | None = None
    prefixes: tuple[str, ...] = ()
    joins_retries: bool = True
    most_joined: int = 100
    kept_bytes: int = 1_000_000
    telemetry: Telemetry = NO_TELEMETRY
    spools: list[FakeSpool] = field(default_factory=list)

    def new_spool(self) -> FakeSpool:
        """A spool that tests can inspect."""
        self.spools.append(FakeSpool(room=self.spool_room))
        return self.spools[-1]

    def __post_init__(self) -> None:
        self.pool = Pool(self.backends, self.clock, FixedDice())
        forwarder = Forwarder(
            pool=self.pool,
            upstream=self.upstream,
            credentials=self.credentials,
            clock=self.clock,
            limits=ForwardLimits(
                first_byte_timeout_seconds=self.first_byte_timeout_seconds,
                attempts_timeout_seconds=220,
                max_buffered_bytes=self.max_buffered_bytes,
            ),
        )
        self.front_door = FrontDoor(
            admission=Admission(
                verifier=verifier(self.clock, self.keys, rules=self.rules),
                limits=AdmissionLimits(
                    max_concurrent_calls=self.max_concurrent_calls,
                    subject_share_percent=self.subject_share_percent,
                    body_budget_bytes=self.body_budget_bytes,
                    bodies=self.bodies,
                ),
                new_spool=self.new_spool,
            ),
            instance=Instance(
                source="/aoai-meter/test",
                long_context_tokens=272_000,
                forwarder=forwarder,
                background=Background(
                    forwarder, self.sink, FixedDice(), self.subject_share_percent
                ),
                sink=self.sink,
                clock=self.clock,
                telemetry=self.telemetry,
            ),
            dice=FixedDice(),
            relays=Relays(
                times=RelayTimes(
                    write_seconds=self.write_seconds,
                    keepalive_seconds=self.keepalive_seconds,
                    total_seconds=self.total_timeout_seconds,
                ),
                drains=self.drains,
                estimator=Estimator(self.counter),
                max_frame_bytes=self.max_frame_bytes,
            ),
            joins=Joins(
                clock=self.clock,
                limits=JoinLimits(
                    most_joined=self.most_joined,
                    kept_bytes=self.kept_bytes,
                    subject_share_percent=self.subject_share_percent,
                )
                if self.joins_retries
                else None,
            ),
            first_keepalive_seconds=self.first_keepalive_seconds,
            exposes_backend=self.exposes_backend,
            dispatcher=Dispatcher(routes=Routes(Spellings(self.prefixes))),
        )

    async def call(
        self,
        body: bytes | FakeRequestBody = CHAT_BODY,
        *,
        path: str = CHAT_PATH,
        query: str = "api-version=2024-10-21",
        method: str = "POST",
        headers: Headers | None = None,
    ) -> Answer | StreamingAnswer:
        """One call; with an accepted token unless headers are given. A whole answer counts as sent."""
        answer = await self.front_door.handle(
            request(body, path=path, query=query, method=method, headers=headers)
        )
        if isinstance(answer, Answer):
            answer.delivered()
            answer.release()
        return answer

    @property
    def in_flight(self) -> list[int]:
        """How many leases per backend were not given back, or were given back too often."""
        return [each.load.in_flight for each in self.pool._targets.values() if each.load.in_flight]

    def may_call(self, name: str) -> bool:
        """Whether the circuit of a backend for the deployment `gpt` lets a call through."""
        target = self.pool.target(next(b for b in self.backends if b.name == name), "gpt")
        return target.may_call(Demand(caller="alice"), self.clock.monotonic())

    @property
    def is_idle(self) -> bool:
        """Whether calls have released everything they held."""
        admission = self.front_door.admission
        held = admission.slots.used or admission.body_bytes.used or self.drains.running
        return all(spool.is_closed for spool in self.spools) and not self.in_flight and not held

    async def answer(self, body: bytes = CHAT_BODY, *, headers: Headers | None = None) -> Answer:
        """One call that is not streamed."""
        answer = await self.call(body, headers=headers)
        assert isinstance(answer, Answer)
        return answer

    async def stream(self, body: bytes = STREAM_BODY) -> StreamingAnswer:
        """One call whose answer is streamed."""
        answer = await self.call(body)
        assert isinstance(answer, StreamingAnswer)
        return answer


def door(*answers: FakeAnswer | Exception, **parts: object) -> Door:
    """A front door with one backend that returns these answers."""
    made = Door(FakeUpstream({"a": list(answers)}))  # type: ignore[arg-type]  # errors only
    return replace(made, **parts) if parts else made  # type: ignore[arg-type]  # checked by Door


def request(
    body: bytes | FakeRequestBody = CHAT_BODY,
    *,
    path: str = CHAT_PATH,
    query: str = "api-version=2024-10-21",
    method: str = "POST",
    headers: Headers | None = None,
) -> Request:
    """A caller's request."""

    return Request(
        method=method,
        raw_path=path,
        query=query,
        headers=bearer() if headers is None else headers,
        body=body if isinstance(body, FakeRequestBody) else FakeRequestBody([body]),
    )


def bearer(of: str | None = None) -> Headers:
    """The header that carries a token."""
    return (("authorization", f"Bearer {of or token()}"), ("content-type", "application/json"))


def request_limits(
    *,
    max_headers: int = 200,
    max_header_bytes: int = 65_536,
    max_body_bytes: int = 1_000_000,
    read_timeout_seconds: float = 5,
    max_refused_uploads: int = 64,
) -> RequestLimits:
    """Bounds on a request that are far away but for those given."""
    return RequestLimits(
        max_headers=max_headers,
        max_header_bytes=max_header_bytes,
        max_body_bytes=max_body_bytes,
        read_timeout_seconds=read_timeout_seconds,
        max_refused_uploads=max_refused_uploads,
    )


BOUNDARY = "x-boundary-7"
SPEECH_PATH = "/openai/deployments/gpt/audio/speech"
TRANSCRIPTION_PATH = "/openai/deployments/gpt/audio/transcriptions"
V1_TRANSCRIPTION_PATH = "/openai/v1/audio/transcriptions"
V1_RESPONSES_PATH = "/openai/v1/responses"


def form(*fields: tuple[str, bytes], boundary: str = BOUNDARY) -> bytes:
    """A multipart form; the field `file` is sent as a file."""
    parts = []
    for name, value in fields:
        file = '; filename="a.wav"\r\nContent-Type: audio/wav' if name == "file" else ""
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
        parts.append(head.encode() + value + b"\r\n")
    return b"".join(parts) + f"--{boundary}--\r\n".encode()


def form_headers(length: int | None = None, *, kind: str | None = None) -> Headers:
    """The headers of a form, with an accepted token."""
    declared = () if length is None else (("content-length", str(length)),)
    kind = f"multipart/form-data; boundary={BOUNDARY}" if kind is None else kind
    return (bearer()[0], ("content-type", kind), *declared)


FORM = form(("file", bytes(2_000)), ("model", b"gpt"))


def headers_from(subject: str, *, of_form: bool = False, length: int | None = None) -> Headers:
    """The headers of a subject's call with a body, of a form or of JSON."""
    declared = () if length is None else (("content-length", str(length)),)
    plain = form_headers() if of_form else bearer()
    authorization = ("authorization", f"Bearer {token(payload=claims(sub=subject))}")
    return (authorization, *plain[1:], *declared)


def headers_of(answer: Answer | StreamingAnswer) -> dict[str, str]:
    """An answer's headers by name."""
    return dict(answer.headers)


def error_of(answer: Answer | StreamingAnswer) -> dict[str, object]:
    """The error in an answer's body."""
    assert isinstance(answer, Answer)
    error: dict[str, object] = json.loads(answer.body)["error"]
    return error
