"""One path leads to each public name, `fm.<module>.<name>`; `import fm` is enough, and loads no drawing library."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fm

FOLDER = Path(fm.__file__).parent
TREES = {file.stem: ast.parse(file.read_text()) for file in sorted(FOLDER.glob("*.py"))}
PUBLIC = [name for name in TREES if not name.startswith("_")]


def exported(module: str) -> list[str]:
    """The `__all__` of a module, if it has one."""
    targets = {
        target.id: node.value
        for node in TREES[module].body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return ast.literal_eval(targets["__all__"]) if "__all__" in targets else []


def taken(module: str) -> list[tuple[str, str]]:
    """The names, not the modules, that a module has from others of fm: the other module and the name."""
    nodes = [node for node in ast.walk(TREES[module]) if isinstance(node, ast.ImportFrom)]
    return [
        (node.module.removeprefix("fm."), alias.name)
        for node in nodes
        if node.module and node.module.startswith("fm.")
        for alias in node.names
    ]


def test_importing_fm_reaches_every_module_and_loads_none():
    code = (
        "import sys, fm; assert not any(name.startswith('fm.') or name == 'matplotlib' for name in sys.modules); "
        "print(*dir(fm)); fm.plots.clouds; print(fm.paths.linear().name, fm.toys.moons(3).x.shape)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == " ".join(PUBLIC) + "\nlinear torch.Size([3, 2])\n"
    assert [getattr(fm, name).__name__ for name in PUBLIC] == [f"fm.{name}" for name in PUBLIC]
    with pytest.raises(AttributeError, match="module 'fm' has no attribute 'train'"):
        getattr(fm, "train")  # noqa: B009


def test_type_checkers_see_the_same_modules():
    (block,) = (node for node in TREES["__init__"].body if isinstance(node, ast.If))
    seen = [(node.module, alias.name, alias.asname) for node in block.body for alias in node.names]
    assert seen == [("fm", name, name) for name in PUBLIC]
    assert (FOLDER / "py.typed").is_file()


@pytest.mark.parametrize("module", PUBLIC)
def test_a_module_opens_no_second_path_to_a_name(module):
    """What is public in another module it says by that module, as in `solvers.Velocity`."""
    elsewhere = {name for other in PUBLIC if other != module for name in exported(other)}
    assert [name for source, name in taken(module) if not source.startswith("_") or name in elsewhere] == []


@pytest.mark.parametrize("module", [module for module in PUBLIC if exported(module)])
def test_all_is_declared_only_where_public_names_come_from_private_modules(module):
    assert set(exported(module)) & {name for source, name in taken(module) if source.startswith("_")}
    assert {name for name in vars(getattr(fm, module)) if name in exported(module)} == set(exported(module))
