"""One digest for what determines something: a row, a stage's result, a run."""

import hashlib
import json
from typing import Any

_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def digest_of(**what: Any) -> str:
    """sha256 of the canonical JSON of `what`."""
    return hashlib.sha256(_canonical(what).encode()).hexdigest()
