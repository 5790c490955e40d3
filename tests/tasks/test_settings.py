import shutil
from pathlib import Path

import pytest
import yaml

from tasks import settings
from tasks.errors import StippleError
from tests.support import ROOT


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    return tmp_path


def edit(project: Path, **changes) -> None:
    path = project / "params.yaml"
    params = yaml.safe_load(path.read_text())
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            params[section][name] = value
        else:
            params[section] = value
    path.write_text(yaml.safe_dump(params))


@pytest.mark.parametrize("profile", [path.stem for path in (ROOT / "profiles").glob("*.yaml")])
def test_every_profile_is_valid(project: Path, profile: str) -> None:
    edit(project, profile=profile)
    assert settings.load(project).params.profile == profile


@pytest.mark.parametrize(
    "change, says",
    [
        ({"frames__evry": 3}, "frames.evry is not a known setting"),
        ({"frames__every": "six"}, "frames.every is 'six'"),
        ({"frames__every": 0}, "frames.every is 0"),
        ({"frames__every": True}, "frames.every is True"),
        ({"dataset__held_out": 1.5}, "dataset.held_out is 1.5"),
        ({"dataset__max_quarantined": 10}, "dataset.max_quarantined is 10"),
        ({"train__network": "unet"}, "train.network is 'unet'"),
        ({"profile": "cloud"}, "known profiles: .*demo.*gpu.*laptop"),
        ({"profile": "../../etc/passwd"}, "profile"),
        ({"frames": None}, "frames is None"),
        (
            {"captions": {"prompt": "Describe {face}."}},
            r"captions.prompt is .* but: \{face\} is no placeholder; none is",
        ),
        ({"summaries__prompt": "In {words} words."}, r"\{words\} is no placeholder; \{max_words\} is"),
        ({"summaries__prompt": "In {max_words words."}, r"summaries.prompt is .* but: "),
    ],
)
def test_a_wrong_key_or_type_is_named_in_one_line(project: Path, change: dict, says: str) -> None:
    edit(project, **change)
    with pytest.raises(StippleError, match=says) as error:
        settings.load(project)
    assert "\n" not in str(error.value) and "params.yaml" in str(error.value)


@pytest.mark.parametrize("text, says", [("a: [", "not valid YAML"), ("", "params.yaml"), ("- 1\n- 2\n", "params.yaml")])
def test_a_broken_file_is_named(project: Path, text: str, says: str) -> None:
    (project / "params.yaml").write_text(text)
    with pytest.raises(StippleError, match=says) as error:
        settings.load(project)
    assert "\n" not in str(error.value)


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StippleError, match=r"params\.yaml is missing"):
        settings.load(tmp_path)


def test_a_missing_setting_is_named(project: Path) -> None:
    params = yaml.safe_load((project / "params.yaml").read_text())
    del params["captions"]["prompt"]
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    with pytest.raises(StippleError, match=r"captions\.prompt is missing"):
        settings.load(project)


def test_what_draws_without_colour_is_not_asked_for_it(project: Path) -> None:
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["points"]["colour"] = True
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    with pytest.raises(StippleError, match=r"train\.network: latent draws without colour; .* choose film"):
        settings.load(project)
    params["train"]["network"] = "film"
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    assert settings.load(project).params.points.colour
