"""Packages that are imported at once, but run when a name in them is first used.

Some libraries import all they have in the `__init__` of their package, where a start needs one of its
modules. Such a package is put where the import system finds it, with its path, so that its modules can be
imported; nothing is left out of it: whoever asks it for a name finds the whole package, as ever.
`importlib.util.LazyLoader` runs a package as soon as one of its modules is imported.
"""

import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from threading import RLock
from types import ModuleType
from typing import Any


def run_later(package: str, **parts: str) -> None:
    """Have a package run at the first use of a name in it, unless it has run already.

    `parts` are names that need not run it, each with the module inside that has it; "" for the module
    of that name.
    """
    if package in sys.modules or (spec := find_spec(package)) is None or spec.loader is None:
        return
    module = module_from_spec(spec)
    spec.loader_state = _State(parts)
    module.__class__ = _Package
    sys.modules[package] = module
    parent, _, name = package.rpartition(".")
    if parent:
        # Where `from parent import name` finds it, the import system asks the module itself for nothing.
        setattr(sys.modules[parent], name, module)


class _State:
    """What a package that has not run knows."""

    def __init__(self, parts: dict[str, str]) -> None:
        self.parts = parts
        self.lock = RLock()
        self.is_running = False


class _Package(ModuleType):
    """A package that has not run. Python asks it only for names that are not in it yet."""

    def __getattr__(self, name: str) -> Any:
        spec = self.__spec__
        assert spec is not None
        assert spec.loader is not None
        state: _State = spec.loader_state
        if (part := state.parts.get(name)) is not None:
            inside = import_module(f"{spec.name}.{part or name}")
            return getattr(inside, name) if part else inside
        with state.lock:
            if state.is_running:
                raise AttributeError(f"module {spec.name!r} has no attribute {name!r}")
            if type(self) is _Package:  # not while another thread waited here
                state.is_running = True
                try:
                    spec.loader.exec_module(self)
                    self.__class__ = ModuleType  # type: ignore[assignment]  # as any other now
                finally:
                    state.is_running = False
        return getattr(self, name)
