"""Judges what needs no service of its own: settings, sign-in, issuers' keys, the clock, versions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from meter.doctor.answers import NoAnswer, NoToken
from meter.doctor.finding import Area, Examined, Finding, Status
from meter.doctor.unreached import unanswered
from meter.errors import Problem

KEY_VAULT_ROLE = "Key Vault Secrets User"
# Tokens' times get a leeway of 60 s (`caller/auth.py`); a `Date` is in whole seconds.
SKEW_WARN_SECONDS, SKEW_FAIL_SECONDS = 10.0, 60.0
_INSTALL = "pip install -r requirements.txt"


@dataclass(slots=True)
class Offsets:
    """How far the clocks of servers are ahead of ours, in seconds, by the server's name."""

    by_server: dict[str, float] = field(default_factory=dict)

    def learn(self, server: str, served_at: float, sent_at: float, received_at: float) -> None:
        """A `Date` of an answer; times are Unix seconds. It is cut to the second."""
        self.by_server[server] = served_at + 0.5 - (sent_at + received_at) / 2


def settings_findings(
    problems: Sequence[Problem], warnings: Sequence[str], *, references: Sequence[str], on_app: bool
) -> list[Finding]:
    """Each problem of the settings. `references` are settings that hold an unresolved reference."""
    found = [
        _setting(each.setting).failure(str(each).removeprefix(f"{each.setting} "))
        for each in problems
        if each.setting not in references
    ]
    found += [_reference(name, on_app=on_app) for name in references]
    found += [_setting("warning").warning(each) for each in warnings]
    if not any(each.status is Status.FAIL for each in found):
        found.insert(0, _setting("settings").ok("valid"))
    return found


def _reference(name: str, *, on_app: bool) -> Finding:
    if on_app:
        return _setting(name).failure(
            "Azure has not resolved this reference",
            "check the secret's address, and the identity's role on the vault",
            role=KEY_VAULT_ROLE,
        )
    return _setting(name).warning(
        "a reference that only the app resolves: its value is not known here",
        f"GET /doctor on the app checks it; its identity needs the role {KEY_VAULT_ROLE}",
    )


def _setting(name: str) -> Examined:
    return Examined(area=Area.SETTINGS, name=name)


def sign_in_finding(claims: Mapping[str, object] | None, *, on_app: bool) -> Finding:
    """Who signs in, from the claims of its token; None where no identity gave one."""
    examined = Examined(area=Area.IDENTITY, name="sign-in")
    if claims is None:
        return unanswered(examined, NoToken())
    named = {"object id": "oid", "client id": "appid", "tenant": "tid"}
    ids = [f"{word} {claims[claim]}" for word, claim in named.items() if claims.get(claim)]
    whose = "the app's identity" if on_app else "rights below are this identity's, not the app's"
    found = f"{', '.join(ids) or 'signed in'} ({whose})"
    return examined.ok(found)


def issuer_finding(
    issuer: str, outcome: NoAnswer | str | int, algorithms: Sequence[str]
) -> Finding:
    """What became of an issuer's keys: how many are usable, or why there are none."""
    examined = Examined(area=Area.ISSUERS, name=issuer)
    match outcome:
        case NoAnswer():
            return unanswered(examined, outcome)
        case str():
            return examined.failure(
                outcome, "check METER_ISSUERS: it must be as tokens name it in iss"
            )
        case 0:
            found = f"publishes no usable key for {', '.join(algorithms)}"
            return examined.failure(found, "check METER_ISSUERS and METER_ALGORITHMS")
        case _:
            return examined.ok(f"publishes {outcome} usable key{'' if outcome == 1 else 's'}")


def clock_finding(offsets: Offsets) -> Finding:
    """How far our clock is off, by the median of the servers: one of them may be wrong itself."""
    examined = Examined(area=Area.CLOCK, name="clock")
    if not offsets.by_server:
        return examined.warning("not compared: no server answered")
    seconds = -median(offsets.by_server.values())
    count = len(offsets.by_server)
    servers = f"{count} server{'' if count == 1 else 's'}"
    if abs(seconds) < SKEW_WARN_SECONDS:
        return examined.ok(f"within {abs(seconds):.1f} s of {servers}")
    found = f"{abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} {servers}"
    is_wrong = abs(seconds) >= SKEW_FAIL_SECONDS
    says = examined.failure if is_wrong else examined.warning
    return says(found, "synchronise the clock: tokens are valid with 60 s leeway")


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
    found = [_version("program").ok(", ".join(runs))]
    if not is_python_supported:
        found.append(_version("python").failure(f"Python {versions.python}", "use 3.13"))
    packages = versions.packages.items()
    missing = [name for name, (installed, _) in packages if installed is None]
    if missing:
        text = f"not installed: {', '.join(missing)}"
        found.append(_version("packages").failure(text, _INSTALL))
    others = [
        f"{name} {installed} (tested: {pinned})"
        for name, (installed, pinned) in packages
        if installed is not None and pinned is not None and installed != pinned
    ]
    if others:
        text = f"not as pinned: {', '.join(others)}"
        found.append(_version("packages").warning(text, _INSTALL))
    if not missing and not others:
        shown = ", ".join(f"{name} {installed}" for name, (installed, _) in packages)
        found.append(_version("packages").ok(shown))
    return found


def _version(name: str) -> Examined:
    return Examined(area=Area.VERSIONS, name=name)
