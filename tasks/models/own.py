"""A captioner of one's own: a file of the project's that defines a class `Captioner`.

class Captioner:
    def __call__(self, pictures, prompt):       # RGB pictures of PIL's, as many as the profile's batch_size
        return ["It looks to the left." for _ in pictures]
"""

import importlib.util
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from tasks import settings
from tasks.errors import StippleError
from tasks.models.decoding import Written


class Captioner:
    """Pictures → texts, by the class in a file."""

    def __init__(self, given: settings.OwnCaptioner, root: Path) -> None:
        self.path = root / given.own
        self.captioner = _load(self.path)

    def prepare(self, picture: Image.Image) -> Image.Image:
        return picture

    def __call__(
        self, pictures: Iterable[Image.Image], number: int, prompt: str, *, again: bool = False
    ) -> list[Written]:
        """Answer `prompt` about each of `number` RGB pictures; asked `again`, it answers as it does."""
        texts = self.captioner(list(pictures), prompt)
        if len(texts) != number or not all(isinstance(text, str) for text in texts):
            raise StippleError(f"{self.path}: Captioner must return a text for each of {number} pictures")
        return [Written(" ".join(text.split()), ended=True) for text in texts]


@lru_cache
def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise StippleError(f"{path} is missing; the profile's captioner.own names a Python file of the project's")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        return module.Captioner()
    except Exception as error:  # it is somebody else's code
        raise StippleError(f"{path}: its Captioner cannot be made ({type(error).__name__}: {error})") from error
