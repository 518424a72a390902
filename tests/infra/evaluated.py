"""The evaluated deployment of one option, as values."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from tests.infra.expressions import evaluated
from tests.infra.kept import SNAPSHOTS

ASSIGNMENT = "Microsoft.Authorization/roleAssignments"
APP = "Microsoft.Web/sites"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A resource that would exist."""

    id: str
    type: str
    name: str
    body: Mapping[str, Any]

    @property
    def properties(self) -> Mapping[str, Any]:
        """What is set; empty where nothing is."""
        found: Mapping[str, Any] = self.body.get("properties", {})
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """Who has which role where: `principal` is an identity's name, or a group's id."""

    role: str
    principal: str
    scope: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Every resource and output of one option."""

    resources: tuple[Resource, ...]
    outputs: Mapping[str, Any]

    def of(self, kind: str) -> list[Resource]:
        """The resources of a type."""
        return [each for each in self.resources if each.type == kind]

    def assignments(self) -> set[Assignment]:
        """Who may do what."""
        return {
            Assignment(
                role=each.properties["roleDefinitionId"].rsplit("/", 1)[-1],
                principal=each.properties["principalId"].strip("<>").removesuffix(".principalId"),
                scope=each.id.split(f"/providers/{ASSIGNMENT}/")[0],
            )
            for each in self.of(ASSIGNMENT)
        }

    def settings(self) -> dict[str, dict[str, str]]:
        """The app settings, by the name of the app."""
        return {
            app.name: {
                each["name"]: each["value"] for each in app.properties["siteConfig"]["appSettings"]
            }
            for app in self.of(APP)
        }


def short_name(text: str) -> str:
    """A text without the part of names that is made of the resource group's id."""
    return re.sub(r"-?mbcyw376yqwnq", "", text)


@cache
def deployment(option: str, cloud: str = "AzureCloud") -> Deployment:
    """The deployment of an option in a cloud, from the snapshot that is kept."""
    return read_deployment(json.loads((SNAPSHOTS / f"{option}.json").read_text("utf-8")), cloud)


def read_deployment(snapshot: Mapping[str, Any], cloud: str = "AzureCloud") -> Deployment:
    """A snapshot as values; resources whose condition does not hold are left out."""
    assert snapshot["diagnostics"] == []
    bodies = [evaluated(each, cloud) for each in snapshot["predictedResources"]]
    return Deployment(
        resources=tuple(
            Resource(id=body["id"], type=body["type"], name=body["name"], body=body)
            for body in bodies
            if body.get("condition", True)
        ),
        outputs=evaluated(snapshot["outputs"], cloud),
    )
