"""`python -m local.sbom FILE`: adds what no package brings to a CycloneDX document, and prints its licences.

The document lists the packages of an environment; the report page also contains a chart library, whose
files lie among our own.
"""

import json
import sys
from pathlib import Path
from typing import Any

VENDORED = [
    {
        "type": "library",
        "bom-ref": "uplot",
        "name": "uplot",
        "version": "1.6.32",
        "purl": "pkg:npm/uplot@1.6.32",
        "licenses": [{"license": {"id": "MIT", "acknowledgement": "declared"}}],
    }
]


def add_vendored(document: dict[str, Any]) -> None:
    """Enter the vendored libraries as components that the app depends on."""
    document["components"] += VENDORED
    root = document["metadata"]["component"]["bom-ref"]
    references = [each["bom-ref"] for each in VENDORED]
    for each in document["dependencies"]:
        if each["ref"] == root:
            each["dependsOn"] = sorted({*each.get("dependsOn", ()), *references})
    document["dependencies"] += [{"ref": reference} for reference in references]


def licences(document: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Name, version and licences of each component, by name."""
    return sorted(
        (each["name"], each["version"], ", ".join(map(_licence, each.get("licenses", []))))
        for each in document["components"]
    )


def _licence(entry: dict[str, Any]) -> str:
    named = entry.get("license", {})
    text = entry.get("expression") or named.get("id") or named.get("name") or "unknown"
    return str(text).rpartition(":: ")[2]


def main(file: Path) -> None:
    """Complete the file in place, and print a line per component."""
    document = json.loads(file.read_text())
    add_vendored(document)
    file.write_text(json.dumps(document, indent=2) + "\n")
    for name, version, licence in licences(document):
        print(f"{name:<32} {version:<12} {licence}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
