"""The house rules: the core knows no wing, wings know no other wing, and no import is a circle."""

import ast
import subprocess
import sys
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WINGS = ("rewards", "policies", "envs")
LINKS = (*WINGS, "configs")
FACE = {"alignflow/__init__.py", "alignflow/cli.py"}


def modules(folder):
    return sorted(p for p in (ROOT / folder).rglob("*.py") if not _through_a_link(p))


def _through_a_link(path):
    return any(parent.is_symlink() for parent in path.parents if parent != ROOT)


def imported(path):
    """Absolute names that a file imports, with relative ones as `.name` and their level."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", node.level
            if node.level == 0 and node.module == "alignflow":
                yield from ((f"alignflow.{alias.name}", 0) for alias in node.names)


def wing_of(name):
    parts = name.split(".")
    if parts[0] == "alignflow":
        parts = parts[1:]
    return parts[0] if parts and parts[0] in WINGS else None


@pytest.mark.parametrize("name", LINKS)
def test_each_wing_is_a_link_into_the_package(name):
    link = ROOT / "alignflow" / name
    assert link.is_symlink(), (
        f"alignflow/{name} must be a symbolic link to ../{name}: check the repository out with "
        "core.symlinks=true"
    )
    assert link.resolve() == ROOT / name


def test_the_core_names_no_wing():
    crossings = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules("alignflow")
        if str(path.relative_to(ROOT)) not in FACE
        for name, level in imported(path)
        if level == 0 and wing_of(name)
    ]
    assert not crossings


@pytest.mark.parametrize("wing", WINGS)
def test_a_wing_names_no_other_wing_and_reaches_itself_by_relative_imports(wing):
    crossings = []
    for path in modules(wing):
        depth = len(path.relative_to(ROOT / wing).parts)
        for name, level in imported(path):
            if (level == 0 and wing_of(name)) or level > depth:
                crossings.append(f"{path.relative_to(ROOT)} imports {'.' * level}{name}")
    assert not crossings


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "alignflow" else ("alignflow", *parts)
    return ".".join(parts).removesuffix(".__init__")


def imported_modules(path, names):
    """Modules of the package that a file imports, also inside a function or for a type only."""
    package = [*module_name(path).split("."), *(["__init__"] if path.stem == "__init__" else [])]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from {alias.name for alias in node.names} & names
        elif isinstance(node, ast.ImportFrom):
            base = [
                *(package[: -node.level] if node.level else []),
                *(node.module or "").split("."),
            ]
            for alias in node.names:
                whole = ".".join(filter(None, [*base, alias.name]))
                found = whole if whole in names else whole.rpartition(".")[0]
                yield from {found} & names


def test_no_import_is_a_circle_not_even_for_a_type():
    """The face apart, which loads its names when they are used."""
    files = [path for room in ("alignflow", *WINGS) for path in modules(room)]
    paths = {module_name(path): path for path in files if path.parent != ROOT / "alignflow"
             or path.stem != "__init__"}  # fmt: skip
    graph = {name: {*imported_modules(path, set(paths))} for name, path in paths.items()}
    assert "alignflow.checks" in graph["alignflow.tilt"] and "alignflow" not in graph
    assert "alignflow.pipeline.remains" in graph["alignflow.pipeline.folder"]
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_every_folder_of_tests_is_a_room_of_the_package():
    of_the_whole = {"devices", "scripts", "configs"}
    for path in (ROOT / "tests").rglob("test_*.py"):
        room = path.parent.relative_to(ROOT / "tests")
        if room.parts and room.parts[0] not in of_the_whole:
            assert (ROOT / "alignflow" / room).is_dir(), f"{path} tests no room"


def test_the_version_is_that_of_the_project():
    import alignflow

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert alignflow.__version__ == project["version"]


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, alignflow; heavy = {'torch', 'tensordict', 'torchrl', 'matplotlib', 'hydra'} "
        "& set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_every_name_of_the_face_is_there():
    import alignflow

    missing = [name for name in alignflow.__all__ if not hasattr(alignflow, name)]
    assert not missing
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = alignflow.nothing
