"""What is whole of a text that a model wrote."""

from __future__ import annotations

import re


def whole_sentences(text: str) -> list[str]:
    """The sentences of `text`, without a last one that lacks its full stop."""
    return [found.group().strip() for found in re.finditer(r".*?[.!?…。！？]+[\"'”’)\]]*(?=\s|$)", text, re.DOTALL)]
