"""`python -m meter doctor`: checks that everything named in the settings answers and grants access."""

import asyncio
import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from meter.commands.console.screen import screen_on
from meter.doctor.finding import Diagnosis, Finding, Status
from meter.doctor.settings_text import read_settings_text
from meter.errors import InvalidInput
from meter.terminal import printable, shown_document
from meter.terminal.table import Piece
from meter.wiring.doctor.examine import examine

_STDIN = Path("-")
_ON_APP = "WEBSITE_INSTANCE_ID"  # App Service sets it
_HIDDEN = logging.CRITICAL  # failures are findings; libraries would say them again


def run(settings: Path | None, *, is_document: bool) -> int:
    """Print every finding. The exit code is that of the first class that failed."""
    environment = os.environ if settings is None else _read(settings)
    for name in ("azure", "aiohttp", "asyncio", "meter"):
        logging.getLogger(name).setLevel(_HIDDEN)
    diagnosis = asyncio.run(
        examine(environment, on_app=settings is None and _ON_APP in environment)
    )
    if is_document:
        text = json.dumps(diagnosis.document(), indent=2, ensure_ascii=False)
        print(shown_document(text, sys.stdout))
    else:
        screen_on(sys.stdout).show(*_pieces(diagnosis))
    return diagnosis.exit_code


def _read(path: Path) -> Mapping[str, str]:
    try:
        text = sys.stdin.read() if path == _STDIN else path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InvalidInput([f"{path}: is not UTF-8"]) from None
    return read_settings_text(text, "standard input" if path == _STDIN else str(path))


def _pieces(diagnosis: Diagnosis) -> Iterator[Piece]:
    area = None
    for finding in diagnosis.findings:
        if finding.area is not area:
            yield from [] if area is None else [""]
            yield finding.area.value
            area = finding.area
        yield from _lines(finding)
    yield ""
    yield _summary(diagnosis)


def _lines(finding: Finding) -> Iterator[str]:
    name, found = printable(finding.name), printable(finding.found)
    yield f"  {finding.status.value:<4}  {name}: {found}"
    if finding.role is not None:
        yield f"        role: {finding.role}"
    if finding.advice:
        yield f"        do: {printable(finding.advice)}"


def _summary(diagnosis: Diagnosis) -> str:
    counts = Counter(each.status for each in diagnosis.findings)
    warnings = counts[Status.WARN]
    text = (
        f"doctor: {counts[Status.OK]} ok, {warnings} warning{'' if warnings == 1 else 's'}, "
        f"{counts[Status.FAIL]} failed"
    )
    if diagnosis.failed:
        text += f" ({', '.join(area.value for area in diagnosis.failed)})"
    return text
