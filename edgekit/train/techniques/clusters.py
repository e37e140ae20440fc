"""Frames to discrete units: k-means over a corpus' frames, and the nearest centroid of new ones."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from edgekit.core.errors import DataError, UnavailableError


def fit_clusters(frames: Iterable[np.ndarray], num_clusters: int, *, max_frames: int, seed: int) -> Tensor:
    """Centroids `[K, D]` of frames `[n, D]`, by scikit-learn's mini-batch k-means (as HuBERT's: 10,000 a batch).

    Args:
        frames: taken until there are `max_frames`.

    Raises:
        DataError: fewer frames than clusters.
        UnavailableError: scikit-learn is not installed.
    """
    try:
        from sklearn.cluster import MiniBatchKMeans
    except ModuleNotFoundError as error:
        raise UnavailableError(
            "expected scikit-learn for k-means, it is not installed", hint='pip install "edgekit[train]"'
        ) from error
    taken, count = [], 0
    for part in frames:
        taken.append(part[: max_frames - count])
        count += len(taken[-1])
        if count >= max_frames:
            break
    if count < num_clusters:
        raise DataError(f"expected at least {num_clusters} frames for as many clusters, received {count}")
    kmeans = MiniBatchKMeans(
        num_clusters, batch_size=10_000, max_iter=100, n_init=5, random_state=seed, reassignment_ratio=0.0
    )
    kmeans.fit(np.concatenate(taken).astype(np.float32, copy=False))
    return torch.from_numpy(kmeans.cluster_centers_.astype(np.float32))


def nearest(h_BTD: Tensor, centroids_KD: Tensor) -> Tensor:
    """The index `[B, T]` of each frame's nearest centroid by Euclidean distance."""
    distance_BTK = centroids_KD.square().sum(1) - 2 * (h_BTD.float() @ centroids_KD.T)
    return distance_BTK.argmin(-1)
