"""`subjects` on Azurite: arguments, output, exit codes, and beside an aggregator that counts."""

import json
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from meter.__main__ import main
from meter.usage import new_event_id
from tests.integration.test_repair_commands import LAST_HOUR, Tables
from tests.support.events import message, usage_event

NASTY = "=a;b\r\n'=c\t\"%/\\#?\u202e" + 230 * "é"


@pytest.fixture
def tables(azurite: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tables]:
    monkeypatch.setenv("MeterStorage", azurite)
    tables = Tables(azurite)
    yield tables
    tables.empty()


def counted(tables: Tables, *subjects: str, numbers: int = 1) -> None:
    """Have the aggregator count a call of each."""
    events = [
        usage_event(
            subject=subject,
            id=new_event_id(LAST_HOUR, (1_000 * numbers + place).to_bytes(10)),
            time=LAST_HOUR,
            started_at=LAST_HOUR,
        )
        for place, subject in enumerate(subjects)
    ]
    tables.receive(message(*events))


def subjects(tables: Tables) -> dict[str, dict[str, object]]:
    return {str(row["Subject"]): row for row in tables.rows("Subjects")}


def test_one_subject_is_set_and_cleared(tables: Tables, capsys: pytest.CaptureFixture[str]) -> None:
    """What is not given stays; one that has not called yet is prepared."""
    counted(tables, "alice")
    assert main(["subjects", "set", "alice", "--team", "Research", "--cost-centre", "4711"]) == 0
    assert main(["subjects", "set", "alice", "--team", ""]) == 0
    assert main(["subjects", "set", "bob", "--display-name", "Bob"]) == 0
    assert main(["subjects", "set", "bob", "--display-name", "Bob"]) == 0

    found = subjects(tables)
    assert (found["alice"]["Team"], found["alice"]["CostCentre"]) == ("", "4711")
    assert found["alice"]["Tenant"] == "tenant"
    assert found["bob"]["DisplayName"] == "Bob"
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "SUBJECT  COLUMN        BEFORE      AFTER",
        "bob      display_name  -       ->  Bob    new subject",
        "nothing to change",
    ]


def test_subjects_are_listed_for_people_and_scripts(
    tables: Tables, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """With what is missing; by team; the format as the file's ending says."""
    counted(tables, "alice", "bob")
    main(["subjects", "set", "alice", "--team", "Research"])
    capsys.readouterr()
    assert main(["subjects", "list"]) == 0
    shown = capsys.readouterr().out.splitlines()
    out = tmp_path / "subjects.json"
    assert main(["subjects", "list", "--missing", "team", "--out", str(out)]) == 0
    assert main(["subjects", "list", "--team", "Research", "--format", "csv"]) == 0

    assert [line.split("  ")[0] for line in shown] == [
        "SUBJECT",
        "alice",
        "bob",
        "2 subjects, 2 without a name, 1 without a team, 2 without a cost centre",
    ]
    (bob,) = json.loads(out.read_text())
    assert (bob["subject"], bob["team"], bob["tenant"]) == ("bob", None, "tenant")
    assert capsys.readouterr().out.splitlines()[1].startswith('"alice","","Research",')


def test_subjects_are_listed_in_the_order_in_which_people_look(
    tables: Tables, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without regard to case and accents, numbers by value."""
    counted(tables, "user10", "User9", "élan", "Zoë", "alice")
    assert main(["subjects", "list", "--format", "json"]) == 0

    found = [each["subject"] for each in json.loads(capsys.readouterr().out)]
    assert found == ["alice", "élan", "User9", "user10", "Zoë"]


def test_a_file_is_imported_whole_or_not_at_all(
    tables: Tables, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A dry run lists the changes; nothing is written while a row is invalid."""
    counted(tables, "alice", "carol")
    main(["subjects", "set", "carol", "--cost-centre", "1"])
    capsys.readouterr()
    path = tmp_path / "people.csv"
    path.write_text("Subject;Team;cost_centre\nalice;Research;\nbob;Sales;4711\ncarol;;\nbob;x;y\n")
    assert main(["subjects", "import", str(path)]) == 1
    assert capsys.readouterr().err == (
        f"error: {path}, line 5, column subject: 'bob' stands on line 3, too: give each subject one "
        "line\n"
    )
    path.write_text("Subject;Team;cost_centre\nalice;Research;\nbob;Sales;4711\ncarol;;\n")
    assert main(["subjects", "import", str(path), "--dry-run"]) == 0
    assert "Team" not in subjects(tables)["alice"]
    assert main(["subjects", "import", str(path)]) == 0
    assert main(["subjects", "import", str(path)]) == 0
    assert main(["subjects", "import", str(path), "--clear-empty"]) == 0

    assert capsys.readouterr().out.splitlines() == [
        "SUBJECT  COLUMN       BEFORE      AFTER",
        "alice    team         -       ->  Research",
        "bob      team         -       ->  Sales     new subject",
        "bob      cost_centre  -       ->  4711      new subject",
        "2 of 3 subjects would be changed, 1 of them new (a dry run)",
        "1 empty cell leaves what is stored: --clear-empty would clear it",
        "2 of 3 subjects changed, 1 of them new",
        "1 empty cell leaves what is stored: --clear-empty would clear it",
        "0 of 3 subjects changed",
        "1 empty cell leaves what is stored: --clear-empty would clear it",
        "1 of 3 subjects changed",
    ]
    assert subjects(tables)["carol"]["CostCentre"] == ""


def test_what_is_exported_and_imported_again_changes_nothing(
    tables: Tables, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Subjects of 255 characters of any kind, too; a call in between is no edit."""
    counted(tables, "alice", NASTY[:255])
    main(["subjects", "set", NASTY[:255], "--team", "=Sales;-1"])
    path = tmp_path / "people.csv"
    assert main(["subjects", "export", "--out", str(path)]) == 0
    counted(tables, "alice", numbers=2)
    capsys.readouterr()
    before = tables.rows("Subjects")
    assert main(["subjects", "import", str(path), "--clear-empty"]) == 0

    assert capsys.readouterr() == ("0 of 2 subjects changed\n", "")
    assert tables.rows("Subjects") == before
    assert path.read_bytes().startswith(b'\xef\xbb\xbf"subject",')


def test_the_meters_own_columns_are_not_taken(
    tables: Tables, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Who edited them is told; the rest of the file counts."""
    counted(tables, "alice")
    path = tmp_path / "people.csv"
    path.write_text("subject,tenant,team\nalice,other,Research\n")
    assert main(["subjects", "import", str(path)]) == 0

    assert capsys.readouterr().err == (
        "warning: tenant of alice differs from what is stored and is not taken: the meter fills it in\n"
    )
    assert subjects(tables)["alice"]["Tenant"] == "tenant"


def test_an_import_and_an_aggregator_write_the_same_rows_at_once(
    tables: Tables, tmp_path: Path
) -> None:
    """Both merge under etags, so each finds its columns whole at the end."""
    names = [f"s{number:03}" for number in range(150)]
    path = tmp_path / "people.csv"
    path.write_text("subject,team\n" + "".join(f"{name},Sales\n" for name in names))
    codes: list[int] = []
    importing = Thread(target=lambda: codes.append(main(["subjects", "import", str(path)])))
    importing.start()
    for number, part in enumerate((names[:90], names[60:]), start=1):
        counted(tables, *part, numbers=number)
    importing.join()

    found = subjects(tables)
    assert codes == [0]
    assert found.keys() == set(names)
    assert {row.get("Team") for row in found.values()} == {"Sales"}
    assert {row.get("Tenant") for row in found.values()} == {"tenant"}
