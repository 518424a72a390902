"""`python -m meter invoice`: its arguments, exit codes and messages."""

import json
from pathlib import Path

import pytest

from local.child import free_ports
from meter.__main__ import main
from tests.support.invoice import csv_of, details
from tests.support.reconcile import EAST

NO_STORAGE = (
    "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=c2VjcmV0;"
    "TableEndpoint=http://127.0.0.1:{}/a"
)


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MeterStorage__tableServiceUri", "AzureWebJobsStorage", "METER_MONITOR_URL"):
        monkeypatch.delenv(name, raising=False)
    backend = {"name": "a", "url": "https://a.example", "deployments": {"gpt": "gpt"}}
    monkeypatch.setenv("METER_BACKENDS", json.dumps([backend | {"resource_id": EAST}]))
    (port,) = free_ports(1)
    monkeypatch.setenv("MeterStorage", NO_STORAGE.format(port))


@pytest.fixture
def export(tmp_path: Path) -> Path:
    file = tmp_path / "export.csv"
    file.write_text(csv_of(details()))
    return file


@pytest.mark.parametrize(
    ("words", "accepted"),
    [
        ([], "the following arguments are required: --export, --month"),
        (["--export", "a.csv", "--month", "2026-10-01"], "YYYY-MM"),
        (["--export", "a.csv", "--month", "2026-10", "--group", "colour"], "subject, name, team"),
        (["--export", "a.csv", "--month", "2026-10", "--cost", "list"], "effective"),
        (["--export", "a.csv", "--month", "2026-10", "--format", "pdf"], "json"),
        (
            ["--export", "a", "--month", "2026-10", "--format", "focus", "--cost", "effective"],
            "a FOCUS file has what was billed: give --cost billed",
        ),
    ],
)
def test_invalid_arguments_exit_with_2_and_say_what_is_accepted(
    words: list[str], accepted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is read and nothing is on standard output."""
    with pytest.raises(SystemExit) as ending:
        main(["invoice", *words])

    assert ending.value.code == 2
    output = capsys.readouterr()
    assert accepted in output.err
    assert output.out == ""


def test_files_that_cannot_be_read_have_a_line_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Storage is not asked, and the output's file is as it was."""
    out, empty = tmp_path / "out.csv", tmp_path / "empty.csv"
    out.write_text("as it was")
    empty.touch()
    words = ["--export", str(tmp_path), "--export", str(empty), "--month", "2026-10"]
    code = main(["invoice", *words, "--out", str(out)])

    assert code == 1
    assert capsys.readouterr().err == (
        f"error: {tmp_path} is a folder: name the files in it\nerror: {empty} is empty\n"
    )
    assert out.read_text() == "as it was"
    assert sorted(tmp_path.iterdir()) == [empty, out]


def test_exports_of_another_month_say_which_days_they_have(
    export: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty invoice would look like one."""
    code = main(["invoice", "--export", str(export), "--month", "2026-09"])

    assert code == 1
    assert capsys.readouterr().err == (
        "error: the exports have no row of 2026-09 for an account of METER_BACKENDS; "
        "they have rows from 2026-10-01 to 2026-10-01\n"
    )


def test_settings_without_any_account_are_told(
    export: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no row that could be theirs."""
    backend = {"name": "a", "url": "https://a.example", "deployments": {"gpt": "gpt"}}
    monkeypatch.setenv("METER_BACKENDS", json.dumps([backend]))
    code = main(["invoice", "--export", str(export), "--month", "2026-10"])

    assert code == 1
    assert "gives no backend a resource_id" in capsys.readouterr().err


def test_files_that_may_be_the_wrong_ones_are_told(
    export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two runs of a daily export, and rows of other months: corrections of them are billed later."""
    other = tmp_path / "other.csv"
    other.write_text(csv_of(details(), details(Date="09/30/2026"), details(Date="09/29/2026")))
    main(["invoice", "--export", str(export), str(other), "--month", "2026-10"])

    assert capsys.readouterr().err.splitlines()[:2] == [
        f"warning: {other} repeats charges of {export}: of a daily export, give one run's files",
        "warning: rows from 2026-09-29 to 2026-09-30 are of other months, and are left out",
    ]


def test_storage_that_does_not_answer_leaves_no_trace(
    export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither on standard output nor in the file; the key is not shown."""
    out = tmp_path / "out.json"
    code = main(
        ["invoice", "--export", str(export), "--month=2026-10", "--format=json", f"--out={out}"]
    )

    output = capsys.readouterr()
    assert code == 1
    assert output.err.startswith("error: table storage did not answer")
    assert "c2VjcmV0" not in output.err
    assert output.out == ""
    assert sorted(tmp_path.iterdir()) == [export]


def test_a_file_that_is_missing_is_named_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As other errors name theirs: the file, then what is the matter."""
    missing = tmp_path / "export of october.csv"
    code = main(["invoice", "--export", str(missing), "--month", "2026-10"])

    assert code == 1
    assert capsys.readouterr().err == f"error: {missing}: No such file or directory\n"
