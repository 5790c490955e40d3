"""Data flows one way, flows → tasks → fm, and dvc.yaml knows all the code that a stage's result comes from."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from flows.pipeline import DATASET, TRAINING
from flows.stages import MODULES
from tests.support import ROOT

FORBIDDEN = {
    "fm": {"tasks", "flows", "demo", "prefect", "dvc", "pyarrow", "pandas", "transformers"},
    "tasks": {"flows", "demo", "prefect"},
    "flows": {"demo"},
}
LEFT_OUT = {
    "fm/_checks.py": "it only refuses wrong arguments",
    "tasks/errors.py": "it only says what went wrong",
    "tasks/settings.py": "what it reads are the stage's params",
    "tasks/files.py": "how a file comes to its place, not what is in it",
    "tasks/rows.py": "which rows are computed, never what is in them",
    "tasks/batches.py": "what is tried again, not what comes out",
    "tasks/registry.py": "which weights it gives is settled by their digest in models/start.json",
    "tasks/sources.py": "registry's, see above",
    "tasks/media.py": "registry's, see above",
}
"""Code that stages use and that cannot change their results, and why."""
FRAMES_ARE_MADE_BY = {"tasks/sources.py", "tasks/media.py"}


def modules(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found, f"{package} has no modules"
    return found


def imports(file: Path) -> Iterator[str]:
    """Dotted names that a module imports, wherever it does so, but for its type hints alone."""
    todo: list[ast.AST] = [ast.parse(file.read_text())]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            todo += node.orelse
            continue
        todo += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def file_of(name: str) -> Path | None:
    """The module of this repository that a dotted name stands for."""
    path = ROOT / f"{name.replace('.', '/')}.py"
    return path if path.is_file() else None


def closure(file: Path) -> set[str]:
    """The modules of tasks and fm that a module's work can come to, itself included, as paths."""
    found, todo = set(), [file]
    while todo:
        here = todo.pop()
        if here not in found:
            found.add(here)
            todo += filter(None, map(file_of, imports(here)))
    return {path.relative_to(ROOT).as_posix() for path in found}


def stages() -> dict[str, dict]:
    return yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


@pytest.mark.parametrize("package", FORBIDDEN)
def test_packages_import_downwards_only(package: str) -> None:
    top = {file: {name.split(".")[0] for name in imports(file)} for file in modules(package)}
    assert {file.name: found for file in top if (found := top[file] & FORBIDDEN[package])} == {}


def test_only_the_record_talks_to_dvc() -> None:
    assert [file.name for file in modules("tasks") if "dvc" in {i.split(".")[0] for i in imports(file)}] == [
        "record.py"
    ]


def test_dvc_and_the_flows_know_the_same_stages_in_the_same_order() -> None:
    assert list(stages()) == list(MODULES) == [*DATASET, *TRAINING]
    assert all(stage["cmd"] == f"stipple stage {name}" for name, stage in stages().items())


@pytest.mark.parametrize("name", MODULES)
def test_a_stage_is_stale_when_code_that_its_result_comes_from_changes_and_only_then(name: str) -> None:
    left_out = set(LEFT_OUT) - (FRAMES_ARE_MADE_BY if name == "frames" else set())
    wanted = closure(ROOT / f"{MODULES[name].replace('.', '/')}.py") - left_out
    declared = {dep for dep in stages()[name]["deps"] if dep.startswith(("tasks", "fm"))}
    assert sorted(declared) == sorted(wanted), f"write these under {name}.deps in dvc.yaml"


def test_what_is_left_out_is_there() -> None:
    assert [path for path in LEFT_OUT if not (ROOT / path).is_file()] == []
