"""Pictures → texts."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from tasks import settings
from tasks.models import decoding, hf, loading

ENCODED = 16  # pictures through the vision tower at a time; its activations, not the decoder's cache, fill the memory


class Captioner:
    """Pictures → texts, with a vision-language checkpoint (FastVLM)."""

    def __init__(self, checkpoint: settings.CaptionerCheckpoint, root: Path) -> None:
        library = hf.transformers()
        self.side = checkpoint.image_side
        self.processor = loading.pretrained(library.AutoProcessor, checkpoint, root)
        self.tokenizer = self.processor.tokenizer
        skipped = ["model.vision_tower", "model.multi_modal_projector", "lm_head"]
        self.model = loading.model(library.AutoModelForImageTextToText, checkpoint, root, skipped)
        decoding.decode_greedily(self.model, self.tokenizer, checkpoint)

    def prompt(self, text: str) -> str:
        """The chat that asks `text` about one picture, in the checkpoint's own template."""
        content = [{"type": "image"}, {"type": "text", "text": text}]
        chat = [{"role": "user", "content": content}]
        return self.processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)

    def __call__(self, pictures: Sequence[Image.Image], prompt: str) -> list[decoding.Written]:
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
        with loading.accelerator, torch.inference_mode():
            pixels = inputs.pop("pixel_values").to(self.model.device, self.model.dtype)  # [B, 3, side, side]
            encoded = [self.model.get_image_features(few).pooler_output for few in pixels.split(ENCODED)]
            features = torch.cat(encoded)  # [B, image tokens, hidden]
            output = hf.transformers().modeling_outputs.BaseModelOutputWithPooling(pooler_output=features)
            return decoding.generate(self.model, self.tokenizer, inputs, mm_encoder_outputs={"image": output})


def load_captioner(checkpoint: settings.CaptionerCheckpoint, root: Path = Path()) -> Captioner:
    """The captioner of a profile, loaded once per process."""
    return loading.load(Captioner, checkpoint, root)


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
