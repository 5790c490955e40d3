"""params.yaml and the profile it names, checked and typed."""

from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError
from pydantic_core import ErrorDetails

from tasks.errors import StippleError

PARAMS = "params.yaml"
Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]
S = TypeVar("S", bound="Section")


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Frames(Section):
    every: Count = Field(description="Keep every n-th frame of each video.")
    max_side: Annotated[int, Field(ge=16)]
    drop_near_duplicates: bool
    near_duplicate_distance: Annotated[int, Field(ge=0, le=64)]


class Points(Section):
    weighting: Literal["contour", "filled", "threshold"]
    colour: bool
    num_points: Count


def _filled(*known: str) -> AfterValidator:
    """That a prompt has none but the `known` placeholders."""

    def check(prompt: str) -> str:
        names = [name for _, name, _, _ in Formatter().parse(prompt) if name is not None]
        if strange := sorted(set(names) - set(known)):
            raise ValueError(
                f"{{{strange[0]}}} is no placeholder; {', '.join(map('{{{}}}'.format, known)) or 'none'} is"
            )
        return prompt

    return AfterValidator(check)


class Captions(Section):
    prompt: Annotated[Text, _filled()] = Field(description="What the captioner is asked about each frame.")


class Summaries(Section):
    prompt: Annotated[Text, _filled("max_words")] = Field(
        description="What the summarizer is asked about each caption."
    )
    max_words: Count
    max_attempts: Count


class Dataset(Section):
    held_out: Share = Field(description="Share of the source clips kept away from training.")
    max_quarantined: Annotated[float, Field(ge=0, le=1)]


class Fit(Section):
    """How a network is trained; `fm.training.TrainConfig` says what each number means."""

    steps: Count = Field(description="Training steps.")
    clouds: Count
    learning_rate: Annotated[float, Field(gt=0)]
    hidden_learning_rate: Annotated[float, Field(gt=0)] | None
    schedule: Literal["cosine", "constant"]
    times: Literal["stratified", "uniform", "logit-normal", "mode-heavy"]
    clip: Annotated[float, Field(gt=0)] | None
    ema: Share
    condition_dropout: Share
    wordings: bool
    condition_noise: Annotated[float, Field(ge=0)]
    checkpoint_every: Count


class Recipe(Fit):
    """Of a network that moves points."""

    points: Count
    fresh_points: bool
    coupling: Literal["ot", "independent"]
    times_per_cloud: Count


class AutoencoderFit(Section):
    steps: Count
    clouds: Count
    learning_rate: Annotated[float, Field(gt=0)]


class LatentRecipe(Fit):
    """Of an autoencoder and a flow of its latents; what is not the autoencoder's is the flow's."""

    autoencoder: AutoencoderFit


class Recipes(Section):
    latent: LatentRecipe
    film: Recipe
    set_film: Recipe = Field(alias="set-film")
    baseline: Recipe
    baseline_small: Recipe = Field(alias="baseline-small")


class Train(Section):
    network: Literal["latent", "film", "set-film", "baseline", "baseline-small"] = Field(
        description="Which recipe is trained."
    )
    processes: Count
    recipes: Recipes

    def recipe(self, network: str) -> Recipe | LatentRecipe:
        return getattr(self.recipes, network.replace("-", "_"))


class Evaluate(Section):
    steps: Count
    guidance: float
    baseline_steps: Annotated[int, Field(ge=0)]


class Retrain(Section):
    start: Literal["scratch", "champion"] = Field(description="Begin with random weights, or with the champion's.")


class Tolerance(Section):
    """How much a challenger may lose on the metrics that do not decide, in the units of each."""

    energy: Annotated[float, Field(ge=0)]
    chamfer: Annotated[float, Field(ge=0)]
    sliced_w2: Annotated[float, Field(ge=0)]
    retrieval: Annotated[float, Field(ge=0)]


class Promote(Section):
    """What a challenger must show to take the champion's place; `tasks.registry.gate` says what each number means."""

    metric: Literal["energy", "chamfer", "sliced_w2", "retrieval"]
    margin: Share = Field(description="Least gain to be promoted, as a share of what the champion lacks to the floor.")
    tolerance: Tolerance
    confidence: Annotated[float, Field(gt=0, lt=1)]
    min_clips: Annotated[int, Field(ge=2)]
    frames: Count
    draws: Annotated[int, Field(ge=2)]


class Draw(Section):
    prompts: Annotated[list[str], Field(min_length=1)]
    steps: Count
    guidance: float


class Params(Section):
    """What params.yaml holds."""

    profile: Text = Field(description="Which models run, and how: a file of profiles/, without .yaml.")
    input: Text = Field(description="A folder of videos and still images, searched recursively.")
    seed: Annotated[int, Field(ge=0)]
    frames: Frames
    points: Points
    captions: Captions
    summaries: Summaries
    dataset: Dataset
    train: Train
    evaluate: Evaluate
    retrain: Retrain
    promote: Promote
    draw: Draw


class Pinned(Section):
    """A checkpoint: a hub name or a local folder."""

    model: str
    revision: str | None


class Checkpoint(Pinned):
    """A Hugging Face checkpoint, and how to load it."""

    dtype: Literal["float32", "bfloat16", "float16"]
    batch_size: Count | None = None  # at most; left out, as many as there is memory for


class GeneratorCheckpoint(Checkpoint):
    quantization: Literal["nf4"] | None
    max_new_tokens: Count


class CaptionerCheckpoint(GeneratorCheckpoint):
    image_side: Count
    licence: str | None = None


class Endpoint(Section):
    """A model that a server answers for, by OpenAI's protocol."""

    endpoint: Annotated[str, Field(pattern="^https?://")]
    model: Text
    concurrency: Count
    timeout: Annotated[float, Field(gt=0)]
    max_new_tokens: Count

    @property
    def batch_size(self) -> int:
        """Rows that are kept together: enough that few requests wait for the last one of a batch."""
        return 8 * self.concurrency


class CaptionerEndpoint(Endpoint):
    image_side: Count


class OwnCaptioner(Section):
    """A file of the project's that defines `Captioner`."""

    own: Text
    version: Count
    batch_size: Count


KINDS = ("endpoint", "own", "checkpoint")
"""Of a model in a profile, each told by a key of its own but the last."""


def _kind(given: Any) -> str:
    named = given if isinstance(given, dict) else vars(given)
    return next((kind for kind in KINDS if kind in named), KINDS[-1])


AnyCaptioner = Annotated[
    Annotated[CaptionerCheckpoint, Tag("checkpoint")]
    | Annotated[CaptionerEndpoint, Tag("endpoint")]
    | Annotated[OwnCaptioner, Tag("own")],
    Discriminator(_kind),
]
AnySummarizer = Annotated[
    Annotated[GeneratorCheckpoint, Tag("checkpoint")] | Annotated[Endpoint, Tag("endpoint")], Discriminator(_kind)
]


class Needs(Section):
    """What a machine has to have, in gigabytes (10⁹ bytes), for a profile to fit it."""

    memory_gb: float = 0
    gpu_gb: float = 0
    disk_gb: float = 0


class Profile(Section):
    """What profiles/<profile>.yaml holds."""

    needs: Needs = Needs()
    captioner: AnyCaptioner
    summarizer: AnySummarizer
    embedder: Checkpoint
    autoencoder: Pinned | None


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True)

    params: Params
    profile: Profile


def load(root: Path = Path()) -> Settings:
    """Read and check `params.yaml` and the profile it names under `root`."""
    return checked(read_text(root / PARAMS), root)


def profiles(root: Path = Path()) -> list[str]:
    """The profiles that there are under `root`."""
    return sorted(path.stem for path in (root / "profiles").glob("*.yaml"))


def read_text(path: Path) -> str:
    """What a file of settings says."""
    try:
        return path.read_text()
    except FileNotFoundError:
        raise StippleError(f"{path} is missing; run from the project's folder, or restore it with git") from None


def checked(params_yaml: str, root: Path) -> Settings:
    """The settings that `params_yaml` gives, with the profile it names under `root`."""
    params = _parsed(params_yaml, root / PARAMS, Params)
    if params.points.colour and params.train.network == "latent":
        raise StippleError(
            f"{root / PARAMS}: train.network: latent draws without colour; with points.colour: true choose film"
        )
    path = root / "profiles" / f"{params.profile}.yaml"
    if not path.is_file():
        known = ", ".join(profiles(root))
        raise StippleError(
            f"params.yaml: profile is {params.profile!r}, but there is no {path}; known profiles: {known}"
        )
    return Settings(params=params, profile=profile(params.profile, root))


def profile(name: str, root: Path) -> Profile:
    """The profile `name` under `root`."""
    path = root / "profiles" / f"{name}.yaml"
    return _parsed(read_text(path), path, Profile)


def _parsed(text: str, path: Path, section: type[S]) -> S:
    try:
        return section.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise StippleError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        problems = "; ".join(_problem(e) for e in error.errors())
        raise StippleError(f"{path}: {problems}") from None


def _problem(error: ErrorDetails) -> str:
    where = ".".join(str(part) for at, part in enumerate(error["loc"]) if at != 1 or part not in KINDS)
    if error["type"] == "extra_forbidden":
        return f"{where} is not a known setting; remove it or check its spelling"
    if error["type"] == "missing":
        return f"{where} is missing"
    message = error["msg"].removeprefix("Value error, ")
    return f"{where} is {error['input']!r}, but: {message[0].lower()}{message[1:]}"
