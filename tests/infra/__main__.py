"""`make infra`: compile the templates and evaluate every option, with Microsoft's compiler."""

import json
import sys

from tests.infra.compiler import VARIABLE, Refused, find_compiler, running
from tests.infra.kept import SNAPSHOTS, SOURCES, document, made, option_names, source_hashes

NO_COMPILER = (
    "no Bicep compiler: run `az bicep install`, put `bicep` on the path, or name it with "
    f"{VARIABLE}=PATH"
)


def main() -> int:
    """Write what is kept; 1 where the compiler refuses or warns."""
    path = find_compiler()
    if path is None:
        sys.stderr.write(f"{NO_COMPILER}\n")
        return 1
    try:
        with running(path) as compiler:
            files, version = made(compiler), compiler.version
    except Refused as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    SNAPSHOTS.mkdir(exist_ok=True)
    for old in SNAPSHOTS.glob("*.json"):
        old.unlink()
    for file, text in files.items():
        file.write_text(text, "utf-8")
    SOURCES.write_text(document({"bicep": version, "sources": source_hashes()}), "utf-8")
    for name in option_names():
        found = json.loads(files[SNAPSHOTS / f"{name}.json"])["predictedResources"]
        sys.stdout.write(f"{name}: {len(found)} resources\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
