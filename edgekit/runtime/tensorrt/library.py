"""TensorRT's and TensorRT-RTX's Python modules: finding the one that a format needs, and hearing what it logs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from edgekit.core.errors import UnavailableError, UsageError

_MODULES = {"trt": ("tensorrt",), "trt-rtx": ("tensorrt_rtx_bindings", "tensorrt_rtx")}
_VERSIONS = {"trt": ((10, 3), (12, 0)), "trt-rtx": ((1, 7), (2, 0))}
_REMEDIES = {
    "trt": "pip install 'edgekit[trt]'; on a Jetson TensorRT comes with JetPack (sudo apt install python3-libnvinfer), "
    "and a virtual environment sees it with --system-site-packages",
    "trt-rtx": "pip install 'edgekit[trt-rtx]'",
}


def load_module(format: str) -> Any:
    """The Python module of one of the two libraries, with its shared libraries.

    Raises:
        UnavailableError: not installed, without its libraries, or of a version that is not supported.
    """
    if format not in _MODULES:
        raise UsageError(f"expected a format of {', '.join(_MODULES)}, received {format!r}")
    name = next((name for name in _MODULES[format] if find_spec(name) is not None), None)
    if name is None:
        wanted = " or ".join(_MODULES[format])
        raise UnavailableError(f"expected the Python module {wanted}, it is not installed", hint=_REMEDIES[format])
    try:
        module = import_module(name)
    except (ImportError, OSError) as error:
        raise UnavailableError(
            f"the Python module {name} is installed, its libraries are not: {error}", hint=_REMEDIES[format]
        ) from error
    low, high = _VERSIONS[format]
    version = tuple(int(part) for part in str(module.__version__).split(".")[:2])
    if not low <= version < high:
        wanted = f"{low[0]}.{low[1]} or newer, before {high[0]}"
        raise UnavailableError(f"expected {name} {wanted}, found {module.__version__}", hint=_REMEDIES[format])
    return module


@cache
def engine_log(module: Any) -> Any:
    """The one logger of `module` in this process.

    TensorRT keeps the first logger that it is given while anything made with it lives, and ignores any other, so
    whoever wants to hear something listens to this one.
    """

    class Log(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.listeners: list[Callable[[str, str], None]] = []

        def log(self, severity: Any, message: str) -> None:
            if severity != module.ILogger.VERBOSE:
                for listener in tuple(self.listeners):
                    listener(severity.name, message)

    return Log()


@contextmanager
def listening(module: Any) -> Iterator[list[tuple[str, str]]]:
    """Collect what TensorRT logs meanwhile, as `(severity, message)`; severities are "ERROR", "WARNING", ..."""
    messages: list[tuple[str, str]] = []
    listeners = engine_log(module).listeners

    def listener(severity: str, message: str) -> None:
        messages.append((severity, message))

    listeners.append(listener)
    try:
        yield messages
    finally:
        listeners.remove(listener)


def logged_errors(messages: Sequence[tuple[str, str]]) -> str:
    """The errors among logged messages, the cause first, as one text."""
    errors = list(dict.fromkeys(text for severity, text in messages if severity in ("ERROR", "INTERNAL_ERROR")))
    # Without a driver each error is followed by one more about CUDA.
    causes = [text for text in errors if "catchCudaError" not in text] or errors
    return "; ".join(causes[:5]) or "TensorRT logged no error"
