"""The peer: HuBERT Base exported by optimum-onnx at its best settings, in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edgekit.train.tokens import LETTERS
from student.subjects import PEER_BLANK

_PEER = "optimum-onnx[onnxruntime]"
_CPU_WHEELS = "https://download.pytorch.org/whl/cpu"
_PACKAGES = ("optimum", "optimum-onnx", "transformers", "torch", "onnx", "onnxruntime")
_OPTIMISATIONS = ("O1", "O2", "O3")


def make_environment(folder: Path) -> Path:
    """Its Python, with the peer and our version of torch; an environment that is there already is used as it is."""
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not (folder / "complete").exists():
        venv.create(folder, clear=True, with_pip=True)
        torch = f"torch=={version('torch').split('+')[0]}"
        _run([python, "-m", "pip", "install", "--extra-index-url", _CPU_WHEELS, _PEER, torch])
        (folder / "complete").touch()
    return python


def make_checkpoint(folder: Path) -> None:
    """HuBERT Base with a CTC head over the public letters and random weights of seed 0, in `transformers`' format."""
    import torch
    from transformers import HubertConfig, HubertForCTC, Wav2Vec2FeatureExtractor
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(0)
    HubertForCTC(HubertConfig(vocab_size=len(LETTERS), pad_token_id=PEER_BLANK)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    vocab = {label: index for index, label in enumerate(LETTERS)}
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")


def export_peer(
    python: Path,
    checkpoint: Path,
    folder: Path,
    *,
    task: str = "automatic-speech-recognition",
    optimisations: Sequence[str] = _OPTIMISATIONS,
) -> tuple[dict[str, Path], dict[str, Any]]:
    """Export by the peer's own command line.

    Args:
        python: of the peer's environment.
        folder: to be filled.
        task: as the peer calls it.
        optimisations: of the peer's that are tried.

    Returns:
        The ONNX files by the optimisation that made them ("none", and of O1, O2, O3 those that the peer can do for
        this model), and what to record: versions, commands and the peer's words where it cannot.
    """
    cli = python.with_name("optimum-cli")
    export: list[str | Path] = [
        cli,
        "export",
        "onnx",
        "-m",
        checkpoint,
        "--task",
        task,
        folder / "none",
    ]
    _run(export)
    files = {"none": folder / "none" / "model.onnx"}
    refused = {}
    for level in optimisations:
        out = folder / level
        ended = _start([cli, "onnxruntime", "optimize", "--onnx_model", folder / "none", f"-{level}", "-o", out])
        made = sorted(out.glob("*.onnx"))
        if ended.returncode == 0 and made:
            files[level] = made[0]
        else:
            refused[level] = _last_line(ended.stderr)
    facts: dict[str, Any] = {
        "versions": _versions(python),
        "export": f"optimum-cli export onnx -m CHECKPOINT --task {task} OUT",
        "refused": refused,
    }
    if optimisations:
        levels = "|".join(f"-{level}" for level in optimisations)
        facts["optimize"] = f"optimum-cli onnxruntime optimize --onnx_model OUT {levels} -o OPTIMISED"
    return files, facts


def _versions(python: Path) -> dict[str, str]:
    code = (
        "import json, platform, sys; from importlib.metadata import version;"
        "print(json.dumps({'python': platform.python_version()} | {name: version(name) for name in sys.argv[1:]}))"
    )
    found: dict[str, str] = json.loads(_run([python, "-c", code, *_PACKAGES]).stdout)
    return found


def _start(command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    # the checkpoint is a local folder: nothing is to be asked of the hub
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, env=environment, check=False)


def _run(command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    ended = _start(command)
    if ended.returncode:
        raise SystemExit(f"{command[0]} failed with {ended.returncode}: {_last_line(ended.stderr)}")
    return ended


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
