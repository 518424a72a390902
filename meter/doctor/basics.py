"""Judges what needs no service of its own: settings, sign-in, issuers' keys, the clock, versions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from meter.doctor.answers import ADVICE, SIGN_IN, NoAnswer
from meter.doctor.finding import Area, Finding, Status
from meter.errors import Problem

REFERENCE = "@microsoft."
KEY_VAULT_ROLE = "Key Vault Secrets User"
# Tokens' times get a leeway of 60 s (`caller/auth.py`); a `Date` is in whole seconds.
SKEW_WARN_SECONDS, SKEW_FAIL_SECONDS = 10.0, 60.0


@dataclass(slots=True)
class Offsets:
    """How far the clocks of servers are ahead of ours, in seconds, by the server's name."""

    by_server: dict[str, float] = field(default_factory=dict)

    def learn(self, server: str, served_at: float, sent_at: float, received_at: float) -> None:
        """A `Date` of an answer; times are Unix seconds. It is cut to the second."""
        self.by_server[server] = served_at + 0.5 - (sent_at + received_at) / 2


def is_reference(text: str | None) -> bool:
    """Whether a setting's value is a reference that Azure is to resolve."""
    return (text or "").strip().lower().startswith(REFERENCE)


def settings_findings(
    problems: Sequence[Problem], warnings: Sequence[str], *, references: Sequence[str], on_app: bool
) -> list[Finding]:
    """Each problem of the settings. `references` are settings that hold an unresolved reference."""
    found = [
        Finding(area=Area.SETTINGS, name=each.setting, status=Status.FAIL, found=str(each))
        for each in problems
        if each.setting not in references
    ]
    found += [_reference(name, on_app=on_app) for name in references]
    found += [
        Finding(area=Area.SETTINGS, name="warning", status=Status.WARN, found=each)
        for each in warnings
    ]
    if not any(each.status is Status.FAIL for each in found):
        found.insert(
            0, Finding(area=Area.SETTINGS, name="settings", status=Status.OK, found="valid")
        )
    return found


def _reference(name: str, *, on_app: bool) -> Finding:
    if on_app:
        return Finding(
            area=Area.SETTINGS,
            name=name,
            status=Status.FAIL,
            found="Azure has not resolved this reference",
            advice="check the secret's address, and the identity's role on the vault",
            role=KEY_VAULT_ROLE,
        )
    return Finding(
        area=Area.SETTINGS,
        name=name,
        status=Status.WARN,
        found="a reference that Azure resolves on the app alone: its value is not known here",
        advice=f"GET /doctor on the app checks it; its identity needs the role {KEY_VAULT_ROLE}",
    )


def sign_in_finding(claims: Mapping[str, object] | None, *, on_app: bool) -> Finding:
    """Who signs in, from the claims of its token; None where no identity gave one."""
    if claims is None:
        return Finding(
            area=Area.IDENTITY,
            name="sign-in",
            status=Status.FAIL,
            found="no identity gives a token",
            advice=SIGN_IN,
        )
    named = {"object id": "oid", "client id": "appid", "tenant": "tid"}
    ids = [f"{word} {claims[claim]}" for word, claim in named.items() if claims.get(claim)]
    whose = "the app's identity" if on_app else "rights below are this identity's, not the app's"
    found = f"{', '.join(ids) or 'signed in'} ({whose})"
    return Finding(area=Area.IDENTITY, name="sign-in", status=Status.OK, found=found)


def issuer_finding(
    issuer: str, outcome: NoAnswer | str | int, algorithms: Sequence[str]
) -> Finding:
    """What became of an issuer's keys: how many are usable, or why there are none."""
    match outcome:
        case NoAnswer(fault):
            return _issuer(issuer, Status.FAIL, fault.value, ADVICE[fault])
        case str():
            advice = "check METER_ISSUERS: it must be as tokens name it in iss"
            return _issuer(issuer, Status.FAIL, outcome, advice)
        case 0:
            found = f"publishes no usable key for {', '.join(algorithms)}"
            return _issuer(issuer, Status.FAIL, found, "check METER_ISSUERS and METER_ALGORITHMS")
        case _:
            return _issuer(
                issuer, Status.OK, f"publishes {outcome} usable key{'' if outcome == 1 else 's'}"
            )


def _issuer(issuer: str, status: Status, found: str, advice: str = "") -> Finding:
    return Finding(area=Area.ISSUERS, name=issuer, status=status, found=found, advice=advice)


def clock_finding(offsets: Offsets) -> Finding:
    """How far our clock is off, by the median of the servers: one of them may be wrong itself."""
    if not offsets.by_server:
        return Finding(
            area=Area.CLOCK,
            name="clock",
            status=Status.WARN,
            found="not compared: no server answered",
        )
    seconds = -median(offsets.by_server.values())
    count = len(offsets.by_server)
    servers = f"{count} server{'' if count == 1 else 's'}"
    if abs(seconds) < SKEW_WARN_SECONDS:
        found = f"within {abs(seconds):.1f} s of {servers}"
        return Finding(area=Area.CLOCK, name="clock", status=Status.OK, found=found)
    is_wrong = abs(seconds) >= SKEW_FAIL_SECONDS
    return Finding(
        area=Area.CLOCK,
        name="clock",
        status=Status.FAIL if is_wrong else Status.WARN,
        found=f"{abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} {servers}",
        advice="synchronise the clock: tokens are valid with 60 s leeway",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """What runs: the program, Python, and each package as installed and as pinned (None: not known)."""

    program: str
    python: str
    packages: Mapping[str, tuple[str | None, str | None]]
    bundle: str | None = None
    host: str | None = None


def version_findings(versions: Versions, *, is_python_supported: bool) -> list[Finding]:
    """The versions, and where they are not those that were tested."""
    runs = [f"aoai-meter {versions.program}", f"Python {versions.python}"]
    runs += [f"host {versions.host}"] if versions.host else []
    runs += [f"extension bundle {versions.bundle}"] if versions.bundle else []
    found = [_version("program", Status.OK, ", ".join(runs))]
    if not is_python_supported:
        found.append(_version("python", Status.FAIL, f"Python {versions.python}", "use 3.13"))
    missing = [name for name, (installed, _) in versions.packages.items() if installed is None]
    if missing:
        text = f"not installed: {', '.join(missing)}"
        found.append(_version("packages", Status.FAIL, text, "pip install -r requirements.txt"))
    others = [
        f"{name} {installed} (tested: {pinned})"
        for name, (installed, pinned) in versions.packages.items()
        if installed is not None and pinned is not None and installed != pinned
    ]
    if others:
        text = f"not as pinned: {', '.join(others)}"
        found.append(_version("packages", Status.WARN, text, "pip install -r requirements.txt"))
    if not missing and not others:
        shown = ", ".join(
            f"{name} {installed}" for name, (installed, _) in versions.packages.items()
        )
        found.append(_version("packages", Status.OK, shown))
    return found


def _version(name: str, status: Status, found: str, advice: str = "") -> Finding:
    return Finding(area=Area.VERSIONS, name=name, status=status, found=found, advice=advice)
