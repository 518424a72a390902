"""The output file of a command: whole, or as it was before."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO, TextIO, cast

import pytest

from meter.commands.console.parser import CommandParser
from meter.commands.options import add_output
from meter.commands.output import chosen_format, open_output
from meter.errors import InvalidInput
from meter.reports.write.report import Format


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


def chosen(words: list[str], inputs: list[Path] | None = None) -> Format:
    """The format that a command of all formats but HTML takes."""
    parser = CommandParser()
    add_output(parser, [form for form in Format if form is not Format.HTML])
    return chosen_format(parser, parser.parse_args(words), inputs or [])


@pytest.mark.parametrize(
    ("words", "form"),
    [
        ([], Format.TABLE),
        (["--format", "xlsx"], Format.XLSX),
        (["--out", "a.csv"], Format.CSV),
        (["--out", "A.CSV"], Format.CSV),
        (["--out", "a.csv.gz"], Format.CSV),
        (["--out", "a.json"], Format.JSON),
        (["--out", "a.parquet"], Format.PARQUET),
        (["--out", "a.b.xlsx"], Format.XLSX),
        (["--out", "a.txt"], Format.TABLE),
        (["--out", "a.txt", "--format", "csv"], Format.CSV),
        (["--out", "a.csv", "--format", "focus"], Format.FOCUS),
        (["--out", "usage"], Format.TABLE),
        (["--out", "csv"], Format.TABLE),
        (["--out", "a.dat", "--format", "parquet"], Format.PARQUET),
        (["--out", "a.csv", "--format", "csv"], Format.CSV),
    ],
)
def test_the_format_is_the_one_that_is_named(words: list[str], form: Format) -> None:
    """By `--format`, else by the file's ending; else it is a table."""
    assert chosen(words) is form


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (
            ["--out", "a.xlsx", "--format", "csv"],
            "argument --out: a.xlsx is named like xlsx, and --format is csv: leave out --format, or give "
            "a name with another ending",
        ),
        (["--out", "a.csv", "--format", "json"], "a.csv is named like csv, and --format is json"),
        (["--out", "a.txt", "--format", "xlsx"], "a.txt is named like table"),
        (["--out", "a.html"], "a.html is named like html: this command writes table, csv, json"),
        (["--out", "."], "argument --out: . is a folder"),
        (["--out", "no/a.csv"], "no/a.csv is in a folder that does not exist"),
    ],
)
def test_an_output_that_cannot_be_meant_is_refused(
    words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is read, with the file and what would be accepted."""
    with pytest.raises(SystemExit) as ending:
        chosen(words)

    assert ending.value.code == 2
    assert reason in capsys.readouterr().err


def test_an_output_never_replaces_what_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By whatever name: a price book that becomes a report is lost."""
    book, link = tmp_path / "book.csv", tmp_path / "link.csv"
    book.write_text("prices")
    link.symlink_to(book)
    for name in (book, link, tmp_path / "." / "book.csv"):
        with pytest.raises(SystemExit):
            chosen(["--out", str(name)], [tmp_path / "other.csv", book])

        assert "is read by this command" in capsys.readouterr().err


def test_bytes_are_not_for_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pipe takes them."""
    assert chosen(["--format", "parquet"]) is Format.PARQUET
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with pytest.raises(SystemExit):
        chosen(["--format", "parquet"])

    assert "parquet is not for a terminal: give --out FILE" in capsys.readouterr().err


def test_bytes_are_not_for_a_terminal_by_its_name() -> None:
    """Such as /dev/tty."""
    ours, theirs = os.openpty()
    try:
        with (
            pytest.raises(InvalidInput, match="not for a terminal"),
            open_output(Path(os.ttyname(theirs)), Format.XLSX),
        ):
            pass
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_binary_format_takes_bytes(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """In a file and on standard output, where a writer may go back, as ZIP does."""
    path = tmp_path / "usage.xlsx"
    for place in (path, None):
        with open_output(place, Format.XLSX) as out:
            stream = cast(BinaryIO, out)
            stream.write(b"\0\xff????")
            stream.seek(2)
            stream.write(b"end.")

    assert path.read_bytes() == capfdbinary.readouterr().out == b"\0\xffend."


def test_csv_begins_with_a_byte_order_mark(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Without it Excel takes UTF-8 for the code page of its country; JSON must not have one."""
    for form in (Format.CSV, Format.JSON, Format.FOCUS):
        with open_output(tmp_path / form, form) as out:
            cast(TextIO, out).write("zoë\n")
    with open_output(None, Format.CSV) as out:
        cast(TextIO, out).write("zoë\n")

    assert (tmp_path / "csv").read_bytes() == b"\xef\xbb\xbfzo\xc3\xab\n"
    assert (tmp_path / "json").read_bytes() == b"zo\xc3\xab\n"
    assert (tmp_path / "focus").read_bytes() == b"zo\xc3\xab\n"
    assert capfdbinary.readouterr().out == b"\xef\xbb\xbfzo\xc3\xab\n"


def test_half_a_character_is_shown(tmp_path: Path) -> None:
    """JSON has the same text then; a report is not lost to one name."""
    path = tmp_path / "usage.json"
    with open_output(path, Format.JSON) as out:
        cast(TextIO, out).write('"a\ud800"')

    assert path.read_bytes() == b'"a\\ud800"'
    assert json.loads(path.read_bytes()) == "a\ud800"


def test_a_file_that_is_named_so_is_packed(tmp_path: Path) -> None:
    """The same text makes the same bytes, whenever it is written and under whatever name."""
    paths = [tmp_path / "a.csv.gz", tmp_path / "b.CSV.GZ"]
    for path in paths:
        with open_output(path, Format.CSV) as out:
            cast(TextIO, out).write("zoë\n" * 1_000)

    assert gzip.decompress(paths[0].read_bytes()).decode("utf-8-sig") == "zoë\n" * 1_000
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert len(paths[0].read_bytes()) < 100


@pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="only Linux has a disk that is always full"
)
def test_a_full_disk_is_named() -> None:
    """The system says which error it is, not where."""
    with (
        pytest.raises(OSError, match="full") as refused,
        open_output(Path("/dev/full"), Format.CSV) as out,
    ):
        cast(TextIO, out).write("text")

    assert (refused.value.filename, refused.value.strerror) == (
        "/dev/full",
        "No space left on device",
    )


FULL_FILE = """
import resource, signal, sys
from pathlib import Path
from meter.commands.output import open_output
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    with open_output(Path(sys.argv[1])) as out:
        for _ in range(100_000):
            out.write("a line that is long\\n")
except OSError as exc:
    print(exc.filename, exc.strerror)
"""


def test_a_disk_that_is_full_on_the_way_leaves_the_old_file(tmp_path: Path) -> None:
    """As a limit of the system simulates it: the write fails, and the error names the file."""
    path = tmp_path / "usage.csv"
    path.write_text("old")
    done = subprocess.run(
        [sys.executable, "-c", FULL_FILE, str(path)], capture_output=True, text=True, check=True
    )

    assert done.stdout == f"{path} File too large\n"
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


KILLED = """
import os, signal, sys
from pathlib import Path
from meter.commands.output import open_output
with open_output(Path(sys.argv[1])) as out:
    out.write("half of it" * 100_000)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_that_is_killed_leaves_the_old_file(tmp_path: Path) -> None:
    """What it had written has another name."""
    path = tmp_path / "usage.csv"
    path.write_text("old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)

    assert done.returncode == -9
    assert path.read_text() == "old"
    assert [each.suffix for each in tmp_path.iterdir() if each != path] == [".part"]


def test_a_file_that_nobody_may_write_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the folder would let it be replaced: somebody protected it."""
    path = tmp_path / "usage.csv"
    path.write_text("old")
    monkeypatch.setattr(os, "access", lambda file, mode: False)
    with pytest.raises(PermissionError) as refused, open_output(path):
        pass

    assert refused.value.filename == str(path)
    assert path.read_text() == "old"
