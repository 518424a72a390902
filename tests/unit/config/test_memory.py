"""The memory that counts is the smallest limit around the process."""

import os
from pathlib import Path

import pytest

from meter.config.memory import visible_memory_bytes

MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def groups(root: Path, own: str, **limits: str) -> int:
    (root / "own").write_text(own)
    for place, text in limits.items():
        path = root / place.replace("__", "/").replace("memory_max", "memory.max")
        path = Path(str(path).replace("limit_in_bytes", "memory.limit_in_bytes"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return visible_memory_bytes(root, root / "own")


@pytest.mark.parametrize(
    ("own", "limits", "expected"),
    [
        ("0::/\n", {"memory_max": "1000000\n"}, 1_000_000),
        (
            "0::/a/b\n",
            {"a__memory_max": "700", "memory_max": "1000", "a__b__memory_max": "max"},
            700,
        ),
        ("0::/not/seen\n", {"memory_max": "1000"}, 1_000),
        ("5:cpu:/x\n4:memory:/y\n", {"memory__y__limit_in_bytes": "900"}, 900),
        ("4:memory:/y\n", {"memory__limit_in_bytes": "9223372036854771712"}, MACHINE),
        ("0::/\n", {"memory_max": "max\n"}, MACHINE),
        ("0::/\n", {}, MACHINE),
        ("", {"memory_max": "1000"}, 1_000),
    ],
)
def test_the_smallest_limit_counts(
    tmp_path: Path, own: str, limits: dict[str, str], expected: int
) -> None:
    """Of control groups of either version, those around it included, else the machine's."""
    assert groups(tmp_path, own, **limits) == expected


def test_where_nothing_can_be_read_the_machines_memory_counts(tmp_path: Path) -> None:
    """Not every system has control groups."""
    assert visible_memory_bytes(tmp_path / "no", tmp_path / "such") == MACHINE
