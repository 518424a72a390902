"""Reads who is let in (issuers, audiences, tenants, client apps, roles, scopes), and at which paths.

Also what OpenCode is told about that.
"""

import re
from collections import defaultdict
from urllib.parse import urlsplit

from meter.config.documents import UNREAD, JsonSetting
from meter.config.reader import Reader
from meter.gateway.address import is_allowed_url
from meter.gateway.caller.auth import DEFAULT_NAME_CLAIMS, TokenRules
from meter.gateway.opencode import OpenCode, opencode_of, opencode_problem
from meter.gateway.request.route import Routes
from meter.gateway.request.spelling import Spellings
from meter.patterns import lazy_pattern

KNOWN_ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"}
)
# Entra's hosts for sign-in, and how v1 and v2 tokens name their issuer there: the other hosts, never.
_V1, _V2 = "https://sts.windows.net/TENANT-ID/", "https://login.microsoftonline.com/TENANT-ID/v2.0"
_V2_US = "https://login.microsoftonline.us/TENANT-ID/v2.0"
_V1_CHINA = "https://sts.chinacloudapi.cn/TENANT-ID/"
_V2_CHINA = "https://login.partner.microsoftonline.cn/TENANT-ID/v2.0"
_ENTRA_FORMS = {
    "sts.windows.net": (_V1,),
    "login.microsoftonline.com": (_V2,),
    "login.microsoftonline.us": (_V2_US,),
    "sts.chinacloudapi.cn": (_V1_CHINA,),
    "login.partner.microsoftonline.cn": (_V2_CHINA,),
    "login.windows.net": (_V1, _V2),
    "login.microsoft.com": (_V1, _V2),
    "accounts.accesscontrol.windows.net": (_V1, _V2),
    "login-us.microsoftonline.com": (_V1, _V2_US),
    "login.chinacloudapi.cn": (_V1_CHINA, _V2_CHINA),
}
_NAME_CLAIMS = "METER_NAME_CLAIMS"
_OPERATOR_ROLE = "METER_OPERATOR_ROLE"
_PREFIXES = "METER_PATH_PREFIXES"
MAX_PREFIX_CHARS = 256
# First segments of the app's own addresses, and of the Functions host's, which reads them in any case.
OWN_SEGMENTS = ("openai", "healthz", "readyz", "doctor", "admin", "runtime", ".well-known")
# RFC 3986 section 3.3, not encoded.
_SEGMENT = lazy_pattern(r"[A-Za-z0-9._~!$&'()*+;=:@-]+", re.ASCII)
_CLAIM = frozenset(" ,;")  # not in a claim's name
_UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_ID = lazy_pattern(_UUID, re.ASCII)
_APP_QUERY = lazy_pattern(rf"appid={_UUID}", re.ASCII | re.IGNORECASE)


def read_token_rules(reader: Reader) -> TokenRules:
    """The rules for access. Problems are reported."""
    rules = TokenRules(
        issuers=frozenset(issuer for issuer, _ in _issuers(reader)),
        audiences=reader.names("METER_AUDIENCES"),
        algorithms=reader.names("METER_ALGORITHMS", "RS256"),
        allowed_tenants=reader.names("METER_ALLOWED_TENANTS"),
        allowed_apps=reader.names("METER_ALLOWED_APPS"),
        required_roles=reader.names("METER_REQUIRED_ROLES"),
        required_scopes=reader.names("METER_REQUIRED_SCOPES"),
        subject_claim=reader.text("METER_SUBJECT_CLAIM", "sub"),
        name_claims=_name_claims(reader),
    )
    if not rules.issuers:
        reader.problem("METER_ISSUERS", "is not set: name the token issuers, comma-separated")
    for issuer in sorted(rules.issuers):
        if (text := _issuer_problem(issuer)) is not None:
            reader.problem("METER_ISSUERS", text, f"got {issuer.rpartition('@')[2]!r}")
    if not rules.audiences:
        reader.problem("METER_AUDIENCES", "is not set: name the audiences tokens must be for")
    if any(audience.endswith("/.default") for audience in rules.audiences):
        reader.problem(
            "METER_AUDIENCES",
            "has a scope: name the audience alone, without /.default, for example api://APP-ID",
        )
    if not _is_claim(rules.subject_claim):
        reader.problem("METER_SUBJECT_CLAIM", "must be one claim's name, for example oid")
    if not all(map(_is_claim, rules.name_claims)):
        reader.problem(
            _NAME_CLAIMS,
            "must be claims' names separated by commas, for example name,upn; empty: none",
        )
    _check_algorithms(reader, rules)
    _check_ids(reader, rules)
    return rules


def read_operator_role(reader: Reader) -> str | None:
    """The app role of those who may ask the app what it finds; None: nobody may. Problems are reported."""
    role = reader.text(_OPERATOR_ROLE)
    if any(mark.isspace() or mark == "," for mark in role):
        reader.problem(_OPERATOR_ROLE, f"must be one app role's value, got {role!r:.60}")
    return role or None


def read_discovery_queries(reader: Reader) -> dict[str, frozenset[str]]:
    """The queries of each issuer's discovery document. Problems are reported."""
    queries: defaultdict[str, set[str]] = defaultdict(set)
    for issuer, query in _issuers(reader):
        queries[issuer].add(query)
        if query and not _APP_QUERY.fullmatch(query):
            reader.problem(
                "METER_ISSUERS",
                "may end with ?appid=CLIENT-ID, for an app that has a signing key of its own, and "
                "with no other query",
                f"got {query!r}",
            )
    return {issuer: frozenset(found) for issuer, found in queries.items()}


def read_routes(reader: Reader) -> Routes:
    """The addresses, under the prefixes too. Problems are reported."""
    found = reader.ordered_names(_PREFIXES)
    for prefix in found:
        if (text := _prefix_problem(prefix)) is not None:
            reader.problem(_PREFIXES, text, f"got {prefix[:MAX_PREFIX_CHARS]!r}")
    return Routes(Spellings(found))


def read_opencode(reader: Reader) -> OpenCode:
    """What OpenCode is told; nothing where there is no setting. Problems are reported."""
    setting = JsonSetting(reader, "METER_OPENCODE")
    document = setting.read()
    if document is UNREAD:
        return OpenCode()
    if (text := opencode_problem(document)) is not None:
        setting.problem(text, setting.place.strip())
    return opencode_of(document)


def _name_claims(reader: Reader) -> tuple[str, ...]:
    """The claims with a caller's name. Unlike other settings, this one is switched off by being empty."""
    found = reader.ordered_names(_NAME_CLAIMS, ",".join(DEFAULT_NAME_CLAIMS))
    is_empty = not reader.environment.get(_NAME_CLAIMS, "unset").strip()
    return () if is_empty else found


def _is_claim(name: str) -> bool:
    return name.isprintable() and _CLAIM.isdisjoint(name)


def _issuers(reader: Reader) -> list[tuple[str, str]]:
    """Each issuer, and the query of its discovery document, which is not a part of `iss`."""
    named = (name.partition("?") for name in reader.names("METER_ISSUERS"))
    return [(issuer, query) for issuer, _, query in named]


def _issuer_problem(issuer: str) -> str | None:
    if not is_allowed_url(issuer):
        return "must be https URLs without a user; plain http is accepted on loopback only"
    parts = urlsplit(issuer)
    if "#" in issuer or "/.well-known/" in issuer:
        return "must be as tokens name them in iss, without the path of the discovery document"
    forms = _ENTRA_FORMS.get(parts.hostname or "", ())
    if forms and not any(_has_form(issuer, form) for form in forms):
        return (
            f"must be as tokens name it: {' or '.join(forms)}, with exactly these slashes and the "
            "tenant's id in small letters (not a domain, common or organizations)"
        )
    return None


def _has_form(issuer: str, form: str) -> bool:
    head, tail = form.split("TENANT-ID")
    tenant = issuer.removeprefix(head).removesuffix(tail)
    return _ID.fullmatch(tenant) is not None and issuer == f"{head}{tenant}{tail}"


def _check_algorithms(reader: Reader, rules: TokenRules) -> None:
    if not rules.algorithms:
        reader.problem("METER_ALGORITHMS", "names no algorithm; leave it out for RS256")
    if unknown := sorted(rules.algorithms - KNOWN_ALGORITHMS):
        accepted = ", ".join(sorted(KNOWN_ALGORITHMS))
        reader.problem("METER_ALGORITHMS", f"accepts {accepted}; got {', '.join(unknown)}")


def _check_ids(reader: Reader, rules: TokenRules) -> None:
    """Entra puts the ids of tenant and app into tokens, in small letters, and never their names."""
    if not rules.issuers or not all(urlsplit(i).hostname in _ENTRA_FORMS for i in rules.issuers):
        return
    for setting, kind, names in (
        ("METER_ALLOWED_TENANTS", "tenant", rules.allowed_tenants),
        ("METER_ALLOWED_APPS", "client", rules.allowed_apps),
    ):
        if wrong := sorted(each for each in names if not _ID.fullmatch(each)):
            reader.problem(
                setting,
                f"must be {kind} ids in small letters, for example "
                "5d1f7c1e-3c52-4b8e-9f0a-0c1d2e3f4a5b",
                f"got {', '.join(wrong)}",
            )


def _prefix_problem(prefix: str) -> str | None:
    """Why a prefix cannot be one; None when it can."""
    segments = prefix.split("/")[1:]
    if not prefix.startswith("/"):
        return "must be paths that begin with /, for example /corp/team"
    if len(prefix) > MAX_PREFIX_CHARS:
        return f"must be paths of at most {MAX_PREFIX_CHARS} characters"
    if prefix.endswith("/"):
        return "must be paths without a slash at the end, for example /corp/team"
    if "" in segments:
        return "must be paths without //"
    if not {".", ".."}.isdisjoint(segments):
        return "must be paths without the segments . and .."
    if "%" in prefix or not all(map(_SEGMENT.fullmatch, segments)):
        return "must be paths of letters, digits and marks that need no encoding, without % ? # and spaces"
    if segments[0].lower() in OWN_SEGMENTS:
        return f"must not begin with an address of the app or its host: {', '.join(OWN_SEGMENTS)}"
    return None
