"""What the docs name is there: the files their links lead to, the headings of their anchors, paths and modules in code.

A path may be made by a run, or be no path at all: `NOT_HERE` says which, and why. Paths in a tree drawn by indentation
stand under the folder above them. Older entries of the changelog tell of older trees and are not read.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from tests.support import ROOT

PLACES = ("*.md", "docs/*.md", "benchmarks/*.md", "demo/*.md", "examples/*.md", "models/demo/*/*.md")
PAGES = sorted(page.relative_to(ROOT).as_posix() for place in PLACES for page in ROOT.glob(place))
ALWAYS = {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/architecture.md", "docs/decisions.md"}
NOT_HERE = {
    "data/raw*": "a reader's own clips",
    ".stipple/*": "what runs keep between them",
    ".venv/*": "what make sets up",
    "dvc.lock": "the record of a run",
    "models/registry*": "made by the first promotion",
    "registry.json": "in models/registry",
    "report.json": "in a version's folder",
    "v[12]/": "versions in models/registry",
    "toys/*": "pictures of `stipple toy`",
    "examples/output/*": "pictures of the examples",
    "my_captioner.py": "a captioner of the reader's",
    "Qwen/*": "a hub model",
    "train.py": "a reader's own script",
    "dataset/dataset": "a deployment's name",
    "training/train": "a deployment's name",
    "retrain/retrain": "a deployment's name",
    "CLIP/NUMBER": "a frame's name",
    "ViT-B/32": "a model's name",
}
FENCE = re.compile(r"^(```+)[^\n]*\n(.*?)^\1", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)(`+)(?!`)((?:(?!\n\n).)+?)(?<!`)\1(?!`)", re.DOTALL)
LINK = re.compile(r'\]\(([^)\s]+)[^)]*\)|^\[[^\]]+\]:\s*(\S+)|(?:src|href)="([^"]+)"', re.MULTILINE)
WORD = re.compile(r"""[^\s'"()\[\]{},;=<>|&]+""")
PATH = re.compile(r"(?=.*[A-Za-z])[\w.*-]+(/[\w.*-]+)*/?")
SUFFIX = re.compile(r"\.(py|yaml|toml|md|json|txt|lock)$")
MODULE = re.compile(r"python3?\s+-m\s+([\w.]+)")
DOTTED = re.compile(r"(?<![\w./-])(?:flows|tasks|fm|demo|examples|benchmarks|tests)(?:\.[A-Za-z_]\w*)+(?![\w/])")

Found = Iterator[tuple[int, str]]
"""Where in a page something is wrong, and what."""


def read(page: str) -> str:
    text = (ROOT / page).read_text(encoding="utf-8")
    entries = [m.start() for m in re.finditer(r"^## ", text, re.MULTILINE)]
    return text[: entries[1]] if page == "CHANGELOG.md" and len(entries) > 1 else text


def blank(pattern: re.Pattern[str], text: str) -> str:
    """`text` with spaces where `pattern` matches, every line where it was."""
    return pattern.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)


def code(text: str) -> Iterator[tuple[int, str]]:
    """Position and content of each code block and each inline piece of code."""
    for block in FENCE.finditer(text):
        yield block.start(2), block[2]
    for piece in INLINE.finditer(blank(FENCE, text)):
        yield piece.start(2), piece[2]


def anchors(text: str) -> set[str]:
    """The anchors that a forge gives to the headings of a page."""
    titles = re.findall(r"^#+ +(.+?) *#*$", blank(FENCE, text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def wrong_links(text: str, folder: Path) -> Found:
    for link in LINK.finditer(blank(INLINE, blank(FENCE, text))):
        target = next(filter(None, link.groups()))
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (folder / name).resolve()
        if name and not (file.exists() and file.is_relative_to(ROOT)):
            yield link.start(), f"the link {target} leads nowhere"
        elif anchor and anchor not in anchors(file.read_text(encoding="utf-8") if name else text):
            yield link.start(), f"the link {target} leads to no heading"


def wrong_paths(text: str, folder: Path) -> Found:
    made = set(re.findall(r"^ +- (data/\S+)$", (ROOT / "dvc.yaml").read_text(), re.MULTILINE))
    for start, content in code(text):
        under: list[tuple[int, str]] = []  # the folders that an indented line stands in: indentation, path
        for line in re.finditer(r"^( *)(.*)$", content, re.MULTILINE):
            indent = len(line[1])
            while under and line[2] and under[-1][0] >= indent:
                under.pop()
            parent = under[-1][1] if under else ""
            for word in WORD.finditer(line[0]):
                path = word[0].removeprefix("./").split(":")[0].rstrip(".")
                if "://" in word[0] or not PATH.fullmatch(path) or not ("/" in path or SUFFIX.search(path)):
                    continue
                if not is_there(path, (ROOT / parent, ROOT, folder), made):
                    yield start + line.start() + word.start(), f"there is no {path}"
                if path.endswith("/") and word.start() == indent:
                    parent += path
                    under.append((indent, parent))


def is_there(path: str, folders: tuple[Path, ...], made: set[str]) -> bool:
    """Whether the repository has `path` (which may hold `*`), a stage makes it, or `NOT_HERE` explains it."""
    if any(fnmatchcase(path, pattern) for pattern in NOT_HERE):
        return True
    if path.startswith("data/") and any(fnmatchcase(out, path) or f"{path}/".startswith(f"{out}/") for out in made):
        return True
    return any(any(folder.glob(path)) if "*" in path else (folder / path).exists() for folder in folders)


def wrong_names(text: str, _: Path) -> Found:
    for start, content in code(text):
        for name in MODULE.finditer(content):
            path = ROOT / name[1].replace(".", "/")
            ours = (ROOT / name[1].split(".")[0]).is_dir()
            if ours and not (path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()):
                yield start + name.start(), f"there is no module {name[1]} to run"
        for name in DOTTED.finditer(content):
            if not is_defined(name[0].split(".")):
                yield start + name.start(), f"there is no {name[0]}"


def is_defined(parts: list[str]) -> bool:
    """Whether `parts` lead to a module, or to what one defines at its top; what lies below that is not looked at."""
    here = ROOT
    for at, part in enumerate(parts):
        here = here / part
        if here.with_suffix(".py").is_file():
            return at == len(parts) - 1 or parts[at + 1] in defined(here.with_suffix(".py"))
        if not here.is_dir():
            return at > 0 and (here.parent / "__init__.py").is_file() and part in defined(here.parent / "__init__.py")
    return True


def defined(module: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.parse(module.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


def report(page: str, text: str, wrong: Found) -> str:
    return "".join(f"\n{page}:{text.count(chr(10), 0, position) + 1}: {what}" for position, what in wrong)


def test_the_pages_are_found() -> None:
    assert ALWAYS - set(PAGES) == set()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page: str) -> None:
    text = read(page)
    found = report(page, text, wrong_links(text, (ROOT / page).parent))
    assert not found, found


@pytest.mark.parametrize("page", PAGES)
def test_paths_in_code_are_there(page: str) -> None:
    text = read(page)
    found = report(page, text, wrong_paths(text, (ROOT / page).parent))
    assert not found, found


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])  # it names what was renamed
def test_names_in_code_are_there(page: str) -> None:
    text = read(page)
    found = report(page, text, wrong_names(text, (ROOT / page).parent))
    assert not found, found


def test_what_is_wrong_is_told_with_its_line() -> None:
    text = """# A heading: with `code`
[here](README.md) [its heading](#a-heading-with-code) [gone](docs/gone.md)
[no heading](README.md#gone) `data/drawings/*.png` and `data/gone.png`, `python
-m tests.gone`, `tests.support.gone`, `tests.support.ROOT`
```
tests/           # no heading
    support/     helpers: __init__.py
    gone.py
pyproject.toml   `s3://gone/gone`
```
"""
    wrong = [found for check in (wrong_links, wrong_paths, wrong_names) for found in check(text, ROOT)]
    assert report("page.md", text, iter(wrong)).splitlines()[1:] == [
        "page.md:2: the link docs/gone.md leads nowhere",
        "page.md:3: the link README.md#gone leads to no heading",
        "page.md:8: there is no gone.py",
        "page.md:3: there is no data/gone.png",
        "page.md:3: there is no module tests.gone to run",
        "page.md:4: there is no tests.gone",
        "page.md:4: there is no tests.support.gone",
    ]
