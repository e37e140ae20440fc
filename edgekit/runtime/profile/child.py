"""The process in which one point is measured, or started once: JSON in, a line of JSON for each step out."""

from __future__ import annotations

import time

_BEGUN_S = time.perf_counter()  # before anything of ours is imported

import json  # noqa: E402
import os  # noqa: E402
import queue  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
import threading  # noqa: E402
from collections.abc import Callable, Iterator, Mapping  # noqa: E402
from contextlib import contextmanager  # noqa: E402
from typing import Any  # noqa: E402

Say = Callable[[Mapping[str, Any]], None]

_LIBRARIES = {"onnxruntime": "onnxruntime", "openvino": "openvino"}


def main() -> None:
    """`python -m edgekit.runtime.profile.child measure|start`, with a point as one line on standard input.

    It says lines of JSON: {"step": ...} for a person; {"recorded": true} before the scenario, which waits for a line in
    return, and {"recorded": false} after it; at last {"result": ...}, or {"error": ..., "hint": ..., "exit_code": ...}.
    """
    # Ctrl-C reaches the whole group; the parent ends this one
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    heard = _listen()
    given = json.loads(heard.get())
    # libraries print; nothing but lines of ours may stand on this stream
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(line: Mapping[str, Any]) -> None:
        print(json.dumps(line), file=lines, flush=True)

    from edgekit.core.errors import EdgekitError

    action = {"measure": _measure, "start": _start}[sys.argv[1]]
    try:
        say({"result": action(given, say, heard)})
    except EdgekitError as error:
        say({"error": error.message, "hint": error.hint, "exit_code": error.exit_code})
    except MemoryError:
        hint = "a smaller --batch or --length"
        say({"error": "it needs more memory than this process may have", "hint": hint, "exit_code": 1})


def _listen() -> queue.SimpleQueue[bytes]:
    """The lines of the parent. This process ends when that has: what is measured next shall find the machine free."""
    heard: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def listen() -> None:
        # not sys.stdin, whose lock Python would wait for when it ends
        with open(0, "rb", buffering=0, closefd=False) as lines:
            while line := lines.readline():
                heard.put(line)
        os._exit(1)

    threading.Thread(target=listen, daemon=True).start()
    return heard


def _measure(given: Mapping[str, Any], say: Say, heard: queue.SimpleQueue[bytes]) -> dict[str, Any]:
    from edgekit.core.settings import settings_from_dict
    from edgekit.runtime.profile.measure import measure_point
    from edgekit.runtime.profile.point import Point

    @contextmanager
    def recorded() -> Iterator[None]:
        say({"recorded": True})
        heard.get()
        yield
        say({"recorded": False})

    return measure_point(settings_from_dict(Point, given), lambda step: say({"step": step}), recorded)


def _start(given: Mapping[str, Any], say: Say, heard: queue.SimpleQueue[bytes]) -> dict[str, float]:
    """A cold start: how long each part took, from before this process was made."""
    import importlib

    from edgekit.core.settings import settings_from_dict
    from edgekit.runtime.profile.model import open_subject
    from edgekit.runtime.profile.point import Point

    point = settings_from_dict(Point, given)
    if point.task:
        importlib.import_module("edgekit.runtime.tasks")
    if point.backend in _LIBRARIES:
        importlib.import_module(_LIBRARIES[point.backend])
    imported_s = time.perf_counter()
    subject = open_subject(point)
    loaded_s = time.perf_counter()
    subject.call()
    answered_s = time.perf_counter()
    return {
        "begun_s": _BEGUN_S,
        "import_s": imported_s - _BEGUN_S,
        "load_s": loaded_s - imported_s,
        "first_inference_s": answered_s - loaded_s,
        "answered_s": answered_s,
    }


if __name__ == "__main__":
    main()
