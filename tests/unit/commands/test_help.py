"""`--help` and refused arguments: quick, with examples that work, and the message first."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from importlib import import_module

import pytest

from meter.__main__ import COMMANDS, main, parser_of
from meter.commands.console.parser import CommandParser
from meter.reports.invoice.write.invoice import FORMATS as INVOICE_WRITERS
from meter.reports.write.formats import INVOICE_FORMATS, REPORT_FORMATS
from meter.reports.write.report import FORMATS as REPORT_WRITERS
from tests.support.running import REPOSITORY

SCRIPT = """
import sys
from meter.__main__ import main
try:
    main(sys.argv[1:])
except SystemExit as ending:
    assert ending.code == 0
print(",".join({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""
SLOW = {"azure", "aiohttp", "starlette", "requests", "jwt", "cryptography", "asyncio"}
SLOW |= {"rich"}


def actions_of(command: str) -> list[str]:
    """The actions of a command, if it has any."""
    parser = _parser_of([command])
    names = [
        list(each.choices) for each in parser._actions if each.dest == "action" and each.choices
    ]
    return [str(name) for name in names[0]] if names else []


def _parser_of(words: list[str]) -> CommandParser:
    parser: CommandParser = parser_of(words)
    for word in words:
        (choices,) = (
            each.choices for each in parser._actions if each.dest in {"command", "action"}
        )
        assert isinstance(choices, dict)
        parser = choices[word]
    return parser


WORDS = [[], *([command] for command in COMMANDS)]
WORDS += [[command, action] for command in COMMANDS for action in actions_of(command)]


def help_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ending:
        main([*words, "--help"])
    assert ending.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_help_imports_no_client_and_no_server(words: list[str]) -> None:
    """The SDKs take most of a second to import, an event loop half of what is left."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *words, "--help"], capture_output=True, text=True, check=True
    )

    imported = set(done.stderr.strip().split(","))
    assert done.stdout.startswith("usage: python -m meter")
    assert "meter" in imported
    assert imported & SLOW == set()


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_help_fits_a_terminal_and_explains_every_option(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """80 columns; no option stands without a text."""
    monkeypatch.setenv("COLUMNS", "80")
    lines = help_of(words, capsys).splitlines()
    options = [number for number, line in enumerate(lines) if line.startswith("  -")]
    assert max(map(len, lines)) <= 80
    assert options
    for number in options:
        follows = [*lines, ""][number + 1]
        assert "  " in lines[number].strip() or follows.startswith(" " * 8), lines[number]


def test_the_first_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Each with a line that says what it does."""
    shown = [line.split(maxsplit=1) for line in help_of([], capsys).splitlines()]

    assert [words[0] for words in shown if len(words) == 2 and words[0] in COMMANDS] == [*COMMANDS]


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_every_help_ends_with_examples_that_can_be_run_and_exit_codes(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """As they stand there, continued lines included; of the command that the help is of."""
    shown = help_of(words, capsys)
    examples = shown.partition("\nexamples:\n")[2].partition("\nexit codes:\n")[0]
    codes = shown.partition("\nexit codes:\n")[2]

    lines = examples.replace("\\\n", " ").splitlines()
    assert lines
    for line in lines:
        python, dash, module, *typed = shlex.split(line)
        assert (python, dash, module) == ("python", "-m", "meter")
        assert typed[: len(words)] == words
        if not {"--help", "--version"} & set(typed):
            assert callable(parser_of(typed).parse_args(typed).run)
    assert re.findall(r"^  (\d+) ", codes, re.MULTILINE)[:3] == ["0", "1", "2"]


@pytest.mark.parametrize("columns", ["0", "1", "20", "300"])
def test_help_is_written_in_any_width(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A phone's terminal gets what it can show."""
    monkeypatch.setenv("COLUMNS", columns)

    assert "--group" in help_of(["report"], capsys)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["raport"], "unknown command 'raport'; did you mean report?"),
        (["prices", "chek"], "unknown action 'chek'; did you mean check?"),
        (["prices", "xyz"], "unknown action 'xyz'; there are import, check"),
        (["report", "--grup", "team"], "unknown option --grup; did you mean --group?"),
        (["report", "--grup=team"], "unknown option --grup; did you mean --group?"),
        (["report", "--zzz"], "unknown option --zzz"),
        (["report", "-x"], "unknown option -x"),
        (["report", "extra"], "unexpected argument 'extra'"),
        (["report", "--format", "cvs"], "did you mean csv?"),
        (["report", "--group", "taem"], "did you mean team?"),
        (["invoice", "--exprot", "x"], "unknown option --exprot; did you mean --export?"),
        (["report", "--by"], "argument --by: expected one argument"),
        (["report", "\x1b[2J"], "unexpected argument '\\x1b[2J'"),
    ],
)
def test_a_refusal_is_two_lines_the_message_first(
    words: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong, what may be meant, and where to read more: no usage before it."""
    with pytest.raises(SystemExit) as ending:
        main(words)

    message, advice = capsys.readouterr().err.splitlines()
    command = " ".join(word for word in words[:2] if word in {"report", "invoice", "prices"})
    assert ending.value.code == 2
    assert message.startswith("error: ")
    assert error in message
    assert advice == f"see {f'python -m meter {command}'.strip()} --help"


def test_the_program_calls_itself_as_it_was_called(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its lines can be copied, whether it is installed or in a clone."""
    monkeypatch.setattr(sys, "argv", ["/usr/bin/aoai-meter", "report", "--help"])

    shown = help_of(["report"], capsys)
    assert shown.startswith("usage: aoai-meter report")
    assert "\n  aoai-meter report --by day" in shown


def test_the_version_is_the_projects(capsys: pytest.CaptureFixture[str]) -> None:
    """In a clone there is no installed package to ask."""
    with pytest.raises(SystemExit) as ending:
        main(["--version"])

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert ending.value.code == 0
    assert capsys.readouterr().out == f"aoai-meter {project['version']}\n"


def test_installing_puts_the_program_on_the_path() -> None:
    """Under the name of the package."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (name,) = project["scripts"]
    module, _, function = project["scripts"][name].partition(":")

    assert name == project["name"]
    assert getattr(import_module(module), function) is main


def test_help_offers_the_formats_that_have_a_writer() -> None:
    """They are named apart from the writers, which help does not import."""
    assert REPORT_FORMATS == REPORT_WRITERS
    assert INVOICE_FORMATS == INVOICE_WRITERS


@pytest.mark.parametrize("words", [["--help"], ["report", "--help"], ["--version"]], ids=" ".join)
def test_a_reader_that_closes_the_pipe_ends_the_program_without_a_word(words: list[str]) -> None:
    """Exit code 141, as usual tools end."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "meter", *words],
        stdout=writing,
        stderr=subprocess.PIPE,
        cwd=REPOSITORY,
    )
    os.close(writing)

    assert (done.returncode, done.stderr) == (141, b"")


def test_a_full_disk_is_a_failure_in_a_line() -> None:
    """It shows only when the last bytes are written."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "meter", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            cwd=REPOSITORY,
        )

    assert done.returncode == 1
    assert done.stderr == b"error: standard output: No space left on device\n"
