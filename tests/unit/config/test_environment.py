"""Settings are read once, typed and defaulted, and every problem they have is told at once."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from meter.config.environment import (
    load_publish_settings,
    load_reconcile_settings,
    load_retail_prices_url,
    load_settings,
    shutdown_seconds,
)
from meter.config.memory import visible_memory_bytes
from meter.config.values import Durability
from meter.errors import InvalidSettings
from meter.gateway.answer.relay import DrainLimits, RelayTimes
from meter.gateway.backend import ApiKey, Backend, Deployment, ManagedIdentity
from meter.gateway.balance.exchange import ForwardLimits
from meter.gateway.caller.auth import TokenRules
from meter.gateway.http import RequestLimits
from meter.gateway.limits.admission import AdmissionLimits
from meter.gateway.limits.intake import BodyLimits
from meter.usage import Tier

CONNECTION = "AccountName=a;AccountKey=storage-secret"
BACKEND = {"name": "eu", "url": "https://eu.openai.azure.com", "deployments": {"gpt": "gpt-own"}}
REQUIRED = {
    "METER_ISSUERS": "https://login.example/t/v2.0",
    "METER_AUDIENCES": "api://meter",
    "METER_BACKENDS": json.dumps({"backends": [BACKEND]}),
    "EventHubConnection": "Endpoint=sb://hub/;SharedAccessKey=hub-secret",
    "MeterStorage": CONNECTION,
}


def environment(**changes: str) -> dict[str, str]:
    return REQUIRED | changes


def backends(*entries: object) -> dict[str, str]:
    return environment(METER_BACKENDS=json.dumps({"backends": entries}))


def problems(settings: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(InvalidSettings) as found:
        load_settings(settings)
    return found.value.problems


def test_what_is_not_set_has_its_default() -> None:
    """The mandatory settings alone are enough."""
    settings = load_settings(REQUIRED)

    gateway = settings.gateway
    assert gateway.rules == TokenRules(
        issuers=frozenset({"https://login.example/t/v2.0"}),
        audiences=frozenset({"api://meter"}),
        algorithms=frozenset({"RS256"}),
        name_claims=("app_displayname", "preferred_username", "upn", "unique_name", "email"),
        subject_claim="sub",
    )
    assert gateway.requests == RequestLimits(
        max_headers=200,
        max_header_bytes=65_536,
        max_body_bytes=33_554_432,
        read_timeout_seconds=60,
        max_refused_uploads=64,
    )
    assert gateway.limits.admission == AdmissionLimits(
        max_concurrent_calls=1000,
        body_budget_bytes=visible_memory_bytes() // 4,
        subject_share_percent=50,
        bodies=BodyLimits(max_form_bytes=33_554_432, max_json_bytes=16_777_216),
    )
    assert gateway.limits.first_keepalive_seconds == 80
    assert gateway.limits.forwarding == ForwardLimits(
        first_byte_timeout_seconds=200,
        attempts_timeout_seconds=220,
        max_buffered_bytes=33_554_432,
    )
    assert gateway.limits.times == RelayTimes(
        write_seconds=60,
        keepalive_seconds=20,
        total_seconds=1700,
    )
    assert gateway.limits.drains == DrainLimits(most=100, seconds=300, share_percent=50)
    assert (gateway.connect_timeout_seconds, gateway.idle_timeout_seconds) == (5, 600)
    assert (settings.timeout_seconds, gateway.shutdown_seconds) == (1, 25)
    assert gateway.long_context_tokens == 272_000
    assert (gateway.max_frame_bytes, gateway.durability) == (4_194_304, Durability.ACKNOWLEDGED)
    assert (gateway.jwks_refresh_seconds, gateway.exposes_backend) == (30, False)
    assert gateway.joins_retries
    assert gateway.source == "/aoai-meter/local"


def test_up_to_so_many_streams_are_drained_only_where_they_are_drained() -> None:
    """`METER_MAX_DRAINS` counts with `METER_ON_DISCONNECT=drain` alone."""
    drained = REQUIRED | {"METER_MAX_DRAINS": "6"}

    drains = [
        load_settings(drained | {"METER_ON_DISCONNECT": word}).gateway.limits.drains.most
        for word in ("drain", "cancel")
    ]

    assert drains == [6, 0]


def test_a_backend_has_its_defaults() -> None:
    """First priority, weight 1, standard tier, the app's own identity."""
    gateway = load_settings(REQUIRED).gateway

    assert gateway.backends == (
        Backend(
            name="eu",
            url="https://eu.openai.azure.com",
            priority=1,
            weight=1,
            tier=Tier.STANDARD,
            deployments={"gpt": Deployment("gpt-own")},
        ),
    )
    assert gateway.auth == {"eu": ManagedIdentity()}


def test_all_that_is_set_is_used() -> None:
    """Lists are comma-separated; spaces and empty parts do not matter."""
    settings = load_settings(
        environment(
            METER_ISSUERS="https://a.example/, https://b.example ,",
            METER_AUDIENCES=" api://a,api://b ",
            METER_ALLOWED_TENANTS="t1,t2",
            METER_ALLOWED_APPS="app",
            METER_REQUIRED_ROLES="Meter.Call",
            METER_REQUIRED_SCOPES="call",
            METER_SUBJECT_CLAIM="oid",
            METER_NAME_CLAIMS="name, upn,,name",
            METER_PATH_PREFIXES="/corp,/corp/team",
            METER_LONG_CONTEXT_TOKENS="128000",
            METER_ALGORITHMS="RS256,ES256",
            METER_DURABILITY="background",
            METER_ON_DISCONNECT="cancel",
            METER_RETENTION_DAYS="30",
            METER_CONNECT_TIMEOUT_SECONDS="0.5",
            METER_FIRST_BYTE_TIMEOUT_SECONDS="2",
            METER_ATTEMPTS_TIMEOUT_SECONDS="21",
            METER_IDLE_TIMEOUT_SECONDS="3",
            METER_PUBLISH_TIMEOUT_SECONDS="4",
            METER_SHUTDOWN_SECONDS="12",
            METER_DRAIN_SECONDS="5",
            METER_MAX_DRAINS="6",
            METER_WRITE_TIMEOUT_SECONDS="9",
            METER_KEEPALIVE_SECONDS="10",
            METER_FIRST_KEEPALIVE_SECONDS="14",
            METER_MAX_FRAME_BYTES="70000",
            METER_MAX_BUFFERED_ANSWER_BYTES="80000",
            METER_TOTAL_TIMEOUT_SECONDS="11",
            METER_READ_TIMEOUT_SECONDS="12",
            METER_MAX_REFUSED_UPLOADS="3",
            METER_MAX_CONCURRENT_CALLS="13",
            METER_MAX_HEADERS="24",
            METER_MAX_HEADER_BYTES="2048",
            METER_MAX_BODY_BYTES="7000",
            METER_MAX_JSON_BODY_BYTES="9000",
            METER_BODY_BUDGET_BYTES="900000",
            METER_SUBJECT_SHARE_PERCENT="30",
            METER_JWKS_REFRESH_SECONDS="8",
            METER_EXPOSE_BACKEND="TRUE",
            METER_JOIN_RETRIES="Off",
            METER_EVENT_HUB="other",
            WEBSITE_SITE_NAME="site",
        )
    )

    gateway = settings.gateway
    assert gateway.rules == TokenRules(
        issuers=frozenset({"https://a.example/", "https://b.example"}),
        audiences=frozenset({"api://a", "api://b"}),
        algorithms=frozenset({"RS256", "ES256"}),
        allowed_tenants=frozenset({"t1", "t2"}),
        allowed_apps=frozenset({"app"}),
        required_roles=frozenset({"Meter.Call"}),
        required_scopes=frozenset({"call"}),
        subject_claim="oid",
        name_claims=("name", "upn"),
    )
    assert gateway.long_context_tokens == 128_000
    assert gateway.requests == RequestLimits(
        max_headers=24,
        max_header_bytes=2048,
        max_body_bytes=9000,
        read_timeout_seconds=12,
        max_refused_uploads=3,
    )
    assert gateway.limits.admission == AdmissionLimits(
        max_concurrent_calls=13,
        body_budget_bytes=900_000,
        subject_share_percent=30,
        bodies=BodyLimits(max_form_bytes=7000, max_json_bytes=9000),
    )
    assert gateway.limits.first_keepalive_seconds == 14
    assert gateway.limits.forwarding == ForwardLimits(
        first_byte_timeout_seconds=2,
        attempts_timeout_seconds=21,
        max_buffered_bytes=80_000,
    )
    assert gateway.limits.times == RelayTimes(
        write_seconds=9,
        keepalive_seconds=10,
        total_seconds=11,
    )
    assert gateway.limits.drains == DrainLimits(most=0, seconds=5, share_percent=30)
    assert (gateway.connect_timeout_seconds, gateway.idle_timeout_seconds) == (0.5, 3)
    assert (settings.timeout_seconds, gateway.shutdown_seconds) == (4, 12)
    assert (gateway.max_frame_bytes, gateway.durability) == (70_000, Durability.BACKGROUND)
    assert (gateway.jwks_refresh_seconds, gateway.exposes_backend) == (8, True)
    assert not gateway.joins_retries
    assert (gateway.source, settings.hub.name) == ("/aoai-meter/site", "other")
    assert settings.storage.retention == timedelta(days=30)


@pytest.mark.parametrize("text", ["", "  ", ",", " , "])
def test_names_are_switched_off_by_an_empty_setting(text: str) -> None:
    """`,` where a platform drops settings that are empty."""
    assert load_settings(environment(METER_NAME_CLAIMS=text)).gateway.rules.name_claims == ()


def test_the_outbox_timer_needs_the_hub_and_the_storage_only() -> None:
    """It runs on instances of its own, and must publish whatever the front door lacks."""
    settings = load_publish_settings(
        {
            "EventHubConnection": REQUIRED["EventHubConnection"],
            "MeterStorage": CONNECTION,
            "METER_PUBLISH_TIMEOUT_SECONDS": "2",
        }
    )
    with pytest.raises(InvalidSettings) as raised:
        load_publish_settings({"METER_ISSUERS": "not a url"})

    assert (settings.hub.name, settings.timeout_seconds) == ("usage", 2)
    assert {problem.setting for problem in raised.value.found} == {
        "EventHubConnection",
        "MeterStorage",
    }


@pytest.mark.parametrize(("text", "seconds"), [("", 25), ("40", 40), ("soon", 25), ("0", 25)])
def test_the_time_to_end_is_known_whatever_is_set(text: str, seconds: float) -> None:
    """A process must end in order although its settings are invalid; `check-config` tells of it."""
    assert shutdown_seconds({"METER_SHUTDOWN_SECONDS": text}) == seconds


def test_a_backend_is_read_whole() -> None:
    """Its address loses the `/openai` that Azure's pages show at its end."""
    entry = {
        "name": "ptu",
        "url": "https://eu.openai.azure.com/openai/",
        "priority": 2,
        "weight": 70,
        "tier": "provisioned",
        "auth": {"kind": "api-key", "setting": "EU_KEY"},
        "deployments": {"gpt": "own", "embed": "embed"},
    }
    gateway = load_settings(backends(entry) | {"EU_KEY": "backend-secret"}).gateway

    assert gateway.backends == (
        Backend(
            name="ptu",
            url="https://eu.openai.azure.com",
            priority=2,
            weight=70,
            tier=Tier.PROVISIONED,
            deployments={"gpt": Deployment("own"), "embed": Deployment("embed")},
        ),
    )
    assert gateway.auth == {"ptu": ApiKey("backend-secret")}


def test_backends_may_be_a_bare_list_or_in_a_file(tmp_path: Path) -> None:
    """Inline JSON or a file's path."""
    file = tmp_path / "backends.json"
    file.write_text(REQUIRED["METER_BACKENDS"], "utf-8")
    settings = [REQUIRED["METER_BACKENDS"], json.dumps([BACKEND]), str(file)]

    loaded = [load_settings(environment(METER_BACKENDS=text)).gateway.backends for text in settings]

    assert loaded[0] == loaded[1] == loaded[2]


@pytest.mark.parametrize("name", ["METER_ISSUERS", "METER_AUDIENCES", "METER_BACKENDS"])
@pytest.mark.parametrize("value", [None, "", "  "])
def test_what_is_mandatory_must_be_set(name: str, value: str | None) -> None:
    """A missing audience stops the app; it never means any."""
    settings = {k: v for k, v in REQUIRED.items() if k != name}
    settings |= {} if value is None else {name: value}

    (problem,) = problems(settings)

    assert problem.startswith(f"{name} is not set: ")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("METER_CONNECT_TIMEOUT_SECONDS", "0", "must be a number from 0.1 to 60, got '0'"),
        ("METER_CONNECT_TIMEOUT_SECONDS", "61", "must be a number from 0.1 to 60, got '61'"),
        ("METER_FIRST_BYTE_TIMEOUT_SECONDS", "nan", "must be a number from 0.1 to 1800, got 'nan'"),
        ("METER_IDLE_TIMEOUT_SECONDS", "inf", "must be a number from 1 to 1800, got 'inf'"),
        ("METER_PUBLISH_TIMEOUT_SECONDS", "1s", "must be a number from 0.05 to 30, got '1s'"),
        ("METER_DRAIN_SECONDS", "-1", "must be a number from 1 to 1800, got '-1'"),
        ("METER_LONG_CONTEXT_TOKENS", "0", "must be a number from 1 to 1000000000000, got '0'"),
        ("METER_MAX_DRAINS", "many", "must be a number from 0 to 10000, got 'many'"),
        ("METER_MAX_BODY_BYTES", "1", "must be a number from 1024 to 103809024, got '1'"),
        ("METER_JWKS_REFRESH_SECONDS", "0", "must be a number from 1 to 86400, got '0'"),
        ("METER_RETENTION_DAYS", "0", "must be a number from 1 to 3660, got '0'"),
        ("METER_DURABILITY", "safe", "must be one of acknowledged, background, got 'safe'"),
        ("METER_ON_DISCONNECT", "DRAIN", "must be one of drain, cancel, got 'DRAIN'"),
        ("METER_EXPOSE_BACKEND", "yes", "must be true or false, got 'yes'"),
        ("METER_JOIN_RETRIES", "true", "must be on or off, got 'true'"),
        ("METER_BACKENDS", "{", "is not valid JSON"),
        ("METER_BACKENDS", "[" * 200_000, "is not valid JSON"),
        ("METER_BACKENDS", "[]", 'must be {"backends": [...]} with at least one backend'),
        ("METER_BACKENDS", "{}", 'must be {"backends": [...]} with at least one backend'),
        (
            "METER_BACKENDS",
            "/no/such/file",
            "is the path of a file that cannot be read (FileNotFoundError in '/no/such/file')",
        ),
        (
            "METER_BACKENDS",
            "\x00",
            "is the path of a file that cannot be read (ValueError in '\\x00')",
        ),
    ],
)
def test_a_value_that_is_refused_is_told_with_what_is_accepted(
    name: str, value: str, text: str
) -> None:
    """What was refused, the value, and what would do."""
    (problem,) = problems(environment(**{name: value}))

    assert problem.startswith(f"{name} {text}")


@pytest.mark.parametrize("algorithm", ["none", "HS256", "rs256", "EdDSA"])
def test_only_asymmetric_algorithms_can_be_configured(algorithm: str) -> None:
    """Never `none`, never HS*."""
    (problem,) = problems(environment(METER_ALGORITHMS=f"RS256,{algorithm}"))

    assert problem == (
        "METER_ALGORITHMS accepts ES256, ES384, ES512, PS256, PS384, PS512, RS256, RS384, RS512; "
        f"got {algorithm}"
    )


@pytest.mark.parametrize(
    "issuer", ["http://login.example", "login.example", "ftp://x", "https://", "file:///keys"]
)
def test_issuers_are_asked_over_https(issuer: str) -> None:
    """Plain http is for loopback."""
    (problem,) = problems(environment(METER_ISSUERS=issuer))

    assert problem.startswith(
        "METER_ISSUERS must be https URLs without a user; plain http is accepted on loopback"
    )


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:1", "[::1]:9", "127.9.9.9"])
def test_plain_http_is_accepted_on_loopback(host: str) -> None:
    """For the local stack: issuers and backends."""
    settings = backends(BACKEND | {"url": f"http://{host}"}) | {"METER_ISSUERS": f"http://{host}/t"}

    assert load_settings(settings).gateway.backends[0].url == f"http://{host}"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"name": ""}, "needs a name of 1-64 letters, digits and ._- for each backend"),
        ({"name": "a b"}, "needs a name of 1-64 letters, digits and ._- for each backend"),
        ({"url": None}, "url must be https (plain http on loopback only)"),
        ({"url": "http://x.example"}, "url must be https (plain http on loopback only)"),
        ({"url": "https://x.example?a=1"}, "url must be https (plain http on loopback only)"),
        ({"url": "https://eu.openai.azure.com/openai/deployments/x"}, "url must be the account's"),
        ({"url": "https://eu.openai.azure.com/v1"}, "url must be the account's address alone"),
        ({"url": "https://a.blob.core.windows.net"}, "url must be an Azure OpenAI account's"),
        ({"url": "https://a.servicebus.windows.net"}, "url must be an Azure OpenAI account's"),
        ({"url": "https://oai.azure.com"}, "url must be an Azure OpenAI account's"),
        (
            {"url": "https://westeurope.api.cognitive.microsoft.com"},
            "url must be the account's own host, since a region's host accepts keys only",
        ),
        ({"url": "https://u:hunter2@x.example"}, "url must be https (plain http on loopback only)"),
        ({"weight": 0}, "weight must be 1-100, got 0"),
        ({"weight": 101}, "weight must be 1-100, got 101"),
        ({"weight": True}, "weight must be 1-100, got True"),
        ({"weight": 1.5}, "weight must be 1-100, got 1.5"),
        ({"priority": 0}, "priority must be 1-1000, got 0"),
        ({"priority": "1"}, "priority must be 1-1000, got '1'"),
        ({"tier": "premium"}, "tier must be one of provisioned, standard, got 'premium'"),
        ({"deployments": {}}, "needs deployments for each backend"),
        ({"deployments": ["gpt"]}, "needs deployments for each backend"),
        ({"deployments": {"a/b": "x"}}, "needs deployments for each backend"),
        ({"deployments": {"gpt": None}}, "needs deployments for each backend"),
        ({"auth": {"kind": "password"}}, "auth.kind must be managed-identity or api-key"),
        (
            {"auth": "keys"},
            "auth.kind must be managed-identity or api-key, got 'keys'; for example",
        ),
        ({"auth": {"kind": "api-key"}}, "auth.setting must name the setting that holds the key"),
        (
            {"auth": {"kind": "api-key", "key": "hunter2"}},
            "auth accepts kind, setting; got key. The key itself never stands here",
        ),
        (
            {"auth": {"kind": "api-key", "setting": "UNSET"}},
            "auth.setting names a setting that is not set or empty",
        ),
        (
            {"wieght": 5},
            "accepts auth, deployment_type, deployments, name, priority, region, resource_id, tier, "
            "url, weight; got wieght",
        ),
    ],
    ids=str,
)
def test_a_backend_that_cannot_be_used_is_told(change: dict[str, object], text: str) -> None:
    """With the backend's name as a detail for operators."""
    (problem,) = problems(backends(BACKEND | change))

    assert problem.startswith(f"METER_BACKENDS {text}")
    assert f"(backend {change.get('name', 'eu')!r}" in problem
    assert "hunter2" not in problem


def test_backends_have_different_names() -> None:
    """Their circuits and credentials go by name."""
    assert problems(backends(BACKEND, BACKEND)) == (
        "METER_BACKENDS has a name twice (backend 'eu')",
    )


def test_a_backend_that_is_no_object_is_told_by_its_place() -> None:
    """It has no name to go by."""
    found = problems(backends(BACKEND, 7))

    assert "METER_BACKENDS has an entry that is not an object (backend '#2')" in found


def test_every_problem_is_told_at_once() -> None:
    """Not the first only, so that one restart mends them all."""
    found = problems(
        {"METER_DURABILITY": "x", "METER_MAX_DRAINS": "x", "METER_BACKENDS": '[{"name":"a"}]'}
    )

    assert [problem.split()[0] for problem in found] == [
        "METER_BACKENDS",
        "METER_BACKENDS",
        "METER_ISSUERS",
        "METER_AUDIENCES",
        "METER_DURABILITY",
        "METER_MAX_DRAINS",
        "EventHubConnection",
        "MeterStorage",
    ]


def test_invalid_settings_are_a_config_error() -> None:
    """Entry points answer it as one."""
    with pytest.raises(InvalidSettings, match="METER_ISSUERS is not set"):
        load_settings({})


def test_no_secret_is_shown() -> None:
    """Not in any settings' text, nor in a problem's."""
    keyed = BACKEND | {"auth": {"kind": "api-key", "setting": "EU_KEY"}}
    settings = backends(keyed) | {"EU_KEY": "backend-secret"}

    shown = repr(load_settings(settings)) + str(problems(settings | {"METER_ISSUERS": ""}))

    assert [s for s in ("backend-secret", "hub-secret", "storage-secret") if s in shown] == []


def test_a_password_in_an_issuers_address_is_not_shown() -> None:
    """It is refused for having one, so it must not be printed either."""
    (problem,) = problems(environment(METER_ISSUERS="https://user:hunter2@login.example"))

    assert "hunter2" not in problem


@pytest.mark.parametrize(
    "change",
    [
        {"METER_ALGORITHMS": ","},
        {"METER_MAX_DRAINS": "1.5"},
        {"METER_LONG_CONTEXT_TOKENS": "1.5"},
        backends(BACKEND | {"deployments": {"..": ".."}}),
        backends(BACKEND | {"url": "https://eu.x:99999"}),
        backends(BACKEND | {"url": "https://eu .x"}),
    ],
    ids=[
        "no algorithm",
        "half a drain",
        "half a token",
        "dotted deployment",
        "port",
        "space in host",
    ],
)
def test_what_cannot_work_is_told_at_start(change: dict[str, str]) -> None:
    """Each would fail every call, or be changed silently."""
    assert len(problems(environment() | change)) == 1


@pytest.mark.parametrize("path", ["", "/", "/openai", "/openai/", "/openai/v1", "/openai/v1/"])
def test_a_backends_address_may_be_copied_from_any_of_azures_pages(path: str) -> None:
    """Azure shows the address with and without the path; ours adds it."""
    settings = load_settings(environment() | backends(BACKEND | {"url": f"https://eu.x{path}"}))

    assert settings.gateway.backends[0].url == "https://eu.x"


ACCOUNT = (
    "/subscriptions/0AB1c2d3-0000-0000-0000-000000000001/resourceGroups/my.group(1)_-x"
    "/providers/Microsoft.CognitiveServices/accounts/contoso-eus"
)


@pytest.mark.parametrize("text", [ACCOUNT, ACCOUNT.lower(), ACCOUNT.upper()])
def test_a_resource_id_is_taken_in_any_case(text: str) -> None:
    """As the portal, the CLI and templates spell it."""
    settings = load_settings(backends(BACKEND | {"resource_id": text}))

    assert settings.gateway.backends[0].resource_id == text


@pytest.mark.parametrize(
    "value",
    [
        "",
        7,
        "contoso-eus",
        f"{ACCOUNT}/",
        f"{ACCOUNT}/deployments/gpt",
        f"{ACCOUNT}?x=1",
        f"x{ACCOUNT}",
        ACCOUNT.replace("0AB1c2d3", "xxxxxxxx"),
        ACCOUNT.replace("my.group(1)_-x", ".."),
        ACCOUNT.replace("my.group(1)_-x", "a/b"),
        ACCOUNT.replace("CognitiveServices", "Storage"),
    ],
)
def test_what_is_no_accounts_resource_id_is_told(value: object) -> None:
    """It becomes part of a URL to which a token is sent."""
    (problem,) = problems(backends(BACKEND | {"resource_id": value}))

    assert problem.startswith("METER_BACKENDS resource_id must be /subscriptions/ID/")
    assert problem.endswith("(backend 'eu')")
    with pytest.raises(InvalidSettings) as found:
        load_reconcile_settings(backends(BACKEND | {"resource_id": value}))
    assert found.value.problems == (problem,)


def test_backends_of_one_url_are_one_account_to_a_reconciliation() -> None:
    """Else one of them would pass for somebody else's calls. The front door does not mind."""
    one = BACKEND | {"resource_id": ACCOUNT}
    same = one | {"name": "eu-2", "resource_id": ACCOUNT.upper()}
    none = {**BACKEND, "name": "eu-3", "url": "https://EU.openai.azure.com/openai/v1"}
    other = one | {"name": "us", "url": "https://us.openai.azure.com"}

    assert len(load_reconcile_settings(backends(one, same, other)).backends) == 3
    with pytest.raises(InvalidSettings) as found:
        load_reconcile_settings(backends(one, same, none))
    assert found.value.problems == (
        "METER_BACKENDS needs one resource_id, or none, for all backends of one url "
        "(backends 'eu' and 'eu-3')",
    )
    assert len(load_settings(backends(one, same, none)).gateway.backends) == 3


def test_a_resource_id_of_null_is_none() -> None:
    """As the templates write it for a backend without an account name."""
    settings = load_settings(backends(BACKEND | {"resource_id": None}))

    assert settings.gateway.backends[0].resource_id is None


def test_a_reconciliation_needs_backends_and_tables_only() -> None:
    """No issuer, no hub, and no key: an operator's shell has none of them."""
    entry = BACKEND | {
        "resource_id": ACCOUNT,
        "auth": {"kind": "api-key", "setting": "KEPT_IN_AZURE"},
    }
    document = json.dumps({"backends": [entry]})
    settings = load_reconcile_settings({"METER_BACKENDS": document, "MeterStorage": CONNECTION})

    assert [backend.resource_id for backend in settings.backends] == [ACCOUNT]
    assert settings.monitor_url == "https://management.azure.com"
    assert settings.storage.endpoint.connection_string == CONNECTION


@pytest.mark.parametrize(
    ("url", "taken"),
    [
        ("https://management.usgovcloudapi.net/", "https://management.usgovcloudapi.net"),
        ("http://127.0.0.1:7075", "http://127.0.0.1:7075"),
        ("http://management.azure.com", None),
        ("https://user@management.azure.com", None),
        ("https://management.azure.com?x=1", None),
        ("management.azure.com", None),
    ],
)
def test_azure_monitors_address_is_https_or_loopback(url: str, taken: str | None) -> None:
    """The operator's token goes there."""
    entry = json.dumps([BACKEND | {"resource_id": ACCOUNT}])
    given = {"METER_BACKENDS": entry, "MeterStorage": CONNECTION, "METER_MONITOR_URL": url}
    if taken is None:
        with pytest.raises(InvalidSettings, match="METER_MONITOR_URL must be an https url"):
            load_reconcile_settings(given)
    else:
        assert load_reconcile_settings(given).monitor_url == taken


def test_the_address_of_retail_prices_is_https_or_loopback() -> None:
    """Prices decide what people are charged."""
    given = {"METER_RETAIL_PRICES_URL": "http://127.0.0.1:7076/"}

    assert load_retail_prices_url({}) == "https://prices.azure.com"
    assert load_retail_prices_url(given) == "http://127.0.0.1:7076"
    with pytest.raises(InvalidSettings, match="METER_RETAIL_PRICES_URL must be an https url"):
        load_retail_prices_url({"METER_RETAIL_PRICES_URL": "http://prices.example"})


def test_every_problem_of_a_reconciliation_is_told_at_once() -> None:
    """Also that there is no account to query."""
    entry = json.dumps([BACKEND])
    with pytest.raises(InvalidSettings) as found:
        load_reconcile_settings({"METER_BACKENDS": entry, "METER_MONITOR_URL": "x"})

    assert found.value.problems == (
        "METER_BACKENDS gives no backend a resource_id, so there is no account to query",
        "METER_MONITOR_URL must be an https url; plain http is accepted on loopback only",
        "MeterStorage is not set, nor is MeterStorage__tableServiceUri",
    )


def test_the_scope_of_the_backends_tokens_follows_the_cloud() -> None:
    """The public cloud's unless set; anything but one https URL is a mistake."""
    scope = "https://cognitiveservices.azure.us/.default"

    assert load_settings(REQUIRED).gateway.token_scope == (
        "https://cognitiveservices.azure.com/.default"
    )
    assert load_settings(environment(METER_BACKEND_TOKEN_SCOPE=scope)).gateway.token_scope == scope
    for wrong in ("cognitiveservices.azure.us", "http://x/.default", f"{scope} {scope}"):
        assert problems(environment(METER_BACKEND_TOKEN_SCOPE=wrong)) == (
            f"METER_BACKEND_TOKEN_SCOPE must be one https URL, got {wrong!r}",
        )


APP = "5d1f7c1e-3c52-4b8e-9f0a-0c1d2e3f4a5b"


def test_an_issuer_can_name_an_app_with_its_own_signing_key() -> None:
    """The query is of the discovery document; tokens name the issuer without it."""
    issuer = "https://login.example/t/v2.0"
    gateway = load_settings(
        environment(METER_ISSUERS=f"{issuer},{issuer}?appid={APP},https://other.example")
    ).gateway

    assert gateway.rules.issuers == {issuer, "https://other.example"}
    assert gateway.discovery_queries == {
        issuer: {"", f"appid={APP}"},
        "https://other.example": {""},
    }


@pytest.mark.parametrize("query", ["appid=meter", f"appid={APP}&x=1", "p=policy"])
def test_an_issuer_takes_no_other_query(query: str) -> None:
    """A misspelt one would be ignored by the issuer, and every token of the app refused."""
    (problem,) = problems(environment(METER_ISSUERS=f"https://login.example/t/v2.0?{query}"))

    assert problem.startswith("METER_ISSUERS may end with ?appid=CLIENT-ID")
