"""Pictures → texts."""

from collections.abc import Iterable
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tasks import settings
from tasks.models import checkpoints, decoding, endpoint, greedy, hf, loading, own

ENCODED = 16  # pictures through the vision tower at a time; its activations, not the decoder's cache, fill the memory


class Captioner:
    """Pictures → texts, with a vision-language checkpoint (FastVLM)."""

    def __init__(self, checkpoint: settings.CaptionerCheckpoint, root: Path) -> None:
        library = hf.transformers()
        self.side, self.rows = checkpoint.image_side, checkpoint.batch_size
        self.processor = loading.pretrained(library.AutoProcessor, checkpoint, root)
        self.tokenizer = self.processor.tokenizer
        skipped = ["model.vision_tower", "model.multi_modal_projector", "lm_head"]
        self.model = loading.model(
            library.AutoModelForImageTextToText, checkpoint, root, skipped, attention={"text_config": greedy.register()}
        )
        self.language = greedy.supported(getattr(self.model.model, "language_model", None))
        decoding.decode_greedily(self.model, self.tokenizer, checkpoint)
        if self.model.device.type == "cuda":
            self.model.model.vision_tower.to(memory_format=torch.channels_last)

    def prompt(self, text: str) -> str:
        """The chat that asks `text` about one picture, in the checkpoint's own template."""
        content = [{"type": "image"}, {"type": "text", "text": text}]
        chat = [{"role": "user", "content": content}]
        return self.processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)

    def prepare(self, picture: Image.Image) -> np.ndarray:
        """An RGB picture as the vision tower wants it, but for its scale: uint8 [side, side, 3]. From any thread."""
        fill = tuple(map(round, self.scale[0]))
        return np.asarray(square(picture, self.side, fill))

    def __call__(
        self, pictures: Iterable[np.ndarray], number: int, prompt: str, *, again: bool = False
    ) -> list[decoding.Written]:
        """Answer `prompt` about each of `number` prepared pictures, greedily; `again`: it repeats itself less."""
        ids = self.tokens(prompt)
        coming = iter(list(pictures) if self.model.device.type == "cpu" else pictures)  # threads would be in its way
        with loading.accelerator, torch.inference_mode():
            if again or self.language is None:
                features = self.features(coming)
                output = hf.transformers().modeling_outputs.BaseModelOutputWithPooling(pooler_output=features)
                inputs = {
                    "input_ids": ids.expand(number, -1),
                    "attention_mask": torch.ones_like(ids).expand(number, -1),
                }
                return decoding.generate(
                    self.model,
                    self.tokenizer,
                    inputs,
                    mm_encoder_outputs={"image": output},
                    **(decoding.AGAIN if again else {}),
                )
            text = self.model.get_input_embeddings()(ids.to(self.model.device))
            places = (ids == self.model.config.image_token_id).to(self.model.device)

            def inputs_of(rows: list[int]) -> tuple[Tensor, Tensor]:
                features = self.features(islice(coming, len(rows)))
                embedded = text.repeat(len(rows), 1, 1)
                embedded[places.expand(len(rows), -1)] = features.flatten(0, 1).to(embedded.dtype)
                return embedded, torch.ones(embedded.shape[:2], dtype=torch.long, device=embedded.device)

            return decoding.write(
                self.model, self.language, self.tokenizer, number, inputs_of,
                at_once=self.rows, longest=ids.shape[1],
            )  # fmt: skip

    def features(self, pictures: Iterable[np.ndarray]) -> Tensor:
        """What the vision tower sees in prepared pictures: [B, image tokens, hidden]."""
        device = self.model.device
        mean, std = (torch.tensor(value, device=device)[:, None, None] for value in self.scale)
        layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format
        coming, found = iter(pictures), []
        while few := list(islice(coming, ENCODED)):
            raw = torch.from_numpy(np.stack(few)).to(device).permute(0, 3, 1, 2)  # [B, 3, side, side]
            pixels = ((raw - mean) / std).to(self.model.dtype).contiguous(memory_format=layout)
            found.append(self.model.get_image_features(pixels).pooler_output)
        return torch.cat(found)

    @cached_property
    def scale(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel, of 0 to 255."""
        own = self.processor.image_processor
        mean, std = (own.image_mean, own.image_std) if own.do_normalize else ([0.0] * 3, [1.0] * 3)
        return [value / own.rescale_factor for value in mean], [value / own.rescale_factor for value in std]

    def tokens(self, prompt: str) -> Tensor:
        """The prompt with a picture's tokens in it: [1, T]."""
        blank = Image.new("RGB", (self.side, self.side))
        return self.processor(
            images=[blank], text=[self.prompt(prompt)], do_resize=False, do_center_crop=False, return_tensors="pt"
        )["input_ids"]


AnyCaptioner = Captioner | endpoint.Captioner | own.Captioner


def load_captioner(given: settings.AnyCaptioner, root: Path = Path()) -> AnyCaptioner:
    """The captioner of a profile, loaded once per process."""
    if isinstance(given, settings.CaptionerEndpoint):
        return endpoint.Captioner(given)
    if isinstance(given, settings.OwnCaptioner):
        return own.Captioner(given, root)
    return loading.load(Captioner, given, root)


def identity(given: settings.AnyCaptioner, root: Path) -> str:
    """What a row key needs to know of a captioner."""
    if isinstance(given, settings.CaptionerEndpoint):
        return endpoint.server(given).identity
    if isinstance(given, settings.OwnCaptioner):
        return f"{given.own} {given.version}"
    return checkpoints.identity(given, root)


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
