"""What a query may name: log lines and fields that the code emits, functions of the app, known words."""

import re
from collections.abc import Iterator, Mapping, Set
from functools import cache

from meter.gateway.balance.verdict import Fault
from meter.publishing.loglines import LEVELS
from meter.usage import Context, Outcome, Tier, UsageSource
from tests.support.kql import Checked
from tests.support.log_lines import ADDED, emitted_lines
from tests.support.running import REPOSITORY

LOGS = {"AppTraces", "FunctionAppLogs"}
LINE = re.compile(r"[a-z]+(?:_[a-z0-9]+)+")
FIELD = re.compile(r"\b([a-z_]+)=(\S*)")
# Fields with a closed set of values.
WORDS: Mapping[str, Set[str]] = {
    "context": set(Context),
    "fault": set(Fault),
    "level": set(LEVELS.values()),
    "outcome": set(Outcome),
    "source": set(UsageSource),
    "tier": set(Tier),
}
NAMES = {"FunctionName", "OperationName", "Name"}


@cache
def functions() -> frozenset[str]:
    """The functions of the app, by their names."""
    text = (REPOSITORY / "function_app.py").read_text(encoding="utf-8")
    return frozenset(re.findall(r'function_name\("(\w+)"\)', text))


def naming_problems(checked: Checked) -> list[str]:
    """Names that the code does not emit, each with what it is."""
    lines = emitted_lines()
    words = set(_words_of_messages(checked))
    named = {word for word in words if LINE.fullmatch(word) or word in lines}
    problems = [f"no log line {name}" for name in sorted(named - lines.keys())]
    fields = ADDED.union(*(lines[name].fields for name in named & lines.keys()))
    problems += [
        f"no field {name} in {sorted(named)}" for name in _fields(checked) if name not in fields
    ]
    problems += _unknown_words(checked)
    names_any = any(_words_of_messages(checked)) or _compares_functions(checked)
    if LOGS & set(checked.tables) and not names_any:
        problems.append("it reads the app's log and names nothing in it")
    return problems


def _words_of_messages(checked: Checked) -> Iterator[str]:
    for each in checked.comparisons:
        if each.column == "Message":
            yield from each.value.split()


def _fields(checked: Checked) -> Iterator[str]:
    yield from checked.keys
    for text in [*checked.patterns, *_words_of_messages(checked)]:
        yield from (name for name, _ in FIELD.findall(text))


def _unknown_words(checked: Checked) -> Iterator[str]:
    for each in checked.comparisons:
        if each.column in NAMES and each.value not in functions():
            yield f"no function {each.value}"
        if each.column in WORDS and each.value not in WORDS[each.column]:
            yield f"no {each.column} {each.value}"
        for name, value in FIELD.findall(each.value) if each.column == "Message" else ():
            if name in WORDS and value not in WORDS[name]:
                yield f"no {name} {value}"
        if each.column == "Message" and not all(map(_is_name, each.value.split())):
            yield f"neither a log line nor a field: {each.value}"


def _is_name(word: str) -> bool:
    return bool(LINE.fullmatch(word) or FIELD.fullmatch(word) or word in emitted_lines())


def _compares_functions(checked: Checked) -> bool:
    return any(each.column in NAMES for each in checked.comparisons)
