"""Small bundles of every family and variant, exported once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edgekit.core.bundle import Bundle, open_bundle
from edgekit.core.settings import apply_settings
from edgekit.train.family import families


def _cases() -> list[tuple[str, str, str]]:
    """Family, variant and head: every variant with the default head and the first variant with all, where made small
    they still differ."""
    cases, seen = [], set()
    for family in families().values():
        first_variant, first_head = next(iter(family.variants)), next(iter(family.heads))
        for variant, config in family.variants.items():
            for head in family.heads:
                small = (family.name, head, apply_settings(config, family.small))
                if small not in seen and (head == first_head or variant == first_variant):
                    seen.add(small)
                    cases.append((family.name, variant, head))
    return cases


CASES = _cases()
ADAPTED = "adapted"
# such a family has a second graph where it is asked for
EXPLAINED = [(family.name, "explain=true") for family in families().values() if "explain" in family.deployable]
PARAMS = [*CASES, *EXPLAINED, (ADAPTED,)]


@pytest.fixture(scope="session", params=PARAMS, ids=["/".join(param) for param in PARAMS])
def small_bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A small random model of one family, variant and head, or one with theta, exported and built for OpenVINO."""
    from edgekit.export.build import Request, build
    from edgekit.export.export import ExportRequest, export

    path: Path = tmp_path_factory.mktemp("bundles") / "bundle"
    if request.param == (ADAPTED,):
        shutil.copytree(request.getfixturevalue("adaptable").path, path)
    elif request.param in EXPLAINED:
        family, setting = request.param
        export(ExportRequest(family, settings=(*families()[family].small, setting)), path)
    else:
        family, variant, head = request.param
        export(ExportRequest(family, variant=variant, head=head, settings=families()[family].small), path)
    build(path, Request("openvino"))
    return open_bundle(path)
