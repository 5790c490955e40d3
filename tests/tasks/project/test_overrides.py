"""Other settings for one run, written into the project's own params.yaml."""

import shutil
from pathlib import Path

import pytest
import yaml

from flows.parameters import DatasetOverrides, RetrainOverrides, TrainingOverrides
from tasks import settings
from tasks.errors import StippleError
from tasks.project import overrides
from tests.support import ROOT


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    (tmp_path / "my clips: #1").mkdir()
    return tmp_path


def test_a_changed_value_changes_its_own_characters_alone(root: Path) -> None:
    before = (root / "params.yaml").read_text().splitlines()
    overrides.write(root, {"train.recipes.latent.steps": 5, "input": "my clips: #1", "dataset.held_out": 0.5})
    after = (root / "params.yaml").read_text().splitlines()
    assert [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]] == [
        (before[4], before[4].replace("demo/clips", '"my clips: #1"')),
        (before[31], before[31].replace("0.2", "0.5")),
        ("      steps: 2000        # from here on of the flow", "      steps: 5        # from here on of the flow"),
    ]


@pytest.mark.parametrize("prompt", ["Describe.", "yes", "a: 'b' \"c\" # d\né", "- 1"])
@pytest.mark.parametrize("name", ["captions", "summaries"])
def test_a_text_is_read_back_as_it_was_given(root: Path, name: str, prompt: str) -> None:
    expected = yaml.safe_load((root / "params.yaml").read_text())
    expected[name]["prompt"] = prompt
    for _ in range(2):  # over the folded text first, then over its own
        overrides.write(root, {f"{name}.prompt": prompt})
        assert yaml.safe_load((root / "params.yaml").read_text()) == expected
    assert (root / "params.yaml").read_text().count("\n\n") == (ROOT / "params.yaml").read_text().count("\n\n")


def test_what_params_yaml_says_already_is_not_written(root: Path) -> None:
    held = settings.load(root).params
    before = (root / "params.yaml").stat()
    overrides.write(root, {"captions.prompt": held.captions.prompt, "frames.every": held.frames.every})
    assert (root / "params.yaml").stat() == before


@pytest.mark.parametrize(
    "values, says",
    [
        ({"frames.every": 3, "dataset.held_out": 1.5}, "dataset.held_out is 1.5"),
        ({"captions.prompt": ""}, "captions.prompt is ''"),
        ({"train.network": "unet"}, "train.network is 'unet'"),
        ({"profile": "cloud"}, "known profiles: demo, endpoint, gpu, gpu-24gb, laptop"),
        ({"input": "nowhere"}, "input is 'nowhere', but there is no such folder"),
    ],
)
def test_a_wrong_value_is_named_in_one_line_and_nothing_is_written(root: Path, values: dict, says: str) -> None:
    before = (root / "params.yaml").read_bytes()
    with pytest.raises(StippleError, match=says) as caught:
        overrides.write(root, values)
    assert "\n" not in str(caught.value)
    assert (root / "params.yaml").read_bytes() == before


def test_a_broken_file_is_not_made_whole_by_a_change(root: Path) -> None:
    (root / "params.yaml").write_text("input: [")
    with pytest.raises(StippleError, match="not valid YAML"):
        overrides.write(root, {"input": "my clips: #1"})


@pytest.mark.parametrize("kind", [DatasetOverrides, TrainingOverrides, RetrainOverrides])
def test_the_form_shows_types_and_bounds_of_params_yaml_and_no_value_that_could_grow_old(kind: type) -> None:
    schema = kind.model_json_schema()
    assert "required" not in schema and schema["additionalProperties"] is False
    params = settings.load(ROOT).params.model_dump(by_alias=True)
    for name, shown in schema["properties"].items():
        assert "default" not in shown
        assert shown["description"].endswith(
            f"Empty: as in params.yaml (when deployed: {overrides.value(params, name)})"
        )
    if "frames.every" in schema["properties"]:
        assert schema["properties"]["frames.every"]["minimum"] == 1
    if "profile" in schema["properties"]:
        assert schema["properties"]["profile"]["enum"] == ["demo", "endpoint", "gpu", "gpu-24gb", "laptop"]
    if "train.network" in schema["properties"]:
        assert schema["properties"]["train.network"]["enum"] == [
            "latent",
            "film",
            "set-film",
            "baseline",
            "baseline-small",
        ]
