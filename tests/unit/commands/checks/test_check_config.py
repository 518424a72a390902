"""`check-config`: what valid settings amount to, and every problem of invalid ones."""

import os
from pathlib import Path

import pytest

from meter.__main__ import main
from tests.support.prices import book_text, line
from tests.unit.config.test_environment import BACKEND, REQUIRED, backends


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)


def run(settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> int:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return main(["check-config"])


def test_valid_settings_are_summed_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The backends, and who is let in; a rule that is not set is said to let everybody in."""
    code = run(REQUIRED, monkeypatch)

    assert code == 0
    assert capsys.readouterr().out == (
        "settings are valid: 1 backend\n"
        "  eu: priority 1, weight 1, standard; serves gpt\n"
        "let in: callers with a token\n"
        "  from https://login.example/t/v2.0\n"
        "  for api://meter\n"
        "  of any tenant of these issuers\n"
        "  of any client app\n"
        "  with no role or scope: none is required\n"
        "named by app_displayname, preferred_username, upn, unique_name, email\n"
        "billed by the claim sub\n"
    )


def test_what_calls_are_priced_by_is_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A deployment's own facts stand behind its name; the backend's hold for the others."""
    whisper = {"name": "w", "model": "whisper-001", "tier": "standard"}
    backend = BACKEND | {
        "tier": "provisioned",
        "region": "Sweden Central",
        "deployment_type": "data-zone",
        "deployments": {"whisper": whisper, "gpt": "gpt-own"},
    }
    run(backends(backend) | {"METER_NAME_CLAIMS": ","}, monkeypatch)

    shown = capsys.readouterr().out
    assert (
        "  eu: priority 1, weight 1, provisioned, data-zone, swedencentral; "
        "serves gpt, whisper (whisper-001, standard)\n"
    ) in shown
    assert "\nnamed by no claim: names are not recorded\nbilled by " in shown


def test_rules_are_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of several is enough."""
    rules = {
        "METER_ALLOWED_TENANTS": "t1,t2",
        "METER_ALLOWED_APPS": "app",
        "METER_REQUIRED_ROLES": "Call,Admin",
        "METER_REQUIRED_SCOPES": "call",
        "METER_SUBJECT_CLAIM": "oid",
    }
    run(REQUIRED | rules, monkeypatch)

    shown = capsys.readouterr().out
    assert "  of t1 or t2\n  of app\n  with role Admin or role Call or scope call\n" in shown
    assert shown.endswith("billed by the claim oid\n")


def test_problems_are_listed_with_their_details(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, and each on a line of its own."""
    wrong = {"METER_REQUIRED_ROLE": "Call", "METER_BACKENDS": "/no/file"}

    code = run(REQUIRED | wrong, monkeypatch)

    assert code == 1
    assert capsys.readouterr().err == (
        "error: METER_BACKENDS is the path of a file that cannot be read "
        "(FileNotFoundError in '/no/file')\n"
        "error: METER_REQUIRED_ROLE is not a setting: did you mean METER_REQUIRED_ROLES?\n"
    )


@pytest.mark.parametrize("proxy", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "All_Proxy"])
@pytest.mark.parametrize(
    "excepted",
    ["", "localhost", "127.0.0.1", "127.0.0.1.example,localhost", "127.0.0.1 localhost", "*"],
)
def test_a_proxy_for_the_hosts_own_calls_is_warned_of(
    proxy: str, excepted: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The settings stay valid: an app may reach its backends through a proxy."""
    code = run(REQUIRED | {proxy: "http://p.example:3128", "no_proxy": excepted}, monkeypatch)

    shown = capsys.readouterr().out
    assert code == 0
    assert f"\nwarning: {proxy} would send the Functions host's own calls" in shown
    assert "NO_PROXY=127.0.0.1,localhost" in shown
    assert "p.example" not in shown, "it may hold a password"


def test_each_spelling_of_the_exceptions_must_have_the_worker(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """.NET reads `no_proxy` before `NO_PROXY`, and no other then."""
    proxies = {"HTTP_PROXY": "http://p.example", "NO_PROXY": "127.0.0.1,localhost", "no_proxy": "a"}

    run(REQUIRED | proxies, monkeypatch)

    assert "\nwarning: HTTP_PROXY would send" in capsys.readouterr().out


@pytest.mark.parametrize(
    "settings",
    [
        {"HTTPS_PROXY": "http://p.example:3128"},
        {"HTTP_PROXY": " "},
        {"HTTP_PROXY": "http://p.example", "NO_PROXY": "a.example, localhost ,127.0.0.1"},
        {"all_proxy": "http://p.example", "no_proxy": "127.0.0.1,localhost"},
        {"HTTP_PROXY": "http://p.example", "NO_PROXY": "LocalHost,127.0.0.1,"},
    ],
)
def test_other_proxies_are_not_warned_of(
    settings: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The host calls its worker over plain HTTP, at an address that can be excepted."""
    run(REQUIRED | settings, monkeypatch)

    assert "warning" not in capsys.readouterr().out


def test_the_price_book_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the app would say of money is known before it is deployed."""
    path = tmp_path / "book.csv"
    path.write_text(book_text(line(price="2.50")))

    assert run(REQUIRED | {"METER_PRICES": str(path)}, monkeypatch) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "money: 1 prices in USD"


def test_problems_of_the_price_book_stand_beside_those_of_the_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All are told at once."""
    code = run(REQUIRED | {"METER_PRICES": "none.csv", "METER_DURABILITY": "safe"}, monkeypatch)

    assert code == 1
    assert capsys.readouterr().err == (
        "error: METER_DURABILITY must be one of acknowledged, background, got 'safe'\n"
        "error: METER_PRICES: none.csv: cannot be read: No such file or directory\n"
    )


def test_exports_are_checked_with_the_rest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A container that is none, and a capacity file that is not there."""
    missing = str(tmp_path / "capacity.toml")
    exports = {"METER_EXPORT_CONTAINER": "No", "METER_CAPACITY": missing}
    code = run(REQUIRED | exports, monkeypatch)
    shown = capsys.readouterr().err

    assert code == 1
    assert "error: METER_EXPORT_CONTAINER must be a container's name" in shown
    assert f"error: {missing}: cannot be read" in shown


def test_where_exports_go_is_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only where there are any."""
    code = run(REQUIRED | {"METER_EXPORT_CONTAINER": "exports"}, monkeypatch)

    assert code == 0
    assert "exports: every night to the container exports\n" in capsys.readouterr().out
