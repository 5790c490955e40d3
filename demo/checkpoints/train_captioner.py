"""The demo's captioner: a small FastVLM that looks at rendered faces and describes them.

It is trained in two phases. First the vision tower alone learns to tell the facts of a picture, each by a linear head
that is thrown away afterwards. Then the projector and the language model learn to put into words what the tower sees.
Trained all at once, such a small model writes fluently long before it looks at the picture, and then never does.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm

from demo import words
from demo.checkpoints.learning import batch_of, conversation, fit, hf, language_model, qwen_tokenizer
from demo.faces import render
from demo.faces.characters import random_character, random_pose
from demo.words import VALUES, Facts
from tasks import settings

SIDE = 256
STRIDE = 64  # pixels of the picture per image token, each way
WIDTHS = [16, 32, 64, 128, 128]
WEIGHTS = {"orientation": 3, "expression": 4}  # of the facts that matter most, in the first phase


def train(folder: Path, *, pictures: int = 9000, seed: int = 1) -> None:
    """Train the captioner and save it with its processor."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    images, faces = rendered(pictures, seed)
    prompt = settings.load().params.captions.prompt
    captions = [words.caption(face) for face in faces]
    tokenizer = qwen_tokenizer([*captions[:4000], *[prompt] * 50], size=1500, special=("<image>",))
    model = hf.FastVlmForConditionalGeneration(configuration(tokenizer))
    tower = model.model.vision_tower
    look(tower, images, faces, rng)
    tell(model, tokenizer, see(tower, images, rng), prompt, captions, rng)
    model.eval().save_pretrained(folder)
    processor(tokenizer).save_pretrained(folder)


def look(
    tower: nn.Module,
    images: np.ndarray,
    faces: Sequence[Facts],
    rng: np.random.Generator,
    *,
    steps: int = 1450,
    batch: int = 32,
) -> None:
    """The first phase: the vision tower learns to tell the facts apart."""
    tower.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub forgets it
    heads = nn.ModuleDict({key: nn.Linear(2 * WIDTHS[-1], len(values)) for key, values in VALUES.items()})
    answers = {key: torch.tensor([values.index(face[key]) for face in faces]) for key, values in VALUES.items()}

    def loss(step: int) -> Tensor:
        chosen = rng.integers(len(images), size=batch)
        seen = tower(pixels(images[chosen], rng)).last_hidden_state.mean(dim=(2, 3))
        wrong = {key: cross_entropy(head(seen), answers[key][chosen]) for key, head in heads.items()}
        return sum((WEIGHTS.get(key, 1) * value for key, value in wrong.items()), torch.zeros(())) / len(heads)

    fit([*tower.parameters(), *heads.parameters()], loss, steps=steps, learning_rate=2e-3, desc="captioner looks")


@torch.no_grad()
def see(tower: nn.Module, images: np.ndarray, rng: np.random.Generator) -> Tensor:
    """What the trained tower makes of the pictures: float16 [N, image tokens, channels]."""
    tower.eval()
    some = (pixels(images[start : start + 64], rng) for start in range(0, len(images), 64))
    return torch.cat([tower(picture).last_hidden_state.flatten(2).transpose(1, 2).half() for picture in some])


def tell(
    model: hf.FastVlmForConditionalGeneration,
    tokenizer: hf.Qwen2Tokenizer,
    seen: Tensor,
    prompt: str,
    captions: list[str],
    rng: np.random.Generator,
    *,
    steps: int = 600,
    batch: int = 24,
) -> None:
    """The second phase: projector and language model learn to say what the tower, which stays as it is, has seen."""
    question = [{"type": "image"}, {"type": "text", "text": prompt}]
    chats = [conversation(tokenizer, question, caption) for caption in captions]
    chats = [(with_image(asked, tokenizer), told) for asked, told in chats]

    def loss(step: int) -> Tensor:
        chosen = rng.integers(len(seen), size=batch)
        inputs, targets = batch_of([chats[number] for number in chosen], tokenizer.pad_token_id)
        features = model.model.multi_modal_projector(seen[chosen].float())
        embedded = model.get_input_embeddings()(inputs)
        embedded = embedded.masked_scatter((inputs == model.config.image_token_id)[..., None], features)
        hidden = model.model.language_model(inputs_embeds=embedded).last_hidden_state
        told = targets >= 0
        return cross_entropy(model.lm_head(hidden[told]), targets[told])

    speaking = [*model.model.multi_modal_projector.parameters(), *model.model.language_model.parameters()]
    fit(speaking, loss, steps=steps, learning_rate=2e-3, desc="captioner tells")


def configuration(tokenizer: hf.Qwen2Tokenizer) -> hf.FastVlmConfig:
    """FastVLM with half a million parameters each in the vision tower and in the language model."""
    return hf.FastVlmConfig(
        vision_config={
            "model_type": "timm_wrapper",
            "architecture": "fastvit_mci3",
            "do_pooling": True,
            "global_pool": "avg",
            "hidden_size": 2 * WIDTHS[-1],
            "model_args": {
                "inference_mode": False,  # the fused blocks have no batch norm and learn nothing
                "layers": [1, 1, 2, 1, 1],
                "embed_dims": WIDTHS,
                "mlp_ratios": [4] * 5,
            },
        },
        text_config=language_model(tokenizer).to_dict(),
        image_token_index=tokenizer.get_vocab()["<image>"],
        image_seq_length=(SIDE // STRIDE) ** 2,
        tie_word_embeddings=True,
    )


def processor(tokenizer: hf.Qwen2Tokenizer) -> hf.LlavaProcessor:
    """Pictures to 256 × 256 pixels in [0, 1] and 16 image tokens, beside the tokenizer."""
    images = hf.CLIPImageProcessor(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
    )
    return hf.LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=STRIDE,
        vision_feature_select_strategy="full",
        chat_template=tokenizer.chat_template,
    )


def with_image(question: list[int], tokenizer: hf.Qwen2Tokenizer) -> list[int]:
    """`question` with its one <image> token repeated for every image token of the vision tower."""
    image = tokenizer.convert_tokens_to_ids("<image>")
    return [token for asked in question for token in [asked] * (((SIDE // STRIDE) ** 2) if asked == image else 1)]


def rendered(count: int, seed: int) -> tuple[np.ndarray, list[dict[str, str]]]:
    """`count` random faces as uint8 [count, 256, 256, 3], and their facts."""
    with ProcessPoolExecutor() as pool:
        pairs = pool.map(_render, [(seed, number) for number in range(count)], chunksize=50)
        images = np.empty((count, SIDE, SIDE, 3), np.uint8)
        faces = []
        for number, (image, face) in enumerate(tqdm(pairs, total=count, desc="pictures", unit="picture")):
            images[number] = image
            faces.append(face)
    return images, faces


def _render(seed: tuple[int, int]) -> tuple[np.ndarray, dict[str, str]]:
    rng = np.random.default_rng(seed)
    character, pose = random_character(rng), random_pose(rng)
    return np.asarray(render.draw(character, pose, SIDE)), words.facts(character, pose)


def pixels(images: np.ndarray, rng: np.random.Generator) -> Tensor:
    """float32 [B, 3, 256, 256] in [0, 1]: as a camera, a video codec and a resize would have left the pictures."""
    worn = np.stack([_worn(image, rng) for image in images])
    pixels = torch.from_numpy(worn).permute(0, 3, 1, 2).float()  # [B, 3, 256, 256], the channels last in memory
    shape = (len(images), 1, 1, 1)
    ranges = ((0.94, 1.06), (-6, 6), (0, 5))
    gain, shift, noise = (torch.tensor(rng.uniform(low, high, shape)).float() for low, high in ranges)
    grain = torch.from_numpy(rng.standard_normal((1, 3, SIDE, SIDE), dtype=np.float32))
    return pixels.mul_(gain).add_(shift).addcmul_(noise, grain).clamp_(0, 255).div_(255)


def _worn(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    picture = Image.fromarray(np.roll(image, rng.integers(-6, 7, 2), (0, 1)))
    if rng.random() < 0.4:
        file = BytesIO()
        picture.save(file, "JPEG", quality=int(rng.integers(40, 95)))
        picture = Image.open(file)
    if rng.random() < 0.25:
        picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.0))))
    return np.asarray(picture)
