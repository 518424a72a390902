"""Where an export's files are, and how each is written.

| path under the folder                            | is                                                |
|--------------------------------------------------|---------------------------------------------------|
| `v1/usage/date=2026-11-23/usage.csv.gz`          | one finished day, a row per dimension and owner   |
| `v1/usage-by-month/period=2026-11/usage.csv.gz`  | one month so far, its corrections included        |
| `v1/focus/period=2026-11/focus.csv.gz`           | the month's charges as FOCUS                      |
| `v1/pages/2026-11.html`                          | the month's page                                  |
| `v1/manifest.json`                               | all of these (`manifest.py`)                      |

A folder has one file, or none while its first one is awaited. Folders are named as Hive names
partitions, and no name is that of a column in the file: pandas and pyarrow refuse such a pair.
"""

from enum import StrEnum

from meter.window import Period, Window

ROOT = "v1"
MANIFEST = f"{ROOT}/manifest.json"
LOCK = f"{ROOT}/_lock"  # readers of partitioned data skip names that begin with an underscore


class Kind(StrEnum):
    """The kinds of files."""

    DAY = "usage"
    MONTH = "usage-by-month"
    FOCUS = "focus"
    PAGE = "page"


class Encoding(StrEnum):
    """How the tables of an export are written; the values are the endings of their names."""

    CSV = "csv.gz"
    PARQUET = "parquet"


def encoding_of(path: str) -> Encoding | None:
    """How a file of that path is written; None for a page."""
    return next((each for each in Encoding if path.endswith(f".{each}")), None)


def path_of(kind: Kind, window: Window, encoding: Encoding) -> str:
    """Where the file of a window is."""
    match kind:
        case Kind.DAY:
            assert window.period is Period.DAY
            return f"{ROOT}/usage/date={window.name}/usage.{encoding}"
        case Kind.MONTH:
            return f"{ROOT}/usage-by-month/period={window.name}/usage.{encoding}"
        case Kind.FOCUS:
            # FOCUS exports are CSV everywhere; what reads them reads no other Parquet than its own.
            return f"{ROOT}/focus/period={window.name}/focus.{Encoding.CSV}"
        case Kind.PAGE:
            return f"{ROOT}/pages/{window.name}.html"


def folders_of(month: Window) -> tuple[str, ...]:
    """What the paths of all files of a month begin with."""
    name = month.name
    return (
        f"{ROOT}/usage/date={name}-",
        f"{ROOT}/usage-by-month/period={name}/",
        f"{ROOT}/focus/period={name}/",
        f"{ROOT}/pages/{name}.html",
    )
