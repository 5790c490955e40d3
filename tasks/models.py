"""The three models behind one small interface: pictures → texts, texts → texts, texts → vectors.

Each is loaded once per process with `from_pretrained` and nothing else, so a small checkpoint in a folder and a large
one from the hub take the same path. One lock guards the accelerator: threads prepare batches side by side, one runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
import torch
from PIL import Image

from tasks import checkpoints, settings
from tasks.errors import Refused, StippleError

ENCODED = 16  # pictures through the vision tower at a time; its activations, not the decoder's cache, fill the memory
_accelerator = RLock()


@dataclass(frozen=True)
class Written:
    """A generated text, and whether the model ended it (or ran into `max_new_tokens`)."""

    text: str
    ended: bool


class Captioner:
    """Pictures → texts, with a vision-language checkpoint (FastVLM)."""

    def __init__(self, checkpoint: settings.Captioner, root: Path) -> None:
        hf = checkpoints.transformers()
        self.side = checkpoint.image_side
        self.processor = _pretrained(hf.AutoProcessor, checkpoint, root)
        self.tokenizer = self.processor.tokenizer
        skipped = ["model.vision_tower", "model.multi_modal_projector", "lm_head"]
        self.model = _model(hf.AutoModelForImageTextToText, checkpoint, root, skipped)
        _decode_greedily(self.model, self.tokenizer, checkpoint)

    def prompt(self, text: str) -> str:
        """The chat that asks `text` about one picture, in the checkpoint's own template."""
        content = [{"type": "image"}, {"type": "text", "text": text}]
        chat = [{"role": "user", "content": content}]
        return self.processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)

    def __call__(self, pictures: Sequence[Image.Image], prompt: str) -> list[Written]:
        """Answer `prompt` about each RGB picture, greedily, all in one batch."""
        fill = tuple(round(255 * mean) for mean in self.processor.image_processor.image_mean or (0, 0, 0))
        inputs = self.processor(
            images=[square(picture, self.side, fill) for picture in pictures],
            text=[self.prompt(prompt)] * len(pictures),
            do_resize=False,
            do_center_crop=False,
            padding=True,
            padding_side="left",
            return_tensors="pt",
        )
        with _accelerator, torch.inference_mode():
            pixels = inputs.pop("pixel_values").to(self.model.device, self.model.dtype)  # [B, 3, side, side]
            encoded = [self.model.get_image_features(few).pooler_output for few in pixels.split(ENCODED)]
            features = torch.cat(encoded)  # [B, image tokens, hidden]
            output = checkpoints.transformers().modeling_outputs.BaseModelOutputWithPooling(pooler_output=features)
            return _generate(self.model, self.tokenizer, inputs, mm_encoder_outputs={"image": output})


class Summarizer:
    """Texts → texts, with a chat checkpoint (Qwen2.5)."""

    def __init__(self, checkpoint: settings.Generator, root: Path) -> None:
        hf = checkpoints.transformers()
        self.tokenizer = _pretrained(hf.AutoTokenizer, checkpoint, root)
        self.model = _model(hf.AutoModelForCausalLM, checkpoint, root, ["lm_head"])
        self.markers = sorted({*self.tokenizer.get_added_vocab(), *self.tokenizer.all_special_tokens}, key=len)
        _decode_greedily(self.model, self.tokenizer, checkpoint)

    def prompt(self, instruction: str, text: str) -> str:
        """The chat that asks `instruction` of `text`. Chat markers inside `text`, a model's words, become spaces."""
        for marker in reversed(self.markers):
            text = text.replace(marker, " ")
        chat = [{"role": "user", "content": f"{instruction}\n\n{text}"}]
        return self.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)

    def __call__(self, texts: Sequence[str], instruction: str) -> list[Written]:
        """Follow `instruction` on each text, greedily, all in one batch."""
        prompts = [self.prompt(instruction, text) for text in texts]
        inputs = self.tokenizer(
            prompts, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt"
        )
        with _accelerator, torch.inference_mode():
            return _generate(self.model, self.tokenizer, inputs)


class Embedder:
    """Texts → unit vectors, with the text half of a CLIP checkpoint."""

    def __init__(self, checkpoint: settings.Checkpoint, root: Path) -> None:
        hf = checkpoints.transformers()
        self.tokenizer = _pretrained(hf.AutoTokenizer, checkpoint, root)
        self.model = _model(hf.CLIPTextModelWithProjection, checkpoint, root)
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
        with _accelerator, torch.inference_mode():
            vectors = self.model(**inputs.to(self.model.device)).text_embeds.float()
            return torch.nn.functional.normalize(vectors, dim=-1).cpu().numpy()


def load_captioner(checkpoint: settings.Captioner, root: Path = Path()) -> Captioner:
    """The captioner of a profile, loaded once per process."""
    return _load(Captioner, checkpoint, root)


def load_summarizer(checkpoint: settings.Generator, root: Path = Path()) -> Summarizer:
    """The summarizer of a profile, loaded once per process."""
    return _load(Summarizer, checkpoint, root)


def load_embedder(checkpoint: settings.Checkpoint, root: Path = Path()) -> Embedder:
    """The embedder of a profile, loaded once per process."""
    return _load(Embedder, checkpoint, root)


@lru_cache
def load_tokenizer(checkpoint: settings.Checkpoint, root: Path = Path()) -> Any:
    """A checkpoint's tokenizer alone, for counting."""
    return _pretrained(checkpoints.transformers().AutoTokenizer, checkpoint, root)


def count_tokens(tokenizer: Any, text: str) -> int:
    """Tokens of `text`, begin and end included; a marker that is written in the text counts as the text it is."""
    return len(tokenizer(text, split_special_tokens=True)["input_ids"])


def square(picture: Image.Image, side: int, fill: tuple[int, ...]) -> Image.Image:
    """`picture` scaled to fit a side × side square, and centred on `fill`: nothing is cropped, nothing is stretched."""
    scale = side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    if size == (side, side):
        return picture
    canvas = Image.new("RGB", (side, side), fill)
    canvas.paste(picture, ((side - size[0]) // 2, (side - size[1]) // 2))
    return canvas


def _load(kind: type, checkpoint: settings.Checkpoint, root: Path) -> Any:
    with _accelerator:
        return _loaded(kind, checkpoint, root, checkpoints.identity(checkpoint, root))


@lru_cache
def _loaded(kind: type, checkpoint: settings.Checkpoint, root: Path, identity: str) -> Any:
    return kind(checkpoint, root)


def _pretrained(kind: Any, checkpoint: settings.Checkpoint, root: Path, **options: Any) -> Any:
    try:
        return kind.from_pretrained(**checkpoints.locate(checkpoint, root).arguments(), **options)
    except StippleError:
        raise
    except Exception as error:  # a checkpoint fails to load in as many ways as it has files
        raise checkpoints.unreachable(checkpoint.model, error) from error


def _model(kind: Any, checkpoint: settings.Checkpoint, root: Path, skipped: Sequence[str] = ()) -> Any:
    """Weights (safetensors only) on the device, in the checkpoint's precision; `skipped` modules stay unquantized."""
    dtype = getattr(torch, checkpoint.dtype)
    options: dict[str, Any] = {}
    if getattr(checkpoint, "quantization", None) == "nf4":
        options["quantization_config"] = checkpoints.transformers().BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=dtype,
            bnb_4bit_use_double_quant=True,
            llm_int8_skip_modules=list(skipped),
        )
        options["device_map"] = {"": checkpoints.device()}
    options |= {"dtype": dtype, "use_safetensors": True, "output_loading_info": True}
    model, info = _pretrained(kind, checkpoint, root, **options)
    if info["missing_keys"]:
        lacking = ", ".join(sorted(info["missing_keys"])[:3])
        raise StippleError(
            f"{checkpoint.model} lacks weights that its architecture needs: {lacking}, …; download it again"
        )
    return model.eval() if "device_map" in options else model.eval().to(checkpoints.device())


def _decode_greedily(model: Any, tokenizer: Any, checkpoint: settings.Generator) -> None:
    """Replace the checkpoint's sampling defaults, so that the same input always gives the same text."""
    stated = model.generation_config.eos_token_id
    ends = set(stated if isinstance(stated, list) else [stated]) | {tokenizer.eos_token_id}
    ends |= {tokenizer.get_vocab().get(marker) for marker in ("<|im_end|>", "<|endoftext|>")}
    ends = sorted(ends - {None})
    if not ends:
        raise StippleError(
            f"{checkpoint.model} names no token that ends a text; set eos_token in its tokenizer_config.json"
        )
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else ends[0]
    model.generation_config = checkpoints.transformers().GenerationConfig(
        do_sample=False, max_new_tokens=checkpoint.max_new_tokens, eos_token_id=ends, pad_token_id=pad
    )


def _generate(model: Any, tokenizer: Any, inputs: Any, **more: Any) -> list[Written]:
    tokens = model.generate(**inputs.to(model.device), **more)[:, inputs["input_ids"].shape[1] :].cpu()
    ended = torch.isin(tokens, torch.tensor(model.generation_config.eos_token_id)).any(dim=1).tolist()
    texts = tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return [Written(" ".join(text.split()), end) for text, end in zip(texts, ended, strict=True)]
