"""A process for each point, so that its memory is its own, and a crash ends nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Literal

from edgekit.core.settings import settings_to_dict
from edgekit.devices.recording import Recorder, Recording
from edgekit.runtime.profile.point import Point

State = Literal["measured", "refused", "failed"]
_THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_LAST_WORDS = 2000
MORE_S = 300.0
"""What a process may take besides ten times what it was asked to, for a model that takes long to load."""


@dataclass(frozen=True)
class Outcome:
    """How a process ended: with a result, with a refusal that it explained, or otherwise.

    Attributes:
        exit_code: what the command line ends with where it is refused: 2 for wrong usage.
        recording: of the machine during the scenario, where there was one.
    """

    state: State
    result: dict[str, Any] | None = None
    reason: str | None = None
    hint: str | None = None
    exit_code: int = 1
    recording: Recording | None = None


def run(
    action: Literal["measure", "start"],
    point: Point,
    report: Callable[[str], None] = lambda step: None,
    recorder: Recorder | None = None,
) -> Outcome:
    """Measure a point, or start its model once, in a fresh process; ended where it takes ten times as long as asked.

    Args:
        recorder: runs in this process, so that it does not hold up the one that is measured, during the scenario.
    """
    limit_s = 10 * (point.duration_s + point.warm_up_limit_s) + MORE_S
    threads = {} if point.threads is None else dict.fromkeys(_THREAD_LIMITS, str(point.threads))
    command = [sys.executable, "-m", "edgekit.runtime.profile.child", action]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env={**os.environ, **threads}
        )
        with ExitStack() as ending:
            ending.callback(_end, process)
            outcome = _outcome(process, json.dumps(settings_to_dict(point)), report, recorder, limit_s, errors)
    return outcome if recorder is None else replace(outcome, recording=recorder.recording)


def _outcome(
    process: subprocess.Popen[bytes],
    given: str,
    report: Callable[[str], None],
    recorder: Recorder | None,
    limit_s: float,
    errors: Any,
) -> Outcome:
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        process.kill()

    timer = threading.Timer(limit_s, expire)
    timer.start()
    last: dict[str, Any] = {}
    with ExitStack() as ending, ExitStack() as recording:
        ending.callback(timer.cancel)
        assert process.stdout is not None
        _tell(process, given)
        for line in process.stdout:
            try:
                last = json.loads(line)
            except ValueError:
                break  # it ended within the line
            if "step" in last:
                report(last["step"])
            elif last.get("recorded") is True:
                if recorder is not None:
                    recording.enter_context(recorder)
                _tell(process, "go on")
            elif last.get("recorded") is False:
                recording.close()
        code = process.wait()
    if "result" in last:
        return Outcome("measured", last["result"])
    if "error" in last:
        return Outcome("refused", None, last["error"], last["hint"], last["exit_code"])
    if expired.is_set():
        return Outcome("failed", None, f"it was ended after {limit_s:.0f} s", "a shorter --duration")
    if code < 0:
        hint = "out of memory, as a rule: a smaller --batch or --length" if code == -signal.SIGKILL else None
        return Outcome("failed", None, f"its process was killed by signal {-code} ({_name(-code)})", hint)
    errors.seek(0)
    words = errors.read()[-_LAST_WORDS:].decode(errors="replace").strip()
    return Outcome("failed", None, f"its process ended with {code}: {words}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        with suppress(BrokenPipeError):
            pipe.close()


def _tell(process: subprocess.Popen[bytes], line: str) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it has ended, which its code tells
        process.stdin.write(line.encode() + b"\n")
        process.stdin.flush()


def _name(number: int) -> str:
    with suppress(ValueError):
        return signal.Signals(number).name
    return "unknown"


def cold_start(point: Point) -> tuple[dict[str, Any] | None, str | None]:
    """The start of the model in fresh processes, whose files the system has in memory; or None, and why.

    Returns:
        `num_processes`, and of each part the median and all `samples`: `interpreter_s` (until a line of ours runs),
        `import_s`, `load_s`, `first_inference_s`, and `total_s`, from making the process to the first answer.
    """
    samples: dict[str, list[float]] = {}
    for _ in range(point.cold_starts):
        made_s = time.perf_counter()
        outcome = run("start", point)
        if outcome.result is None:
            return None, outcome.reason
        found = outcome.result
        # one clock for all processes (perf_counter is the system's monotonic one)
        found["interpreter_s"] = found.pop("begun_s") - made_s
        found["total_s"] = found.pop("answered_s") - made_s
        for name, seconds in found.items():
            samples.setdefault(name, []).append(seconds)
    if not samples:
        return None, "not asked for (--cold-starts)"
    medians = {name: median(values) for name, values in samples.items()}
    return {"num_processes": point.cold_starts, **medians, "samples": samples}, None
