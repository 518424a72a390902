"""`close`, `prove` and `verify-proof`: arguments, messages and exit codes."""

import asyncio
from pathlib import Path

import pytest

from meter.__main__ import main
from tests.support.closing import closed_header, october, prove
from tests.support.events import event_id


@pytest.fixture
def no_access(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MeterStorage", "MeterStorage__tableServiceUri", "AzureWebJobsStorage"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def proof(tmp_path: Path) -> Path:
    """The proof of a call of October."""

    async def make() -> bytes:
        store = await october()
        await closed_header(store)
        return (await prove(store)).encode()

    file = tmp_path / "proof.json"
    file.write_bytes(asyncio.run(make()))
    return file


def root_of(proof: Path) -> str:
    return proof.read_text().split('"root": "')[1][:64]


@pytest.mark.parametrize(
    ("words", "accepted"),
    [
        (["close"], "--month"),
        (["close", "--month", "2026-10-01"], "YYYY-MM"),
        (["close", "--month", "october"], "YYYY-MM"),
        (["prove", "x", "--subject", "alice"], "CALL_ID"),
        (["prove", str(event_id(1))], "--subject"),
        (["prove", str(event_id(1)), "--subject", ""], "the subject of a token"),
        (["prove", "0f8fad5b-d9cb-469f-a165-70867728950e", "--subject", "a"], "--month"),
        (["verify-proof"], "FILE"),
        (["verify-proof", "f", "--root", "abc"], "64 hexadecimal digits"),
    ],
    ids=str,
)
def test_invalid_arguments_exit_with_2_and_say_what_is_accepted(
    words: list[str], accepted: str, no_access: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Storage is not tried."""
    with pytest.raises(SystemExit) as ending:
        main(words)

    assert ending.value.code == 2
    assert accepted in capsys.readouterr().err


def test_a_proof_is_checked_without_any_access(
    proof: Path, no_access: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says what is proven, and with which root to compare."""
    alone = main(["verify-proof", str(proof)])
    shown = capsys.readouterr().out
    of_root = main(["verify-proof", str(proof), "--root", root_of(proof).upper()])

    assert (alone, of_root) == (0, 0)
    assert shown.splitlines() == [
        f"{event_id(1)} of subject alice is in the closed total of 2026-10 once",
        "  total: 3 calls, 0 adjustments, 45 tokens",
        f"  root: {root_of(proof)}",
        "  compare the root with the published one, or give that as --root",
    ]
    assert "compare the root" not in capsys.readouterr().out


def test_a_proof_that_does_not_hold_exits_with_1(
    proof: Path, tmp_path: Path, no_access: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line says why; so do a missing file and a folder."""
    other = main(["verify-proof", str(proof), "--root", "0" * 64])
    proof.write_bytes(proof.read_bytes().replace(b'"total_tokens": 15', b'"total_tokens": 16'))
    changed = main(["verify-proof", str(proof)])
    missing = main(["verify-proof", str(tmp_path / "none.json")])
    folder = main(["verify-proof", str(tmp_path)])
    errors = capsys.readouterr().err.splitlines()

    assert (other, changed, missing, folder) == (1, 1, 1, 1)
    assert len(errors) == 4
    assert errors[0] == f"error: it is of another root: {root_of(proof)}"
    assert errors[1] == "error: the call and its path do not lead to the month's tree"


def test_files_of_the_price_book_are_read_before_anything_else(
    tmp_path: Path, no_access: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every one that cannot be read is named."""
    words = ["--prices", str(tmp_path / "a.csv"), "--prices", str(tmp_path)]
    code = main(["close", "--month", "2026-10", *words])

    assert code == 1
    assert capsys.readouterr().err.splitlines() == [
        f"error: {tmp_path / 'a.csv'}: No such file or directory",
        f"error: {tmp_path}: Is a directory",
    ]


@pytest.mark.parametrize("name", ["", " ", "x" * 201])
def test_a_month_is_closed_by_somebody(
    name: str, no_access: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name of 1 to 200 characters, which the snapshot keeps."""
    assert main(["close", "--month", "2026-10", "--by", name]) == 1
    assert "--by takes a text of 1 to 200 characters" in capsys.readouterr().err
