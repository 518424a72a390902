"""`make clients` in parts: pinned packages, bounded runs, and a page that is of what was run."""

import asyncio
import json
import re
import time
from pathlib import Path

import pytest

from local.clients.cases import Ask, Case, all_cases
from local.clients.counting import Counted
from local.clients.programs import CODEX, HERE, Run, Scene
from local.clients.running import MOST_SHOWN, Seen, run_client
from local.clients.writing import Line, table, write_page
from tests.support.running import REPOSITORY

PAGE = REPOSITORY / "docs" / "clients.md"
PINNED = json.loads((HERE / "package.json").read_text())["dependencies"]


def seen(output: str, code: int | None = 0) -> Seen:
    return Seen(output=output, code=code, seconds=1.0)


def test_every_package_is_pinned_and_of_no_registry_by_name() -> None:
    """So that a later run is of the same programs, from whichever registry npm is set up for."""
    lock = (HERE / "package-lock.json").read_text()
    locked = json.loads(lock)["packages"]

    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in PINNED.values())
    assert {name: locked[f"node_modules/{name}"]["version"] for name in PINNED} == PINNED
    assert '"resolved"' not in lock


def test_the_page_is_of_the_pinned_versions_and_of_all_cases() -> None:
    """After a new version or case `make clients` writes it anew."""
    rows = [line.split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    shown = [(row[0].removeprefix("| "), row[1], row[2]) for row in rows[2:]]

    assert shown == [
        (case.program.name, PINNED[case.program.package], str(case.ask)) for case in all_cases()
    ]


def test_a_client_has_nothing_of_the_environment_but_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No account, key or proxy of who runs it."""
    monkeypatch.setenv("OPENAI_API_KEY", "someone's")
    found = asyncio.run(
        run_client(Run(commands=[["env"]], environment={"MORE": "1"}), tmp_path, seconds=30)
    )

    names = {line.partition("=")[0] for line in found.output.splitlines()}
    assert found.code == 0
    assert "OPENAI_API_KEY" not in names
    assert f"HOME={tmp_path}" in found.output.splitlines()
    assert "MORE" in names


def test_a_client_that_does_not_end_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    """A run is bounded in time."""
    run = Run(commands=[["sh", "-c", "sleep 600 & echo $!; wait"], ["true"]])
    found = asyncio.run(run_client(run, tmp_path, seconds=2))

    assert found.code is None
    assert found.shown("x") == "nothing more until it was ended"
    assert is_ended(int(found.output))


def is_ended(pid: int) -> bool:
    """Whether a process ends, which has been killed by now."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_a_program_that_is_not_there_does_not_run(tmp_path: Path) -> None:
    """It is listed as such."""
    assert (
        asyncio.run(run_client(Run(commands=[["/no/such/program"]]), tmp_path, seconds=30)).code
        == 127
    )


@pytest.mark.parametrize(
    ("output", "line"),
    [
        ("first\nwanted 1\nwanted 2\nlast", "wanted 2"),
        ("an error\nlast", "an error"),
        ("first\n\n  last\twords \n", "last words"),
        ("", "nothing"),
        ("wanted at http://127.0.0.1:46397/openai/v1", "wanted at GATEWAY/openai/v1"),
        ("wanted " + "x" * 200, ("wanted " + "x" * 200)[: MOST_SHOWN - 3] + "..."),
    ],
)
def test_the_line_that_tells_most_is_shown(output: str, line: str) -> None:
    """The last that has what is wanted, else an error, else the last."""
    assert seen(output).shown("wanted") == line


@pytest.mark.parametrize(
    ("calls", "failed", "served", "is_true"),
    [(3, 0, 3, True), (4, 1, 3, True), (2, 0, 3, False), (4, 0, 3, False), (0, 0, 0, True)],
)
def test_events_are_true_when_each_served_call_is_counted_once(
    calls: int, failed: int, served: int, is_true: bool
) -> None:
    """Calls that failed are counted beside them."""
    assert Counted(calls=calls, failed=failed, served=served).is_true is is_true


def test_the_page_shows_any_text_as_text(tmp_path: Path) -> None:
    """Marks of tables and of HTML too."""
    case = Case(program=CODEX, ask=Ask.ANSWER, shows="x")
    line = Line(case=case, version="1.2.3", shown="a | b <c>", seconds="2", events="1", ok="yes")
    page = tmp_path / "clients.md"
    write_page(page, [line], is_alone=True)

    row = "| Codex | 1.2.3 | an answer | a \\| b &lt;c> | 2 | 1 | yes |"
    assert page.read_text().rstrip().splitlines()[-1] == row
    assert "no network but loopback" in page.read_text()
    assert table([line]).splitlines()[1].startswith("Codex   1.2.3    an answer  a | b <c>")


def test_each_program_gets_its_settings_in_its_own_home(tmp_path: Path) -> None:
    """Nothing is written elsewhere, and no setting holds a token."""
    for case in all_cases():
        home = tmp_path / case.program.name
        scene = Scene(
            url="http://127.0.0.1:1",
            token_command=tmp_path / "token",
            deployment="gpt-4o",
            home=home,
            packages=tmp_path,
        )
        run = case.program.set_up(scene)

        assert run.commands
        assert scene.url in repr(run) + "".join(
            file.read_text() for file in home.rglob("*") if file.is_file()
        )
    assert {path.name for path in tmp_path.iterdir()} <= {case.program.name for case in all_cases()}
