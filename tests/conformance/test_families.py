"""What every family promises, over all variants and heads, its sizes held to real modules."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgekit.core.settings import apply_settings
from edgekit.core.signature import Signature
from edgekit.export.onnx import example_inputs
from edgekit.export.pictures import takes_pictures
from edgekit.runtime.features import open_features
from edgekit.runtime.features.image import open_pixels
from edgekit.train.family import families

VARIANTS = [(family, name) for family in families().values() for name in family.variants]
IDS = [f"{family.name}/{name}" for family, name in VARIANTS]


@pytest.mark.parametrize(("family", "variant"), VARIANTS, ids=IDS)
def test_parameter_count_comes_from_the_torch_free_formula(family, variant) -> None:
    config = family.variants[variant]
    for sizes in (config, apply_settings(config, family.small)):
        with torch.device("meta"):
            module = family.model.build(sizes, None)
            # where parts are only trained, what is deployed is counted
            module = getattr(module, "deploy", lambda: module)()  # noqa: B023
        assert sum(p.numel() for p in module.parameters()) == sizes.num_parameters()


@pytest.mark.parametrize(("family", "variant"), VARIANTS, ids=IDS)
def test_signature_says_what_the_module_takes_and_gives(family, variant) -> None:
    config = apply_settings(family.variants[variant], family.small)
    for head in family.heads:
        loaded = family.model.random_model(config, head, 0)
        for graph, signature in config.graphs(head).items():
            inputs = example_inputs(signature)
            sizes = signature.check_inputs(inputs)
            with torch.no_grad():
                outputs = loaded.graph(graph)(*(torch.from_numpy(inputs[spec.name]) for spec in signature.inputs))
            for spec, output in zip(signature.outputs, outputs):
                assert tuple(output.shape) == signature.output_shape(spec, sizes)
                assert str(output.dtype) == f"torch.{spec.dtype}"
            assert Signature.from_json(signature.to_json()) == signature


@pytest.mark.parametrize(("family", "variant"), VARIANTS, ids=IDS)
def test_features_fit_the_first_input(family, variant) -> None:
    config = family.variants[variant]
    for head in family.heads:
        (signature, *_) = config.graphs(head).values()
        if takes_pictures(config.features()):
            pixels = open_pixels(config.features())(np.zeros((40, 30, 3), np.uint8))
            assert pixels.shape == signature.inputs[0].shape[1:]
            assert pixels.dtype == signature.inputs[0].dtype
            continue
        features = open_features(config.features())
        x = features(torch.zeros(features.min_samples + 1600).numpy())
        assert x.shape[1:] == signature.inputs[0].shape[2:]
        assert x.dtype == signature.inputs[0].dtype
