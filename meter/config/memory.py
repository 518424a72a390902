"""How much memory this process may use: its control group's limit, or the machine's memory."""

import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


def visible_memory_bytes(root: Path = ROOT, own_groups: Path = OWN_GROUPS) -> int:
    """The smallest limit that applies: of the machine, and of each control group around the process.

    See the Linux kernel's documentation of cgroup v2 (`memory.max`) and v1
    (`memory.limit_in_bytes`). A group without a limit says `max`, or a number beyond any memory.
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = (_number(path) for path in _limit_files(root, own_groups))
    return min([machine, *(limit for limit in limits if limit)])


def _limit_files(root: Path, own_groups: Path) -> Iterator[Path]:
    for line in _text(own_groups).splitlines() or ["0::/"]:
        _, controllers, place = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / "memory" if controllers else root
        name = "memory.limit_in_bytes" if controllers else "memory.max"
        own = top / place.strip("/")
        yield from (group / name for group in (own, *own.parents) if group.is_relative_to(top))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""


def _number(path: Path) -> int:
    """A file's number; 0 where it has none."""
    text = _text(path).strip()
    return int(text) if text.isdigit() else 0
