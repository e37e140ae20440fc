"""One class as a file of the store: `class.safetensors` and its card."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from edgekit.core.errors import StoreError
from edgekit.core.record import Card, Record
from edgekit.core.store import Store
from edgekit.runtime.classes.csca import CscaSettings
from edgekit.runtime.classes.enrolment import EnrolledClass, Enrolment

KIND: Final = "classes"
FILE = "class.safetensors"
_SCORES = ("own_score", "threshold")
# far above what is fitted; of much larger ones the squares have no float32
_MOST_WEIGHT = 1e6


def install(store: Store, enrolled: EnrolledClass, enrolment: Enrolment, settings: CscaSettings) -> Record:
    """Commit a class as a new version, and put it in use.

    Raises:
        StoreError: a name that is refused; nothing has changed.
        EdgekitError: the store cannot be written; the version in use is the old one.
    """
    fitted = bool((enrolled.weights != 1).any())
    details: dict[str, Any] = {
        "method": "csca" if fitted else "nearest prototype",
        "num_channels": len(enrolled.prototype),
        "num_pictures": enrolled.num_pictures,
        "own_score": enrolled.own_score,
        "threshold": enrolled.threshold,
        "settings": asdict(settings) if fitted else None,
        # of all classes that were enrolled with it
        "leave_one_out": {
            "num_classes": len(enrolment.classes),
            "num_pictures": enrolment.num_left_out,
            "before": enrolment.before,
            "after": enrolment.after,
            "note": "the fitted weights saw the picture that is left out",
        },
    }
    arrays = {"prototype": enrolled.prototype, "weights": enrolled.weights}
    # what is not told is not there
    told = {name: getattr(enrolled, name) for name in _SCORES if getattr(enrolled, name) is not None}
    arrays |= {name: np.array([value], np.float32) for name, value in told.items()}
    content = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    return store.write(KIND, enrolled.name, {FILE: content}, details)


def read_class(card: Card, content: bytes, num_channels: int) -> EnrolledClass:
    """A class as it was installed.

    Args:
        content: of its file.
        num_channels: of the bundle's embeddings.

    Raises:
        StoreError: of another width, or values that no class has.
    """
    name = card.name
    again = f"enrol it again: edgekit enroll BUNDLE --class {name} PICTURES"
    try:
        arrays = load(content)
        prototype, weights = arrays["prototype"], arrays["weights"]
        own_score, threshold = (float(arrays[key][0]) if key in arrays else None for key in _SCORES)
        num_pictures = card.details["num_pictures"]
        if type(num_pictures) is not int or num_pictures < 1:
            raise ValueError(f"{num_pictures!r} pictures")
    except (SafetensorError, LookupError, ValueError, TypeError) as error:
        message = f"expected a class in {FILE} of {name!r}, received something else: {error}"
        raise StoreError(message, hint=again) from error
    for array in (prototype, weights):
        if array.shape != (num_channels,) or array.dtype != np.float32:
            received = f"{array.dtype}{list(array.shape)}"
            raise StoreError(f"expected float32[{num_channels}] for {name!r}, received {received}", hint=again)
    sound = (weights > 0).all() and (weights <= _MOST_WEIGHT).all()
    scores = [score for score in (own_score, threshold) if score is not None]
    if not all(np.isfinite(array).all() for array in (prototype, weights, scores)) or not sound:
        message = f"expected finite values and weights above 0 (to {_MOST_WEIGHT:g}) for {name!r}, received others"
        raise StoreError(message, hint=again)
    return EnrolledClass(name, prototype, weights, num_pictures, own_score, threshold)
