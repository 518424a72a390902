"""How far the reading of exports is, for those who wait for it."""

from collections.abc import Callable
from pathlib import Path

type Watch = Callable[[Path, int], None]
"""Called now and then with the file that is read, and how many of its rows or lines were."""
