"""A finding: what one check found, and what to do about it; and what all findings amount to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """How good a finding is; a warning fails nothing."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Area(StrEnum):
    """What a check is about, in the order in which faults are best repaired."""

    SETTINGS = "settings"
    IDENTITY = "identity"
    ISSUERS = "issuers"
    BACKENDS = "backends"
    HUB = "hub"
    TABLES = "tables"
    BLOBS = "blobs"
    CLOCK = "clock"
    VERSIONS = "versions"


# 1 and 2 are every command's, and codes from 126 on are the shell's.
EXIT_CODES: Mapping[Area, int] = {area: 10 + place for place, area in enumerate(Area)}
_PLACES = {area: place for place, area in enumerate(Area)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was found at one place. `role` is the role that is missing, as Azure names it."""

    area: Area
    name: str
    status: Status
    found: str
    advice: str = ""
    role: str | None = None

    def document(self) -> Mapping[str, object]:
        """The finding as JSON has it."""
        return {
            "class": self.area.value,
            "name": self.name,
            "status": self.status.value,
            "found": self.found,
            "advice": self.advice,
            "role": self.role,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """Something that is examined: makes the findings about it."""

    area: Area
    name: str

    def ok(self, found: str) -> Finding:
        """It is as it should be."""
        return Finding(area=self.area, name=self.name, status=Status.OK, found=found)

    def warning(self, found: str, advice: str = "") -> Finding:
        """It may be wrong, or is not known."""
        return Finding(
            area=self.area, name=self.name, status=Status.WARN, found=found, advice=advice
        )

    def failure(self, found: str, advice: str = "", *, role: str | None = None) -> Finding:
        """It is wrong."""
        return Finding(
            area=self.area,
            name=self.name,
            status=Status.FAIL,
            found=found,
            advice=advice,
            role=role,
        )

    def lacks(self, role: str, scope: str, found: str) -> Finding:
        """It refuses us for want of a role."""
        advice = (
            f'az role assignment create --assignee ID --role "{role}" --scope {scope} '
            "(takes up to ten minutes)"
        )
        return self.failure(found, advice, role=role)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings, by area and name."""

    findings: Sequence[Finding]

    @property
    def status(self) -> Status:
        """The worst of them."""
        found = {finding.status for finding in self.findings}
        return next((each for each in (Status.FAIL, Status.WARN) if each in found), Status.OK)

    @property
    def failed(self) -> Sequence[Area]:
        """The areas in which something failed, in their order."""
        found = {each.area for each in self.findings if each.status is Status.FAIL}
        return [area for area in Area if area in found]

    @property
    def exit_code(self) -> int:
        """That of the first area in which something failed, else 0."""
        return next((EXIT_CODES[area] for area in self.failed), 0)

    def document(self) -> Mapping[str, object]:
        """The diagnosis as JSON has it."""
        return {
            "status": self.status.value,
            "exit_code": self.exit_code,
            "failed": [area.value for area in self.failed],
            "findings": [finding.document() for finding in self.findings],
        }


def diagnosis_of(findings: Sequence[Finding]) -> Diagnosis:
    """The findings in their order: by area, then as they were found."""
    return Diagnosis(sorted(findings, key=lambda each: _PLACES[each.area]))
