"""A speaker's augment weights in the store: `theta.safetensors` and its card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from edgekit.core.errors import StoreError
from edgekit.core.record import Record
from edgekit.core.store import Store
from edgekit.core.theta import INPUT

KIND: Final = "speakers"
FILE = "theta.safetensors"


def install(store: Store, name: str, theta_P: np.ndarray, layout_hash: str, details: Mapping[str, Any]) -> Record:
    """Commit a speaker's weights as a new version, and put it in use.

    Args:
        store: of the core that they were learned on.
        name: see `check_name`.
        theta_P: float32 [P].
        layout_hash: of the layout that says which value is what.
        details: for the card, as JSON holds them.

    Raises:
        StoreError: not finite, or a name that is refused; nothing has changed.
        EdgekitError: the store cannot be written; the version in use is the old one.
    """
    if theta_P.ndim != 1 or theta_P.dtype != np.float32 or not np.isfinite(theta_P).all():
        raise StoreError(f"expected finite weights float32[P], received {theta_P.dtype}{list(theta_P.shape)}")
    content = save({INPUT: np.ascontiguousarray(theta_P)})
    return store.write(KIND, name, {FILE: content}, {**details, "layout_hash": layout_hash})


def read_theta(record: Record, layout_hash: str, size: int) -> np.ndarray:
    """A speaker's weights for a bundle's graphs.

    Args:
        record: what `Store.open("speakers", name)` gives.
        layout_hash: of the bundle's layout.
        size: P.

    Returns:
        float32 [P], finite.

    Raises:
        StoreError: of another layout or size, altered, or not finite.
    """
    name = record.card.name
    again = f"adapt again: edgekit adapt BUNDLE --speaker {name} DATA"
    found = record.card.details.get("layout_hash")
    if found != layout_hash:
        raise StoreError(
            f"expected weights of the layout {layout_hash[:16]}..., those of {name!r} are of {str(found)[:16]}...",
            hint=again,
        )
    try:
        theta_P: np.ndarray = load(record.read(FILE))[INPUT]
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise StoreError(
            f"expected weights in {FILE} of {name!r}, received something else: {error}", hint=again
        ) from error
    if theta_P.shape != (size,) or theta_P.dtype != np.float32:
        received = f"{theta_P.dtype}{list(theta_P.shape)}"
        raise StoreError(f"expected float32[{size}] for {name!r}, received {received}", hint=again)
    if not np.isfinite(theta_P).all():
        raise StoreError(f"expected finite weights for {name!r}, received NaN or infinity among them", hint=again)
    return theta_P
