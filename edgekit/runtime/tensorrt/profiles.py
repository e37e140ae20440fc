"""The optimisation profiles of an engine, one per bucket, and which of them holds the shapes of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgekit.core.errors import SignatureError
from edgekit.core.signature import Signature

Shape = tuple[int, ...]
Profile = Mapping[str, tuple[Shape, Shape, Shape]]


def engine_profiles(engine: Any, signature: Signature) -> list[Profile]:
    """The optimisation profiles that an engine really has."""
    profiles: list[Profile] = []
    for index in range(engine.num_optimization_profiles):
        profile = {}
        for spec in signature.inputs:
            low, opt, high = engine.get_tensor_profile_shape(spec.name, index)
            profile[spec.name] = (tuple(low), tuple(opt), tuple(high))
        profiles.append(profile)
    return profiles


def choose_profile(profiles: Sequence[Profile], shapes: Mapping[str, Shape]) -> int:
    """The first optimisation profile that holds the shapes; buckets ascend, so the smallest.

    Raises:
        SignatureError: none does; says what each holds.
    """
    for index, profile in enumerate(profiles):
        bounds = ((shapes[name], low, high) for name, (low, _, high) in profile.items())
        if all(len(s) == len(low) and all(a <= b <= c for a, b, c in zip(low, s, high)) for s, low, high in bounds):
            return index
    held = " or ".join(
        ", ".join(f"{name} {list(low)} to {list(high)}" for name, (low, _, high) in profile.items())
        for profile in profiles
    )
    received = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
    raise SignatureError(f"expected sizes of an optimisation profile, {held}; received {received}")
