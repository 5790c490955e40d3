"""The reader: a small classifier that looks at a cloud of points and says what face it shows.

It is there to score drawings, and no part of the pipeline knows it. A cloud becomes a grid of how many points fall
where, and a convolutional network tells the facts that lines alone can show. `demo/checkpoints/train_reader.py` trains
it on random faces, none of which is in the demo clips.
"""

import itertools
import json
import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import conv2d

from demo.faces import characters
from demo.faces.characters import Character, Pose
from tasks.clouds.density import EXTENT

FOLDER = Path(__file__).parents[1] / "models" / "demo" / "reader"
FACTS = {
    "orientation": characters.ORIENTATIONS,
    "expression": characters.EXPRESSIONS,
    "hair_style": characters.HAIR_STYLES,
    "glasses": characters.GLASSES,
    "facial_hair": characters.FACIAL_HAIR,
    "headwear": characters.HEADWEAR,
}
MIRRORED = {"left": "right", "right": "left"}
POINTS = 1024  # what a cloud of more or of fewer points is scaled to
BATCH = 128


class Reader(nn.Module):
    """Clouds [B, N, 2] in [-3, 3], y down → logits [B, values] of each fact."""

    def __init__(self, *, side: int, stride: int, widths: list[int], hidden: int) -> None:
        super().__init__()
        self.config = {"side": side, "stride": stride, "widths": widths, "hidden": hidden}
        self.side = side
        layers = [Convolution(1, widths[0], stride + 2, stride), *_bend(widths[0])]
        for before, after in itertools.pairwise(widths[:-1]):
            layers += [Convolution(before, after, 3, 2), *_bend(after), Residual(after)]
        layers += [Convolution(widths[-2], widths[-1], 3, 2), *_bend(widths[-1])]
        self.look = nn.Sequential(*layers)
        cells = (side // stride // 2 ** (len(widths) - 1)) ** 2
        self.gather = nn.Linear(widths[-1] * cells, hidden, bias=False)
        self.bend = nn.Sequential(nn.BatchNorm1d(hidden), nn.GELU(), nn.Dropout(0.2))
        self.tell = nn.ModuleDict({fact: nn.Linear(hidden, len(values)) for fact, values in FACTS.items()})

    def forward(self, clouds: Tensor) -> dict[str, Tensor]:
        seen = self.look(grid(clouds, self.side)).flatten(1)
        known = self.bend(self.gather(seen))
        return {fact: tell(known) for fact, tell in self.tell.items()}

    def hidden_weights(self) -> list[Tensor]:
        """The matrices between hidden layers."""
        _first, *others = (part.weight for part in self.look.modules() if isinstance(part, Convolution))
        return [*others, self.gather.weight]


class Convolution(nn.Module):
    """Weights as a matrix, which Muon can train: a row for each channel that comes out. No bias; a margin of one."""

    def __init__(self, before: int, after: int, side: int, stride: int) -> None:
        super().__init__()
        self.side, self.stride = side, stride
        self.weight = nn.Parameter(torch.empty(after, before * side**2))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))  # as torch's own

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, self.weight.unflatten(1, (-1, self.side, self.side)), stride=self.stride, padding=1)


class Residual(nn.Sequential):
    """What it is given, and a convolution of it."""

    def __init__(self, width: int) -> None:
        super().__init__(Convolution(width, width, 3, 1), *_bend(width))

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


def _bend(width: int) -> tuple[nn.Module, nn.Module]:
    return nn.BatchNorm2d(width), nn.GELU()


def grid(clouds: Tensor, side: int) -> Tensor:
    """Points around each node of a grid over [-3, 3]²: [B, 1, side, side]. Each counts for the four nodes around it."""
    place = ((clouds / EXTENT + 1) * (side / 2) - 0.5).clamp(0, side - 1.001)
    low = place.floor()
    share = place - low
    column, row = low.long().unbind(-1)
    node = (torch.arange(len(clouds))[:, None] * side + row) * side + column
    counts = torch.zeros(len(clouds) * side**2)
    for down, right in itertools.product((0, 1), repeat=2):
        weight = (share - torch.tensor([1.0 - right, 1.0 - down])).abs().prod(dim=-1)
        counts.index_add_(0, (node + down * side + right).flatten(), weight.flatten())
    scale = POINTS / clouds.shape[1] * (side / 64) ** 2 / 2  # so that lines have the same brightness on any grid
    return (scale * counts).clamp(max=4).reshape(-1, 1, side, side)


def mirrored(clouds: Tensor) -> Tensor:
    """The clouds as a mirror shows them."""
    return clouds * torch.tensor([-1.0, 1.0])


@lru_cache(maxsize=1)
def load(folder: Path = FOLDER) -> Reader:
    """The trained reader."""
    network = Reader(**json.loads((folder / "config.json").read_text()))
    network.load_state_dict(load_file(folder / "model.safetensors"))
    return network.eval()


def save(network: Reader, folder: Path) -> None:
    """Weights in float16, and what `Reader` is made with."""
    weights = {name: value.half().contiguous() for name, value in network.state_dict().items() if value.dim()}
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(network.config, indent=2) + "\n")


@torch.no_grad()
def read(clouds: Tensor, network: Reader | None = None) -> dict[str, list[str]]:
    """What `clouds` [B, N, 2 or 5] show, as they are and in the mirror taken together: B values of each fact."""
    network = network or load()
    said: dict[str, list[str]] = {fact: [] for fact in FACTS}
    for some in clouds[..., :2].split(BATCH):
        seen, turned = network(some), network(mirrored(some))
        for fact, values in FACTS.items():
            back = [values.index(MIRRORED.get(value, value)) for value in values]
            sure = seen[fact].softmax(dim=1) + turned[fact].softmax(dim=1)[:, back]
            said[fact] += [values[number] for number in sure.argmax(dim=1)]
    return said


def truth_of(character: Character, shown: Pose | Mapping[str, Any]) -> dict[str, str]:
    """The facts to be read of a character in a pose, or in a frame as demo/truth.json has it.

    Orientation and expression are among them only if they are shown clearly.
    """
    if isinstance(shown, Pose):
        shown = {key: getattr(shown, key) for key in ("orientation", "orientation_clear", "expression_clear")} | {
            "expression": shown.expression_name
        }
    clear = {fact: str(shown[fact]) for fact in ("orientation", "expression") if shown[f"{fact}_clear"]}
    return clear | {fact: getattr(character, fact) for fact in FACTS if fact not in ("orientation", "expression")}
