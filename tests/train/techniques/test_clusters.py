from __future__ import annotations

import numpy as np
import pytest
import torch

from edgekit.core.errors import DataError
from edgekit.train.techniques.clusters import fit_clusters, nearest

pytest.importorskip("sklearn", reason="k-means needs edgekit[train]")


def test_finds_separate_clouds_again() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 10, (5, 3))
    frames = [(centres[i % 5] + rng.normal(0, 0.1, (40, 3))).astype(np.float32) for i in range(20)]
    centroids = fit_clusters(iter(frames), 5, max_frames=10_000, seed=0)
    found = sorted(map(tuple, np.round(centroids.numpy(), 0)))
    assert found == sorted(map(tuple, np.round(centres, 0)))


def test_nearest_is_by_distance() -> None:
    torch.manual_seed(0)
    h_BTD, centroids_KD = torch.randn(2, 7, 4), torch.randn(9, 4)
    expected = torch.cdist(h_BTD, centroids_KD[None].expand(2, -1, -1)).argmin(-1)
    assert torch.equal(nearest(h_BTD, centroids_KD), expected)


def test_too_few_frames() -> None:
    with pytest.raises(DataError, match="at least 8 frames"):
        fit_clusters([np.zeros((3, 2), np.float32)], 8, max_frames=100, seed=0)
