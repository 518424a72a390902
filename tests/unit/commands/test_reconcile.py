"""`python -m meter reconcile`: its arguments, exit codes and messages."""

import json
from pathlib import Path

import pytest

from local.child import free_ports
from meter.__main__ import main
from tests.support.reconcile import EAST

NO_STORAGE = (
    "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=c2VjcmV0;"
    "TableEndpoint=http://127.0.0.1:{}/a"
)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MeterStorage", "MeterStorage__tableServiceUri", "AzureWebJobsStorage"):
        monkeypatch.delenv(name, raising=False)
    for name in ("METER_BACKENDS", "METER_MONITOR_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("words", "accepted"),
    [
        (["--from", "yesterday"], "YYYY-MM-DD"),
        (
            ["--from", "2026-02", "--to", "2026-01"],
            "--from: the start 2026-02 is after the end 2026-01",
        ),
        (["--tolerance", "much"], "--tolerance: a tolerance is a percentage"),
        (["--format", "csv"], "json"),
        (["--since", "2026"], "--since"),
    ],
)
def test_invalid_arguments_exit_with_2_and_say_what_is_accepted(
    words: list[str], accepted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither storage nor Azure is queried; nothing is on standard output."""
    with pytest.raises(SystemExit) as ending:
        main(["reconcile", *words])

    assert ending.value.code == 2
    output = capsys.readouterr()
    assert accepted in output.err
    assert output.out == ""


def test_hours_that_azure_does_not_have_exit_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    """The arguments are valid; there is nothing to compare."""
    code = main(["reconcile", "--from", "2999-01"])

    assert code == 1
    assert capsys.readouterr().err.startswith("error: Azure Monitor has complete hours from ")


def test_settings_without_any_account_exit_with_1_and_name_the_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no account to query."""
    file = tmp_path / "backends.json"
    backend = {"name": "a", "url": "https://a.example", "deployments": {"gpt": "gpt"}}
    file.write_text(json.dumps([backend]))
    monkeypatch.setenv("METER_BACKENDS", str(file))
    monkeypatch.setenv("MeterStorage", NO_STORAGE.format(1))
    code = main(["reconcile"])

    assert code == 1
    assert capsys.readouterr().err == (
        "error: METER_BACKENDS gives no backend a resource_id, so there is no account to query\n"
    )


def test_storage_that_does_not_answer_exits_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without counted usage there is nothing to compare; the key is not shown."""
    (port,) = free_ports(1)
    backend = {"name": "a", "url": "https://a.example", "deployments": {"gpt": "gpt"}}
    monkeypatch.setenv("METER_BACKENDS", json.dumps([backend | {"resource_id": EAST}]))
    monkeypatch.setenv("MeterStorage", NO_STORAGE.format(port))
    code = main(["reconcile"])

    output = capsys.readouterr()
    assert code == 1
    assert output.err.startswith("error: table storage did not answer: ViewShards")
    assert "c2VjcmV0" not in output.err
    assert output.out == ""


def test_help_names_every_choice(capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` is the operator's manual."""
    with pytest.raises(SystemExit) as ending:
        main(["reconcile", "--help"])

    assert ending.value.code == 0
    shown = capsys.readouterr().out
    for word in ("--from", "--to", "--tolerance", "0.5%", "--ignore", "--format", "json"):
        assert word in shown
