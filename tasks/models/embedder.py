"""Texts → vectors."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tasks import settings
from tasks.errors import Refused
from tasks.models import hf, loading


class Embedder:
    """Texts → unit vectors, with the text half of a CLIP or SigLIP checkpoint, or with any text encoder.

    Where an encoder has no vector for the whole text, it is the mean of its tokens', as sentence encoders have it.
    """

    def __init__(self, checkpoint: settings.Checkpoint, root: Path) -> None:
        library = hf.transformers()
        self.kind = _kind(_config(checkpoint, root))
        text_halves = {"clip": library.CLIPTextModelWithProjection, "siglip": library.SiglipTextModel}
        self.tokenizer = load_tokenizer(checkpoint, root)
        self.model = loading.model(text_halves.get(self.kind, library.AutoModel), checkpoint, root)
        self.max_tokens = max_tokens(checkpoint, root)

    def count_tokens(self, text: str) -> int:
        """Tokens of `text`, begin and end included."""
        return count_tokens(self.tokenizer, text)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [N, D], rows of length 1. A text of more tokens than the model has positions is Refused, not cut."""
        pad = {"padding": "max_length", "max_length": self.max_tokens} if self.kind == "siglip" else {"padding": True}
        inputs = self.tokenizer(list(texts), **pad, split_special_tokens=True, return_tensors="pt")
        if inputs["input_ids"].shape[1] > self.max_tokens:
            longest = inputs["input_ids"].shape[1]
            raise Refused(f"its summary has {longest} tokens, and the embedder reads at most {self.max_tokens}")
        with loading.accelerator, torch.inference_mode():
            inputs = inputs.to(self.model.device)
            output = self.model(**inputs)
            match self.kind:
                case "clip":
                    vectors = output.text_embeds
                case "siglip":
                    vectors = output.pooler_output
                case _:
                    own = inputs["attention_mask"].unsqueeze(-1).to(output.last_hidden_state.dtype)
                    vectors = (output.last_hidden_state * own).sum(1) / own.sum(1)
            return torch.nn.functional.normalize(vectors.float(), dim=-1).cpu().numpy()


def _kind(config: Any) -> str:
    """clip, siglip, or any other type of model, without what says that it is the text half."""
    return config.model_type.removesuffix("_text_model")


def load_embedder(checkpoint: settings.Checkpoint, root: Path = Path()) -> Embedder:
    """The embedder of a profile, loaded once per process."""
    return loading.load(Embedder, checkpoint, root)


@lru_cache
def load_tokenizer(checkpoint: settings.Checkpoint, root: Path = Path()) -> Any:
    """A checkpoint's tokenizer alone, for counting."""
    return loading.pretrained(hf.transformers().AutoTokenizer, checkpoint, root)


@lru_cache
def _config(checkpoint: settings.Checkpoint, root: Path) -> Any:
    return loading.pretrained(hf.transformers().AutoConfig, checkpoint, root)


def max_tokens(checkpoint: settings.Checkpoint, root: Path = Path()) -> int:
    """The most tokens that an embedder reads, begin and end included."""
    config = _config(checkpoint, root)
    positions = getattr(config, "text_config", config).max_position_embeddings
    stated = load_tokenizer(checkpoint, root).model_max_length  # some have positions that no text may use
    return min(positions, stated)


def width(checkpoint: settings.Checkpoint, root: Path = Path()) -> int:
    """Numbers of an embedding."""
    config = _config(checkpoint, root)
    text = getattr(config, "text_config", config)
    if _kind(config) == "clip":
        return text.projection_dim
    return getattr(text, "projection_size", None) or text.hidden_size


def count_tokens(tokenizer: Any, text: str) -> int:
    """Tokens of `text`, begin and end included; a marker that is written in the text counts as the text it is."""
    return len(tokenizer(text, split_special_tokens=True)["input_ids"])
