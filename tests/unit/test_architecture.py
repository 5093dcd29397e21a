"""The layers of ARCHITECTURE.md, by reading every module's imports; and what `import workbench` costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import workbench

PACKAGE = Path(workbench.__file__).parent

BASE = {"errors", "files", "_compat"}

# What each part may import of ours, itself aside. A part that is not here may not exist.
MAY_IMPORT = {
    "__init__": set(),  # finds its names when they are asked for
    **dict.fromkeys(BASE, BASE),
    "training_log": BASE,
    "training_state": BASE,
    "data": BASE | {"models", "checkpoints"},
    "models": BASE | {"data", "checkpoints", "training_log", "training_state"},
    "checkpoints": BASE,
    "editing": BASE | {"data", "models", "checkpoints", "training_log", "training_state"},
    "spine": BASE | {"data", "checkpoints", "training_log", "training_state"},
    "figures": BASE | {"data", "models", "editing", "spine"},
    "widgets": BASE | {"data", "models", "editing", "spine", "figures"},
    "runs": BASE | {"data", "models", "editing", "spine", "figures", "widgets", "__init__"},
    "cli": BASE
    | {"data", "models", "checkpoints", "editing", "spine", "figures", "widgets", "runs", "__init__"},
}

# Libraries that a part may never import, wherever in the file.
FOREIGN_BANS = {
    "data": {"plotly", "ipywidgets", "anywidget", "typer", "rich", "papermill"},
    "models": {"plotly", "ipywidgets", "anywidget", "typer", "rich", "papermill"},
    "editing": {"plotly", "ipywidgets", "anywidget", "typer", "rich", "papermill"},
    "spine": {"plotly", "ipywidgets", "anywidget", "typer", "rich", "papermill"},
    "figures": {"torch", "timm", "ipywidgets", "anywidget", "typer", "rich", "papermill"},
    "widgets": {"typer", "rich", "papermill"},
    "runs": {"torch", "timm", "ipywidgets", "anywidget", "typer"},
}

MODULES = sorted(PACKAGE.rglob("*.py"))


def part_of(module: Path) -> str:
    """The first name below the package: ``data`` for ``data/emoji.py``, ``errors`` for ``errors.py``."""
    return module.relative_to(PACKAGE).with_suffix("").parts[0]


def dotted(module: Path) -> str:
    parts = ("workbench", *module.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(module: Path, *, typing_only: bool = False) -> Iterator[str]:
    """Dotted names that a module imports, at its top or inside functions.

    Imports under ``if TYPE_CHECKING`` are never run; they count only where `typing_only` asks for them.
    """
    tree = ast.parse(module.read_text(encoding="utf-8"))
    skipped = set() if typing_only else set(_under_type_checking(tree))
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _under_type_checking(tree: ast.Module) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for statement in node.body:
                yield from ast.walk(statement)


def ours(names: Iterator[str]) -> set[str]:
    """The parts of the workbench among imported names; the package itself counts as ``__init__``."""
    known = {part_of(module) for module in MODULES}
    parts = [name.split(".") for name in names if name.split(".")[0] == "workbench"]
    return {part[1] if len(part) > 1 and part[1] in known else "__init__" for part in parts}


@pytest.mark.parametrize("module", MODULES, ids=dotted)
def test_a_module_imports_only_what_lies_below_it(module: Path) -> None:
    part = part_of(module)
    assert part in MAY_IMPORT, f"{part} has no place in ARCHITECTURE.md yet"
    typing_only = part != "__init__"
    above = ours(imports_of(module, typing_only=typing_only)) - MAY_IMPORT[part] - {part}
    assert not above, f"{dotted(module)} may not import {', '.join(sorted(above))}"


@pytest.mark.parametrize("module", MODULES, ids=dotted)
def test_a_module_leaves_foreign_libraries_where_they_belong(module: Path) -> None:
    libraries = {name.split(".")[0] for name in imports_of(module)}
    banned = libraries & FOREIGN_BANS.get(part_of(module), set())
    assert not banned, f"{dotted(module)} may not import {', '.join(sorted(banned))}"


def test_no_part_is_empty() -> None:
    assert {part_of(module) for module in MODULES} == set(MAY_IMPORT)


def test_no_source_file_is_ignored_by_git() -> None:
    """A pattern such as ``runs/`` in .gitignore would drop ``workbench/runs`` from clones and wheels."""
    root = PACKAGE.parent
    if not (root / ".git").exists():
        pytest.skip("not a git checkout")
    files = [path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    asked = "\n".join(str(path.relative_to(root)) for path in files)
    command = ["git", "check-ignore", "--no-index", "--stdin"]
    ignored = subprocess.run(command, cwd=root, input=asked, capture_output=True, text=True, check=False)
    assert ignored.stdout == ""


def python(code: str) -> str:
    """What `code` prints in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_is_quick_and_brings_no_library() -> None:
    code = (
        "import sys, time; before = set(sys.modules); start = time.perf_counter(); import workbench\n"
        "took = time.perf_counter() - start\n"
        "heavy = {'torch', 'numpy', 'timm', 'plotly', 'pydantic', 'ipywidgets'} & set(sys.modules)\n"
        "print(took < 0.3, sorted(heavy))"
    )
    assert python(code) == "True []"


def test_figures_do_without_torch() -> None:
    assert python("import sys, workbench.figures; print('torch' in sys.modules)") == "False"


@pytest.mark.parametrize("name", workbench.spine.__all__)
def test_every_public_name_of_the_spine_is_there(name: str) -> None:
    assert getattr(workbench.spine, name) is getattr(workbench.spine, name)
    assert name in dir(workbench.spine)


@pytest.mark.parametrize("name", workbench.__all__)
def test_every_public_name_is_there(name: str) -> None:
    value = getattr(workbench, name)
    assert value is getattr(workbench, name)
    assert name in dir(workbench)


def test_typing_sees_the_same_names_as_python() -> None:
    imported = {name.split(".")[-1] for name in imports_of(PACKAGE / "__init__.py", typing_only=True)}
    assert set(workbench.__all__) <= imported
    assert len(set(workbench.__all__)) == len(workbench.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'workbench' has no attribute 'load_modle'"):
        workbench.load_modle  # noqa: B018


@pytest.mark.parametrize("route", ["import workbench, timm", "from workbench.models import load_model"])
def test_torchvision_imports_by_every_route(route: str) -> None:
    assert python(f"{route}; import sys, torchvision; print('torchvision' in sys.modules)") == "True"


def test_the_import_hook_leaves_after_its_one_use() -> None:
    code = (
        "import sys, workbench\n"
        "hooks = lambda: sum('BeforeTorchvision' in type(hook).__name__ for hook in sys.meta_path)\n"
        "before = hooks(); import torchvision; print(before, hooks())"
    )
    assert python(code) == "1 0"
