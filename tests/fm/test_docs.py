"""The snippets of docs/fm.md run, in order, as they stand."""

import re
from pathlib import Path

from fm import metrics

PAGE = Path(__file__).parents[2] / "docs" / "fm.md"


def test_the_pages_snippets_run():
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict = {}
    for snippet in snippets:
        exec(compile(snippet, str(PAGE), "exec"), names)
    assert names["drawn"].x.shape == (2, 256, 2)
    assert float(metrics.sliced_w2(names["drawn"].x, names["true"]).max()) < 1.0
    assert float((names["back"].x - names["noise"]).abs().max()) < 0.05
