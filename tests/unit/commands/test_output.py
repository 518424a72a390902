"""The output file of a command: whole, or as it was before."""

import os
import sys
from pathlib import Path

import pytest

from meter.commands.output import open_output


def fail(path: Path | None) -> None:
    with open_output(path) as out:
        out.write("half of it")
        raise OSError("the disk is full")


def test_a_file_is_replaced_by_what_was_written(tmp_path: Path) -> None:
    """It keeps its permissions; no other file stays behind."""
    path = tmp_path / "usage.csv"
    path.write_text("old", encoding="utf-8")
    path.chmod(0o640)
    with open_output(path) as out:
        out.write("zoë\n")

    assert path.read_bytes() == b"zo\xc3\xab\n"
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    """A half file could be taken for a whole one."""
    path = tmp_path / "usage.csv"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(OSError, match="full"):
        fail(path)

    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_makes_no_file(tmp_path: Path) -> None:
    """Where there was none before."""
    with pytest.raises(OSError, match="full"):
        fail(tmp_path / "usage.csv")

    assert list(tmp_path.iterdir()) == []


def test_an_error_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    """Not the one beside it, of which nobody knows."""
    path = tmp_path / "no-folder" / "usage.csv"
    with pytest.raises(FileNotFoundError) as refused, open_output(path):
        pass

    assert refused.value.filename == str(path)


def test_a_program_reads_the_whole_text_or_none(capsys: pytest.CaptureFixture[str]) -> None:
    """Half a JSON or CSV on standard output could be taken for a whole one; a long text is not cut."""
    with pytest.raises(OSError, match="full"):
        fail(None)
    failed = capsys.readouterr().out
    long = "zoë,1\r\n" * 300_000
    with open_output(None) as out:
        out.write(long)

    assert failed == ""
    assert capsys.readouterr().out == long


def test_a_terminal_gets_the_text_as_it_comes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody looks at it, and sees the error below."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with pytest.raises(OSError, match="full"):
        fail(None)

    assert capsys.readouterr().out == "half of it"


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """The file it leads to is replaced."""
    path, link = tmp_path / "usage.csv", tmp_path / "latest.csv"
    path.write_text("old", encoding="utf-8")
    link.symlink_to(path)
    with open_output(link) as out:
        out.write("new")

    assert link.is_symlink()
    assert path.read_text(encoding="utf-8") == "new"


def test_a_pipe_is_written_directly(tmp_path: Path) -> None:
    """As /dev/stdout and /dev/null, which must not be replaced by files."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open_output(path) as out:
        out.write("text")

    assert os.read(reader, 10) == b"text"
    assert path.is_fifo()
    os.close(reader)
