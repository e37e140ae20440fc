"""JetPack: which release a Jetson Linux (L4T) belongs to, and the Python and TensorRT that come with it."""

from __future__ import annotations

import re
from dataclasses import dataclass

# NVIDIA's release pages: developer.nvidia.com/embedded/jetpack-sdk-{502,51,511,512,514} (35.1 to 35.6),
# developer.nvidia.com/embedded/jetpack/downloads/archive-{7.0,7.1}.md (38.2, 38.4), docs.nvidia.com/jetson/archives;
# the others: github.com/dusty-nv/jetson-containers, jetson_containers/l4t_version.py, and for 36.5 and 39.2
# github.com/Vortiago/Finetuning/issues/8 and wiki.seeedstudio.com/jetpack_7_2_resource_hub
_RELEASES = {
    "32.6.1": "4.6",
    "32.7.1": "4.6.1",
    "32.7.2": "4.6.2",
    "32.7.3": "4.6.3",
    "32.7.4": "4.6.4",
    "32.7.5": "4.6.5",
    "32.7.6": "4.6.6",
    "35.1": "5.0.2",
    "35.2.1": "5.1",
    "35.3.1": "5.1.1",
    "35.4.1": "5.1.2",
    "35.5": "5.1.3",
    "35.6": "5.1.4",
    "35.6.1": "5.1.5",
    "35.6.2": "5.1.5",
    "36.3": "6.0",
    "36.4": "6.1",
    "36.4.3": "6.2",
    "36.4.4": "6.2.1",
    "36.4.7": "6.2.1",
    "36.5": "6.2.2",
    "38.2": "7.0",
    "38.2.1": "7.0",
    "38.4": "7.1",
    "39.2": "7.2",
}

_PYTHONS = {"32": "3.6", "34": "3.8", "35": "3.8", "36": "3.10", "38": "3.12", "39": "3.12"}
"""The system's Python by the major number of L4T, whose root file systems are Ubuntu 18.04, 20.04, 22.04 and 24.04
(get_lsb_release in jetson-containers' l4t_version.py): JetPack's own Python modules, TensorRT's too, are for it."""


@dataclass(frozen=True)
class L4t:
    """A release of Jetson Linux.

    Attributes:
        version: "36.4.7".
        jetpack: the JetPack that it belongs to; None: not known to this edgekit.
        python: the system's Python, for which JetPack's modules are; None: not known.
    """

    version: str
    jetpack: str | None
    python: str | None


def parse_l4t(text: str) -> L4t | None:
    """From the text of /etc/nv_tegra_release: `# R36 (release), REVISION: 4.7, GCID: 42132812, BOARD: generic, ...`."""
    found = re.search(r"R(\d+) \(release\), REVISION: (\d+(?:\.\d+)*)", text)
    if found is None:
        return None
    version = f"{found[1]}.{found[2]}"
    # 35.1.0 and 39.2.0 are written 35.1 and 39.2 elsewhere
    return L4t(version, _RELEASES.get(version.removesuffix(".0")), _PYTHONS.get(found[1]))
