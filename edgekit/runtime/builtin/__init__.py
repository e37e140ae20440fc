"""The bundle that ships with edgekit, of trained weights: what is meant where no bundle is named.

`tools/builtin.py` writes it. Its weights have a licence of their own: LICENSE, beside this file.
"""

from __future__ import annotations

from pathlib import Path


def builtin_bundle() -> Path:
    """DisConformer t for English letters, fp32 ONNX. It may lie where nobody can write, and nobody does."""
    return Path(__file__).parent / "disconformer-t"
