"""The shape of the code: bounds on modules, functions, folders and imports."""

import ast
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
MODULES = {path: path.read_text() for path in sorted((REPOSITORY / "meter").rglob("*.py"))}
MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 40
MAX_FOLDER_MODULES = 14
MAX_IMPORTED_MODULES = 15


def name(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name(path) for path in MODULES}


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def imported_modules(tree: ast.Module) -> set[str]:
    """The modules of meter that a module imports; `from package import module` is the module."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (members & NAMES) or {node.module or ""}
    return found & NAMES


def test_no_module_has_more_than_400_lines() -> None:
    """One idea per module; a longer one holds several."""
    lengths = {name(path): len(text.splitlines()) for path, text in MODULES.items()}

    assert {n: lines for n, lines in lengths.items() if lines > MAX_MODULE_LINES} == {}


def test_no_function_has_more_than_40_lines() -> None:
    """A function fits a screen."""
    lengths = {
        f"{name(path)}.{each.name}": (each.end_lineno or 0) - each.lineno + 1
        for path, text in MODULES.items()
        for each in functions(ast.parse(text))
    }

    assert {n: lines for n, lines in lengths.items() if lines > MAX_FUNCTION_LINES} == {}


def test_no_folder_has_more_than_14_modules() -> None:
    """A longer shelf needs rooms with names; `__init__.py` counts."""
    folders = [path.parent for path in MODULES]
    counts = {name(folder): folders.count(folder) for folder in folders}

    assert {n: count for n, count in counts.items() if count > MAX_FOLDER_MODULES} == {}


def test_no_module_imports_more_than_15_others() -> None:
    """A module that knows more is several modules, or a missing one."""
    imports = {name(path): imported_modules(ast.parse(text)) for path, text in MODULES.items()}

    assert {
        n: len(found) for n, found in imports.items() if len(found) > MAX_IMPORTED_MODULES
    } == {}
