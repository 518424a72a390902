"""The endpoint's hubs, partition counts and consumer groups.

Reads the Config.json of Microsoft's emulator:
`UserConfig.NamespaceConfig[].Entities[].{Name, PartitionCount, ConsumerGroups[].Name}`.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DEFAULT_GROUP: Final = "$Default"
MAX_PARTITIONS: Final = 32  # the limit of the basic and standard tiers, and of the emulator

# A name becomes a directory, so it may not hold a path separator or begin with a dot.
_NAME: Final = re.compile(r"[A-Za-z0-9$][A-Za-z0-9._-]{0,254}")


class ConfigError(ValueError):
    """The configuration is not usable; the message lists every problem."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubConfig:
    """One event hub. The consumer group `$Default` always exists."""

    name: str
    partition_count: int
    consumer_groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Every hub of the namespace."""

    hubs: tuple[HubConfig, ...]

    @classmethod
    def load(cls, path: Path) -> "Config":
        """Read a Config.json. Raises `ConfigError` that lists every problem."""
        try:
            return cls.parse(path.read_text(encoding="utf-8"))
        except OSError as exc:
            raise ConfigError(f"cannot read {path}: {exc.strerror}") from exc

    @classmethod
    def parse(cls, text: str) -> "Config":
        """Read the text of a Config.json. Raises `ConfigError` that lists every problem."""
        try:
            namespaces = json.loads(text)["UserConfig"]["NamespaceConfig"]
            entities = [entity for namespace in namespaces for entity in namespace["Entities"]]
            hubs = tuple(_read_hub(entity) for entity in entities)
        except (json.JSONDecodeError, KeyError, TypeError) as exc:
            raise ConfigError(
                f"not an emulator Config.json ({exc!r}); expected UserConfig.NamespaceConfig[]"
                ".Entities[] with Name, PartitionCount and ConsumerGroups[].Name"
            ) from exc
        return cls(hubs=hubs)

    def __post_init__(self) -> None:
        problems = [problem for hub in self.hubs for problem in _find_problems(hub)]
        names = [hub.name.lower() for hub in self.hubs]
        problems += [f"hub {name!r} is named twice" for name in set(names) if names.count(name) > 1]
        if not self.hubs:
            problems.append("no hub is named")
        if problems:
            raise ConfigError("; ".join(sorted(problems)))


def _read_hub(entity: dict[str, object]) -> HubConfig:
    groups = entity.get("ConsumerGroups") or []
    if not isinstance(groups, list):
        raise TypeError("ConsumerGroups must be a list")
    count = entity["PartitionCount"]
    # The emulator's own sample writes the count as a string.
    if not isinstance(count, int | str) or not str(count).isdigit():
        raise TypeError(f"PartitionCount must be a number, got {count!r}")
    return HubConfig(
        name=str(entity["Name"]),
        partition_count=int(count),
        consumer_groups=tuple(str(group["Name"]) for group in groups),
    )


def _find_problems(hub: HubConfig) -> list[str]:
    problems = []
    if not _NAME.fullmatch(hub.name) or hub.name.startswith("$"):
        problems.append(f"hub name {hub.name!r} must be letters, digits, '.', '_' or '-'")
    if not 1 <= hub.partition_count <= MAX_PARTITIONS:
        problems.append(
            f"PartitionCount must be 1-{MAX_PARTITIONS}, got {hub.partition_count}"
            f" (hub {hub.name!r})"
        )
    problems += [
        f"consumer group {group!r} of hub {hub.name!r} must be letters, digits, '.', '_' or '-'"
        for group in hub.consumer_groups
        if not _NAME.fullmatch(group)
    ]
    return problems
