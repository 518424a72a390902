"""Finds for counted usage the deployment under which Azure recorded it.

Callers use public names; Azure records each account's own names. Usage of a backend is recorded on
the backend's account. What a provisioned deployment counted at another tier spilled over in Azure:
it is recorded under a standard deployment of the same account, which the sums do not name.

| Azure's calls are split by `IsSpillover`    | compared with                                   |
|---------------------------------------------|-------------------------------------------------|
| yes: some deployments served spilled calls  | of these the same public name's, else all       |
| yes: none did                               | the provisioned deployment itself               |
| no                                          | the same, with the same public name's beside it |

Where that is several, they are compared as one. All usage is matched once, as is each deployment.
https://learn.microsoft.com/azure/foundry/openai/how-to/spillover-traffic-management
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from meter.reports.tally import CountedUnder, OwnDeployment, Recorded
from meter.usage import Tier

_UNKNOWN = "unknown"  # the column of a call that no backend served


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendNames:
    """A backend's deployments, from public to own names, and its account where that is known.

    `provisioned` are the public names of those that are billed by capacity.
    """

    backend: str
    resource_id: str | None
    deployments: Mapping[str, str]
    provisioned: frozenset[str] = frozenset()

    @property
    def owned(self) -> Mapping[str, OwnDeployment]:
        """The deployments by public name; empty where the account is not known."""
        if self.resource_id is None:
            return {}
        return {
            name: OwnDeployment(self.resource_id, own) for name, own in self.deployments.items()
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Usage that was counted, and the deployments under which Azure recorded it.

    There are none where the account was not queried, for the `reason`. `spilled` is the part of
    `counted` that spilled over in Azure.
    """

    own: tuple[OwnDeployment, ...] = ()
    names: tuple[str, ...] = ()
    counted: tuple[CountedUnder, ...] = ()
    spilled: tuple[CountedUnder, ...] = ()
    is_configured: bool = False
    backend: str = ""
    reason: str = ""


@dataclass(slots=True, eq=False)
class _Part:
    own: set[OwnDeployment] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    counted: list[CountedUnder] = field(default_factory=list)
    spilled: list[CountedUnder] = field(default_factory=list)

    def add(self, under: CountedUnder) -> None:
        self.names.add(under.deployment)
        self.counted.append(under)


def provisioned_in(backends: Sequence[BackendNames]) -> frozenset[OwnDeployment]:
    """The deployments that are billed by capacity."""
    return frozenset(
        own for each in backends for name, own in each.owned.items() if name in each.provisioned
    )


def match(
    backends: Sequence[BackendNames],
    counted: Iterable[CountedUnder],
    recorded: Mapping[OwnDeployment, Recorded],
) -> list[Match]:
    """The matches of all usage, of all configured deployments, and of those that Azure recorded."""
    known = {each.backend: each for each in backends}
    configured = [(name, own) for each in backends for name, own in each.owned.items()]
    parts = {own: _Part({own}) for own in recorded}
    for name, own in configured:
        parts.setdefault(own, _Part({own})).names.add(name)
    strays = {(e.backend, name): _Part() for e in backends if not e.owned for name in e.deployments}
    capacity = provisioned_in(backends)
    for under in counted:
        at = _own(known.get(under.backend), under.deployment, recorded)
        if at is None:
            strays.setdefault((under.backend, under.deployment), _Part()).add(under)
        elif at not in capacity or under.tier == Tier.PROVISIONED:
            parts[at].add(under)
        else:
            alike = {own for name, own in configured if name == under.deployment} - capacity
            part = _joined(parts, _served_by(at, alike, recorded))
            part.add(under)
            part.spilled.append(under)
    owned = {own for _, own in configured}
    return [
        *(_matched(part, owned) for part in dict.fromkeys(parts.values())),
        *(_unmatched(part, name, known.get(of), of) for (of, name), part in strays.items()),
    ]


def _matched(part: _Part, owned: set[OwnDeployment]) -> Match:
    return Match(
        own=tuple(sorted(part.own)),
        names=tuple(sorted(part.names)),
        counted=tuple(part.counted),
        spilled=tuple(part.spilled),
        is_configured=not owned.isdisjoint(part.own),
    )


def _unmatched(part: _Part, name: str, backend: BackendNames | None, backend_name: str) -> Match:
    return Match(
        names=(name,),
        counted=tuple(part.counted),
        is_configured=backend is not None and name in backend.deployments,
        backend=backend_name,
        reason=_reason(name, backend, backend_name),
    )


def _own(
    backend: BackendNames | None, name: str, recorded: Mapping[OwnDeployment, Recorded]
) -> OwnDeployment | None:
    """Where Azure recorded a backend's usage; None if it cannot be known."""
    if backend is None or backend.resource_id is None:
        return None
    if own := backend.owned.get(name):
        return own
    # A tool's deployment is counted under its own name.
    own = OwnDeployment(backend.resource_id, name)
    return own if own in recorded else None


def _served_by(
    origin: OwnDeployment, alike: set[OwnDeployment], recorded: Mapping[OwnDeployment, Recorded]
) -> set[OwnDeployment]:
    """The deployments that may have served what spilled over from `origin`.

    `alike` are the standard deployments of its public name, on any account.
    """
    beside = {own for own in recorded if own.resource_id == origin.resource_id}
    alike = {own for own in alike if own.resource_id == origin.resource_id}
    if all(recorded[own].spilled_calls is None for own in beside):
        return alike | {origin}
    servers = {own for own in beside if recorded[own].spilled_calls}
    return (servers & alike) or servers or {origin}


def _joined(parts: dict[OwnDeployment, _Part], owns: set[OwnDeployment]) -> _Part:
    """The one part of all these deployments."""
    first, *others = dict.fromkeys(parts[own] for own in sorted(owns))
    for other in others:
        first.own |= other.own
        first.names |= other.names
        first.counted += other.counted
        first.spilled += other.spilled
        parts |= dict.fromkeys(other.own, first)
    return first


def _reason(name: str, backend: BackendNames | None, backend_name: str) -> str:
    if backend is None:
        is_known = backend_name not in {_UNKNOWN, ""}
        return f"no backend {backend_name} is configured now" if is_known else "no backend is known"
    if backend.resource_id is None:
        return f"no resource_id for backend {backend_name}"
    return f"backend {backend_name} serves no {name} now"
