from __future__ import annotations

import pytest
import torch

from edgekit.train.layers.chunks import ChunkSettings, chunk_mask


def test_a_frame_sees_its_chunk_and_what_lies_left_of_it() -> None:
    mask = chunk_mask(7, 3, 2)
    expected = [
        "1110000",
        "1110000",
        "1110000",
        "0111110",
        "0111110",
        "0111110",
        "0000111",
    ]
    assert ["".join(str(int(seen)) for seen in row) for row in mask] == expected


def test_the_share_of_batches_in_chunks() -> None:
    torch.manual_seed(0)
    settings = ChunkSettings(share=0.3, smallest=2, largest=5)
    masks = [settings.draw(20, 4, torch.device("cpu")) for _ in range(1000)]
    assert 0.25 < sum(mask is not None for mask in masks) / 1000 < 0.35
    sizes = {int(mask[0].sum()) for mask in masks if mask is not None}
    assert sizes == {2, 3, 4, 5}
    assert ChunkSettings(share=0).draw(5, 4, torch.device("cpu")) is None


@pytest.mark.parametrize("wrong", [{"share": 1.5}, {"smallest": 0}, {"smallest": 9, "largest": 8}])
def test_ranges(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="share must be"):
        ChunkSettings(**wrong)  # type: ignore[arg-type]
