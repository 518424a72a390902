"""Packages that run at the first use of a name in them, and the libraries that are imported so."""

import builtins
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from types import ModuleType

import pytest

from meter.adapters.libraries.later import run_later
from tests.support.running import REPOSITORY

PACKAGES = ("azure.eventhub", "azure.eventhub.aio", "uvicorn", "werkzeug")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package that imports both of its modules; a second run would fail."""
    folder = tmp_path / "somelibrary"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "import builtins\nassert not hasattr(builtins, 'somelibrary_ran')\n"
        "builtins.somelibrary_ran = True\n"
        "from .near import Near\nfrom .far import Far\nVERSION = Near, Far\n"
    )
    (folder / "near.py").write_text("class Near: pass\n")
    (folder / "far.py").write_text("class Far: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "somelibrary"
    for name in [name for name in sys.modules if name.partition(".")[0] == "somelibrary"]:
        del sys.modules[name]
    vars(builtins).pop("somelibrary_ran", None)


def test_a_part_and_a_module_inside_do_not_run_the_package(package: str) -> None:
    """They are what the package would name."""
    run_later(package, Near="near", near="")
    library = __import__(package)

    near, part, module = __import__(f"{package}.near").near, library.Near, library.near
    assert "somelibrary.far" not in sys.modules
    assert (part, module) == (near.Near, near)


def test_any_other_name_runs_the_package_which_is_then_as_ever(package: str) -> None:
    """What is not in it is missed as ever."""
    run_later(package, Near="near")
    library = __import__(package)

    version = library.VERSION
    assert version == (library.Near, library.Far)
    assert type(library) is ModuleType
    with pytest.raises(AttributeError):
        library.nowhere  # noqa: B018


def test_threads_that_use_it_at_once_run_it_once(package: str) -> None:
    """Each finds all of it."""
    run_later(package)
    library, together = __import__(package), Barrier(4)

    def use(_: int) -> object:
        together.wait()
        return library.VERSION

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(use, range(4)))) == 1


def test_a_package_that_has_run_is_left_alone(package: str) -> None:
    """As is one that is not installed."""
    library = __import__(package)

    run_later(package)
    run_later("not_installed_anywhere")
    assert sys.modules[package] is library
    assert "not_installed_anywhere" not in sys.modules


def names_in(first: str) -> dict[str, dict[str, str]]:
    program = (
        f"import json, {first}{', '.join(PACKAGES)}, sys\n"
        f"modules = [sys.modules[name] for name in {PACKAGES}]\n"
        "assert not any(hasattr(module, 'nowhere') for module in modules)\n"
        "print(json.dumps({m.__name__: {name: repr(getattr(value, '__module__', None)) for name, value"
        " in vars(m).items() if type(value) is not type(sys)} for m in modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    names: dict[str, dict[str, str]] = json.loads(done.stdout)
    return names


def test_libraries_that_are_imported_in_part_have_all_their_names() -> None:
    """Whoever uses a name that the app does not use finds it."""
    libraries = "meter.adapters.libraries.functions, meter.adapters.libraries.eventhub, "

    assert names_in(libraries) == names_in("")
