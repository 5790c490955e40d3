"""What a deployment's run can be asked to do differently: settings of params.yaml, typed as they are there.

A run writes them into params.yaml before its first stage, so that the file and dvc.lock always tell where a result came
from. What is not given stays as the file says when the run begins; so none has a default in the schema, which would be
the value of the day it was deployed, and which the form in Prefect's UI would send along.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, create_model
from pydantic.fields import FieldInfo

from tasks import settings
from tasks.errors import StippleError
from tasks.project import overrides, reproduction
from tasks.settings import Params, Section

ROOT = Path()
NO_OVERRIDES: Any = {}
"""The default of every flow: params.yaml as it is."""


class Overrides(Section):
    model_config = ConfigDict(json_schema_extra=lambda schema: _describe(schema["properties"]))

    def apply(self) -> None:
        """Write what was given into params.yaml, under the project's lock, while DVC reads it for no stage either."""
        if given := self.model_dump(by_alias=True, exclude_unset=True):
            with reproduction.write_locked(settings.PARAMS):
                overrides.write(ROOT, given)


def _describe(properties: dict[str, dict[str, Any]]) -> None:
    for name, schema in properties.items():
        del schema["default"]
        if name == "profile":
            schema["enum"] = settings.profiles(ROOT)
    with suppress(StippleError):  # a run says what is wrong with params.yaml
        today = settings.load(ROOT).params.model_dump(by_alias=True)
        for name, schema in properties.items():
            schema["description"] += f" Empty: as in params.yaml (when deployed: {overrides.value(today, name)})"


def _field(name: str) -> FieldInfo:
    *sections, last = name.split(".")
    model: type[Section] = Params
    for section in sections:
        inner = _named(model, section).annotation
        assert isinstance(inner, type) and issubclass(inner, Section), f"{section} of {name} is no section"
        model = inner
    return _named(model, last)


def _named(model: type[Section], name: str) -> FieldInfo:
    return next(field for key, field in model.model_fields.items() if name in (key, field.alias))


def _of(*names: str) -> Callable[[type[Overrides]], type[Overrides]]:
    """Give a class the settings `names` as fields, as params.yaml has them."""
    fields: dict[str, Any] = {}
    for name in names:
        field = _field(name)
        said = Field(alias=name, title=name, description=field.description)
        fields[name.replace(".", "_")] = (Annotated[field.annotation, *field.metadata, said], None)
    return lambda bare: create_model(bare.__name__, __base__=Overrides, **fields)


_DATA = ("profile", "input", "frames.every", "captions.prompt", "summaries.prompt", "dataset.held_out")
_TRAINING = ("train.network", "train.recipes.latent.steps")


@_of(*_DATA)
class DatasetOverrides(Overrides): ...


@_of(*_TRAINING)
class TrainingOverrides(Overrides): ...


@_of(*_DATA, *_TRAINING, "retrain.start", "promote.margin")
class RetrainOverrides(Overrides): ...
