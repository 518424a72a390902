"""The help of `python -m local` and its commands."""

import shlex

import pytest

from local.__main__ import PROGRAM, _parser


def help_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        _parser().parse_args([*words, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", [[], ["up"], ["token"], ["env"], ["demo"]])
def test_every_example_in_the_help_can_be_typed(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """With the program's name, and arguments that are accepted."""
    _, _, rest = help_of(command, capsys).partition("\nexamples:\n")
    examples = rest.partition("\nexit codes:")[0].strip().splitlines()

    assert examples
    for example in examples:
        words = shlex.split(example.strip().removeprefix(f"{PROGRAM} "))
        if "--help" not in words:
            assert _parser().parse_args(words).command == words[0]


def test_a_misspelt_option_is_refused_with_the_one_that_is_meant(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As by `python -m meter`: two lines, the message first."""
    with pytest.raises(SystemExit) as ended:
        _parser().parse_args(["token", "--subjekt", "alice"])

    assert ended.value.code == 2
    assert "--subject" in capsys.readouterr().err.splitlines()[0]
