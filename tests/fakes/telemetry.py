"""An in-memory stand-in for telemetry."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from meter.ports import Headers, Trace
from meter.usage import UsageEvent


@dataclass
class FakeTelemetry:
    """Records what it is told; continues traces with `parent`, if it has one."""

    parent: str | None = None
    begun: list[Headers] = field(default_factory=list)
    ended_calls: list[tuple[object, Sequence[UsageEvent]]] = field(default_factory=list)
    rejections: list[tuple[int, str]] = field(default_factory=list)
    joins: int = 0

    def begin(
        self, headers: Headers, *, started_at: datetime, operation: str, deployment: str
    ) -> Trace:
        self.begun.append(headers)
        if self.parent is None:
            return Trace(headers)
        others = [each for each in headers if each[0] != "traceparent"]
        return Trace((*others, ("traceparent", self.parent)), span=len(self.begun))

    def ended(self, trace: Trace, events: Sequence[UsageEvent]) -> None:
        self.ended_calls.append((trace.span, events))

    def rejected(self, status: int, reason: str) -> None:
        self.rejections.append((status, reason))

    def joined(self) -> None:
        self.joins += 1
