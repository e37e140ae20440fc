"""What a bundle is for: features in, a decoded answer out. A task knows no family; it reads all from the bundle."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import Any

from edgekit.core.bundle import open_bundle
from edgekit.core.errors import BundleError
from edgekit.runtime.backends.base import SessionOptions
from edgekit.runtime.builtin import builtin_bundle


def load(
    bundle: Path | str | None = None,
    *,
    backend: str | None = None,
    device: str | None = None,
    precision: str = "fp32",
    num_threads: int | None = None,
    allow_fallback: bool = False,
    store: Path | str | None = None,
) -> Any:
    """Open a bundle for its task: `edgekit.load("hubert-student-deep-thin-fbank").transcribe("speech.wav")`.

    Args:
        bundle: the folder that `edgekit export` wrote; None: the built-in model.
        backend: "onnxruntime", "openvino" or "tensorrt"; None: the first that is usable here.
        device: "cpu", "cuda", ...; None: the backend's first.
        precision: "fp32", "fp16" or "bf16".
        num_threads: for execution on the CPU; None: the backend's default.
        allow_fallback: run elsewhere where the device is absent, instead of raising.
        store: the folder of speakers and enrolled classes; None: in the platform's data directory.

    Raises:
        BundleError: no bundle, an altered one, or one for a task that this edgekit does not know.
        BackendError: the backend, device or precision asked for is absent.
    """
    opened = open_bundle(builtin_bundle() if bundle is None else bundle)
    names = {module.name for module in pkgutil.iter_modules(__path__)} - {"speech", "pictures"}
    known = {name.replace("_", "-") for name in names}
    if opened.manifest.task not in known:
        raise BundleError(
            f"expected a bundle for {' or '.join(sorted(known))}, {opened.path} is for {opened.manifest.task!r}",
            hint="pip install --upgrade edgekit",
        )
    options = SessionOptions(device=device, precision=precision, num_threads=num_threads, allow_fallback=allow_fallback)
    module = importlib.import_module(f"{__name__}.{opened.manifest.task.replace('-', '_')}")
    return module.open_task(opened, backend, options, store)
