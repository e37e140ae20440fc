"""edgekit: train small speech and vision models, export them, run them at the edge, adapt and measure them there."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgekit.runtime.tasks import load as load

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> object:
    if name == "load":
        from edgekit.runtime.tasks import load

        return load
    raise AttributeError(f"module 'edgekit' has no attribute {name!r}")
