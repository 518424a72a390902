"""Batches of usage events as the trigger delivers them: messages of one hub partition.

Each subject is one client application that calls three deployments on two backends at random.
"""

from collections.abc import Iterator, Sequence
from copy import replace
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from itertools import batched, count, islice, product
from random import Random

from meter.bucket import hub_partition_of
from meter.ledger.decode import Message
from meter.usage import (
    Outcome,
    Principal,
    Tier,
    TokenUsage,
    UsageEvent,
    UsageSource,
    encode_batch,
    encode_event,
    new_event_id,
)

EVENTS_A_MESSAGE = 20
HUB_PARTITIONS = 4
DEPLOYMENTS = ("gpt-4o", "gpt-4.1-mini", "o4-mini")
BACKENDS = ("ptu-swedencentral", "paygo-westeurope")
KINDS = tuple(product(DEPLOYMENTS, BACKENDS))

type Call = tuple[str, tuple[str, str]]
"""A subject, and the deployment and the backend that it calls."""


def subjects_of(partition: int, *, run: str) -> Iterator[str]:
    """Endless subjects of a hub partition, as long as Entra ID's pairwise `sub`."""
    for number in count():
        subject = sha256(f"{run}-{number}".encode()).hexdigest()[:43]
        if hub_partition_of(subject, HUB_PARTITIONS) == partition:
            yield subject


@dataclass(slots=True, kw_only=True)
class Traffic:
    """The events of some subjects of one hub partition. `sent` is the number of messages so far."""

    subjects: Sequence[str]
    partition: int
    dice: Random
    sent: int = 0

    def each_once(self, size: int) -> Iterator[list[Message]]:
        """Batches of at most `size` events in which every subject calls once."""
        order = list(self.subjects)
        self.dice.shuffle(order)
        for some in batched(order, size, strict=False):
            yield list(self._messages(self._any_kind(some)))

    def each_kind(self, size: int) -> Iterator[list[Message]]:
        """Batches in which every subject calls each deployment on each backend once."""
        calls = ((subject, kind) for kind in KINDS for subject in self.subjects)
        for some in batched(calls, size, strict=False):
            yield list(self._messages(some))

    def at_random(self, size: int) -> list[Message]:
        """A batch of `size` events, each of any subject."""
        return list(self._messages(self._any_kind(self.dice.choices(self.subjects, k=size))))

    def _any_kind(self, subjects: Sequence[str]) -> Sequence[Call]:
        return list(zip(subjects, self.dice.choices(KINDS, k=len(subjects)), strict=True))

    def _messages(self, calls: Sequence[Call]) -> Iterator[Message]:
        now = datetime.now(UTC)
        for some in batched(calls, EVENTS_A_MESSAGE, strict=False):
            body = encode_batch(encode_event(self._event(*call, now)) for call in some)
            self.sent += 1
            yield Message(
                body=body,
                hub_partition=str(self.partition),
                sequence_number=self.sent,
                enqueued_at=now,
            )

    def _event(self, subject: str, kind: tuple[str, str], now: datetime) -> UsageEvent:
        prompt, completion = self.dice.randrange(2_000), self.dice.randrange(500)
        deployment, backend = kind
        return replace(
            _EVENT,
            id=new_event_id(now, self.dice.randbytes(10)),
            time=now,
            started_at=now,
            principal=Principal(
                subject=subject,
                issuer="https://login.example/t/v2.0",
                client_app=f"app-{subject[:32]}",
            ),
            deployment=deployment,
            model=f"{deployment}-2025-04-14",
            backend=backend,
            usage=TokenUsage(
                prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion
            ),
        )


def traffic(*, subjects: int, partition: int, run: str) -> Traffic:
    """Traffic of so many subjects, the same for the same `run`."""
    some = list(islice(subjects_of(partition, run=run), subjects))
    return Traffic(subjects=some, partition=partition, dice=Random(f"{run}-{partition}"))


_EVENT = UsageEvent(
    id=new_event_id(datetime(2026, 1, 1, tzinfo=UTC), bytes(10)),
    source="/aoai-meter/bench",
    time=datetime(2026, 1, 1, tzinfo=UTC),
    principal=Principal(subject="s", issuer="i"),
    operation="chat/completions",
    deployment="gpt-4o",
    model="gpt-4o-2024-11-20",
    api_version="2024-10-21",
    backend="a",
    tier=Tier.STANDARD,
    outcome=Outcome.SERVED,
    status=200,
    streaming=False,
    usage=TokenUsage(),
    usage_source=UsageSource.REPORTED,
    started_at=datetime(2026, 1, 1, tzinfo=UTC),
    duration_ms=900,
    time_to_first_byte_ms=300,
)
