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
    """Texts → unit vectors, with the text half of a CLIP checkpoint."""

    def __init__(self, checkpoint: settings.Checkpoint, root: Path) -> None:
        library = hf.transformers()
        self.tokenizer = loading.pretrained(library.AutoTokenizer, checkpoint, root)
        self.model = loading.model(library.CLIPTextModelWithProjection, checkpoint, root)
        self.max_tokens = self.model.config.max_position_embeddings

    def count_tokens(self, text: str) -> int:
        """Tokens of `text`, begin and end included."""
        return count_tokens(self.tokenizer, text)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [N, D], rows of length 1. A text of more tokens than the model has positions is Refused, not cut."""
        inputs = self.tokenizer(list(texts), padding=True, split_special_tokens=True, return_tensors="pt")
        if inputs["input_ids"].shape[1] > self.max_tokens:
            longest = inputs["input_ids"].shape[1]
            raise Refused(f"its summary has {longest} tokens, and the embedder reads at most {self.max_tokens}")
        with loading.accelerator, torch.inference_mode():
            vectors = self.model(**inputs.to(self.model.device)).text_embeds.float()
            return torch.nn.functional.normalize(vectors, dim=-1).cpu().numpy()


def load_embedder(checkpoint: settings.Checkpoint, root: Path = Path()) -> Embedder:
    """The embedder of a profile, loaded once per process."""
    return loading.load(Embedder, checkpoint, root)


@lru_cache
def load_tokenizer(checkpoint: settings.Checkpoint, root: Path = Path()) -> Any:
    """A checkpoint's tokenizer alone, for counting."""
    return loading.pretrained(hf.transformers().AutoTokenizer, checkpoint, root)


def count_tokens(tokenizer: Any, text: str) -> int:
    """Tokens of `text`, begin and end included; a marker that is written in the text counts as the text it is."""
    return len(tokenizer(text, split_special_tokens=True)["input_ids"])
