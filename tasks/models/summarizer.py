"""Texts → shorter texts."""

from collections.abc import Sequence
from pathlib import Path

import torch

from tasks import settings
from tasks.models import decoding, hf, loading


class Summarizer:
    """Texts → texts, with a chat checkpoint (Qwen2.5)."""

    def __init__(self, checkpoint: settings.GeneratorCheckpoint, root: Path) -> None:
        library = hf.transformers()
        self.tokenizer = loading.pretrained(library.AutoTokenizer, checkpoint, root)
        self.model = loading.model(library.AutoModelForCausalLM, checkpoint, root, ["lm_head"])
        self.markers = sorted({*self.tokenizer.get_added_vocab(), *self.tokenizer.all_special_tokens}, key=len)
        decoding.decode_greedily(self.model, self.tokenizer, checkpoint)

    def prompt(self, instruction: str, text: str) -> str:
        """The chat that asks `instruction` of `text`. Chat markers inside `text`, a model's words, become spaces."""
        for marker in reversed(self.markers):
            text = text.replace(marker, " ")
        chat = [{"role": "user", "content": f"{instruction}\n\n{text}"}]
        return self.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)

    def __call__(self, texts: Sequence[str], instruction: str) -> list[decoding.Written]:
        """Follow `instruction` on each text, greedily, all in one batch."""
        prompts = [self.prompt(instruction, text) for text in texts]
        inputs = self.tokenizer(
            prompts, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt"
        )
        with loading.accelerator, torch.inference_mode():
            return decoding.generate(self.model, self.tokenizer, inputs)


def load_summarizer(checkpoint: settings.GeneratorCheckpoint, root: Path = Path()) -> Summarizer:
    """The summarizer of a profile, loaded once per process."""
    return loading.load(Summarizer, checkpoint, root)
