"""The house keeps its rules: who imports whom, what is imported when, first lines, no nets that catch everything."""

import ast
import re
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "ssdrt"
FILES = [path for path in sorted(SOURCE.rglob("*.py")) if (path.parent / "__init__.py").exists()]
"""What can be imported: the scripts of legacy/device/ are copied to other machines and are no part of the package."""


@cache
def trees():
    """Path -> the syntax of a file; read by the tests, not wherever this file is collected."""
    return {path.relative_to(SOURCE): ast.parse(path.read_text("utf-8")) for path in FILES}


def room(path):
    """`graph` for graph/reader.py, `model` for model.py, "" for the package's own __init__ and __main__."""
    name = path.parts[0].removesuffix(".py")
    return "" if name.startswith("__") else name


def table():
    """Room -> what it may import, in the order of the table in docs/architecture.md."""
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \|.*\|(.*)\|$", text, re.MULTILINE)
    allowed = {}
    for name, cell in rows:
        allowed[name] = set(allowed) if "all above" in cell else set(re.findall(r"`([\w.]+)`", cell))
    return allowed


def imported(node):
    """Full names that an import statement, or a call that imports by name, may bring; empty for other nodes."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")).startswith("import_"):
        return [arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)]
    return []


def imports_of(path):
    """Every name imported anywhere in a file."""
    return [name for node in ast.walk(trees()[path]) for name in imported(node)]


def test_every_room_is_in_the_table_of_the_architecture():
    assert {room(path) for path in trees()} - {""} == set(table())


def test_rooms_import_what_their_rows_name():
    allowed = table()
    strangers = [
        f"{path} imports {name}"
        for path in filter(room, trees())
        for name in imports_of(path)
        if name.startswith("ssdrt.") and name != "ssdrt.__version__"
        if not any(f"{name}.".startswith(f"ssdrt.{other}.") for other in allowed[room(path)] | {room(path)})
    ]
    assert strangers == []


def test_rows_name_only_rooms_above_them():
    allowed = table()
    order = list(allowed)
    for name, others in allowed.items():
        assert {other.split(".")[0] for other in others} <= set(order[: order.index(name)]), name


def test_imports_are_absolute():
    assert not [path for path, tree in trees().items() for node in ast.walk(tree) if getattr(node, "level", 0)]


def test_numpy_is_the_only_package_imported_at_the_top():
    known = {*sys.stdlib_module_names, "numpy", "ssdrt"}
    found = [
        f"{path} imports {name}"
        for path, tree in trees().items()
        for node in tree.body
        for name in imported(node)
        if name.split(".")[0] not in known
    ]
    assert found == []


def test_the_library_of_an_engine_is_imported_in_its_file_only():
    libraries = {path.stem: path for path in trees() if path.parent.name == "engines"}
    found = [
        f"{path} imports {name}"
        for path in trees()
        for name in imports_of(path)
        if path != libraries.get(name.split(".")[0], path)
    ]
    assert found == []


def test_every_file_says_its_subject_in_the_first_line():
    assert [path for path, tree in trees().items() if not (ast.get_docstring(tree) or "").split("\n")[0]] == []


def test_no_room_for_odds_and_ends():
    names = {part.removesuffix(".py") for path in trees() for part in path.parts}
    assert not names & {"utils", "util", "helpers", "common", "misc", "core"}


def test_everything_is_caught_at_the_door_only():
    """And where a call that was started keeps what went wrong for whoever asks for its result, as a Future does."""
    broad = [
        path.as_posix()
        for path, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        if node.type is None or {"Exception", "BaseException"} & {n.id for n in ast.walk(node.type) if hasattr(n, "id")}
    ]
    assert broad == ["cli/__init__.py", "engines/lanes.py"]
