"""`--help`: it is quick, since it imports nothing that only a run needs."""

import subprocess
import sys

import pytest

COMMANDS = [
    "report",
    "export",
    "prices",
    "invoice",
    "subjects",
    "reconcile",
    "check-config",
    "deadletters",
    "unpublished",
    "adjust",
    "rebuild",
    "close",
    "prove",
    "verify-proof",
]
SCRIPT = """
import sys
from meter.__main__ import main
try:
    main(sys.argv[1:])
except SystemExit as ending:
    assert ending.code == 0
print(",".join({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


@pytest.mark.parametrize("words", [[], *([command] for command in COMMANDS)], ids=str)
def test_help_imports_no_client_and_no_server(words: list[str]) -> None:
    """The SDKs take most of a second to import, and help needs none of them."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *words, "--help"], capture_output=True, text=True, check=True
    )

    imported = set(done.stderr.strip().split(","))
    assert done.stdout.startswith("usage: python -m meter")
    assert "meter" in imported
    assert imported & {"azure", "aiohttp", "starlette", "requests", "jwt", "cryptography"} == set()


@pytest.mark.parametrize(
    "words",
    [[], *([command] for command in COMMANDS)]
    + [["deadletters", action] for action in ("list", "show", "replay")]
    + [["prices", action] for action in ("import", "check")]
    + [["subjects", action] for action in ("list", "set", "import", "export")],
    ids=str,
)
def test_help_fits_a_terminal_and_explains_every_option(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """80 columns; no option stands without a text."""
    monkeypatch.setenv("COLUMNS", "80")
    from meter.__main__ import main

    with pytest.raises(SystemExit):
        main([*words, "--help"])

    lines = capsys.readouterr().out.splitlines()
    options = [number for number, line in enumerate(lines) if line.startswith("  -")]
    assert max(map(len, lines)) <= 80
    assert options
    for number in options:
        follows = [*lines, ""][number + 1]
        assert "  " in lines[number].strip() or follows.startswith(" " * 8), lines[number]


def test_the_first_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Each with a line that says what it does."""
    from meter.__main__ import main

    with pytest.raises(SystemExit):
        main(["--help"])

    shown = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert [words[0] for words in shown if len(words) == 2 and words[0] in COMMANDS] == COMMANDS
