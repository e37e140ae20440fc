"""The command line, run for real: what stands on which stream, exit codes, and an answer to every wrong turn."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import edgekit
from edgekit.core.bundle import Bundle, open_bundle
from edgekit.core.files import locked
from edgekit.train.family import families

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

pytestmark = pytest.mark.device_side
pytest.importorskip("onnxruntime", reason="needs a backend: pip install onnxruntime")

Speak = Callable[..., np.ndarray]


Cli = Callable[..., Any]


def command(*arguments: object) -> list[str]:
    """For what needs a process of its own."""
    return [sys.executable, "-m", "edgekit", *map(str, arguments)]


@pytest.fixture
def recordings(tmp_path: Path, speak: Speak) -> list[Path]:
    paths = [tmp_path / "a.wav", tmp_path / "b.flac"]
    for path, text in zip(paths, ("AB BAD", "CAB")):
        soundfile.write(path, speak(text), 16000)
    return paths


NOTHING_HEAVY = """if True:
    import sys
    from edgekit.cli import main
    try:
        main()
    except SystemExit as left:
        assert left.code == 0
    heavy = "numpy onnx onnxruntime openvino PIL rich soundfile soxr torch transformers safetensors jiwer matplotlib"
    loaded = [name for name in (*heavy.split(), "ray", "edgekit.runtime", "edgekit.train") if name in sys.modules]
    assert not loaded, loaded
"""
"""Runs the command line, and fails where it has loaded what only work needs."""


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    took_s = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        ran = subprocess.run(
            [sys.executable, "-c", NOTHING_HEAVY, "--help"], capture_output=True, text=True, timeout=60
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # of the processor, so that a busy machine fails nothing
        took_s.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
        assert ran.returncode == 0, ran.stderr
        assert "transcribe" in ran.stdout
    assert min(took_s) < 0.5


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("adapt", "Learn a speaker from recordings"),
        ("benchmark few-shot", "--episodes"),
        ("benchmark libricontinual", "--general"),
        ("data libricontinual", "--exclude-speakers"),
        ("demo personalise", "--mic"),
        ("profile", "--sweep"),
        ("report", "RESULT.json"),
        ("compare", "--fail-if-slower"),
        ("devices", "--targets"),
        ("enroll", "--folder"),
        ("classes forget", "--yes"),
        ("speakers forget", "--yes"),
        ("classify", "--explain"),
    ],
)
def test_help_of_a_command_imports_nothing_heavy(command: str, told: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", NOTHING_HEAVY, *command.split(), "--help"], capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    assert told in ran.stdout


def test_the_device_side_never_reaches_torch() -> None:
    settings = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    contracts = settings["tool"]["importlinter"]["contracts"]
    (contract,) = (c for c in contracts if c["name"] == "the device side never reaches torch or train")
    assert {"edgekit.core", "edgekit.runtime", "edgekit.export.build"} <= set(contract["source_modules"])
    code = """if True:
        import importlib, pkgutil, sys
        forbidden, modules = (argument.split(",") for argument in sys.argv[1:])
        for name in modules:
            module = importlib.import_module(name)
            inner = pkgutil.walk_packages(getattr(module, "__path__", []), f"{name}.")
            for each in [name, *(found.name for found in inner)]:
                importlib.import_module(each)
                reached = [one for one in forbidden if one in sys.modules]
                assert not reached, f"{each} reaches {reached}"
        print(len(sys.modules))
    """
    lists = [",".join(contract[key]) for key in ("forbidden_modules", "source_modules")]
    ran = subprocess.run([sys.executable, "-c", code, *lists], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr


def test_version_and_no_command(cli: Cli) -> None:
    told = cli("--version")
    assert (told.code, told.out, told.err) == (0, f"edgekit {edgekit.__version__}\n", "")
    alone = cli()
    assert alone.code == 2
    assert "Usage: " in alone.out + alone.err


def test_list(cli: Cli) -> None:
    ran = cli("list")
    assert (ran.code, ran.err) == (0, "")
    as_json = cli("list", "--json")
    assert (as_json.code, as_json.err) == (0, "")
    rows = json.loads(as_json.out)
    assert [(row["family"], row["variant"]) for row in rows] == [
        (family.name, variant) for family in families().values() for variant in family.variants
    ]
    for row in rows:
        family = families()[row["family"]]
        assert row["parameters"] == family.variants[row["variant"]].num_parameters()
        assert row["default"] == (row["variant"] == next(iter(family.variants)))
        line = next(line for line in ran.out.splitlines() if line.split()[:2] == [row["family"], row["variant"]])
        assert f"{row['parameters']:,}" in line
        assert (" * " in line) == row["default"]


def test_inspect(cli: Cli, toy_bundle: Path) -> None:
    ran = cli("inspect", toy_bundle)
    assert (ran.code, ran.err) == (0, "")
    assert "toy tiny, speech-recognition" in ran.out
    assert "weights: checkpoint toy" in ran.out
    assert "out  log_probs: float32[batch, (time - 400) // 320 + 1, 6]" in ran.out
    assert "time: 400..16000, 16001..480000" in ran.out
    assert "not executed" in ran.out
    as_json = cli("inspect", toy_bundle, "--json")
    assert (as_json.code, as_json.err) == (0, "")
    assert json.loads(as_json.out) == json.loads((toy_bundle / "manifest.json").read_text())


def test_inspect_says_that_weights_are_random(cli: Cli, toy_with: Callable[..., Bundle]) -> None:
    bundle = toy_with(provenance={"weights": {"source": "random", "seed": 0}})
    assert "weights: random (answers mean nothing)" in cli("inspect", bundle.path).out


def test_doctor(cli: Cli) -> None:
    ran = cli("doctor")
    assert (ran.code, ran.err) == (0, "")
    as_json = cli("doctor", "--json")
    assert (as_json.code, as_json.err) == (0, "")
    found = json.loads(as_json.out)
    assert [probe["name"] for probe in found["backends"]] == ["tensorrt", "onnxruntime", "openvino"]
    assert found["machine"]["num_cpus"] >= 1
    for probe in (*found["backends"], *found["tools"]):
        assert probe["name"] in ran.out
        if not probe["usable"]:
            assert f"{probe['name']}: missing {probe['missing']}\n  mend: {probe['remedy']}\n" in ran.out
    assert found["backends"][1]["usable"]


def test_verify(cli: Cli, toy_bundle: Path) -> None:
    ran = cli("verify", toy_bundle)
    assert (ran.code, ran.err) == (0, "")
    assert "verified" in ran.out
    as_json = cli("verify", toy_bundle, "--json")
    assert (as_json.code, as_json.err) == (0, "")
    (record,) = json.loads(as_json.out)
    manifest = json.loads((toy_bundle / "manifest.json").read_text())
    assert record == {"graph": "infer", **manifest["graphs"]["infer"]["artifacts"][0]}
    assert record["parity"]["batched_cosine"] > 0.999


def test_build(cli: Cli, toy_bundle: Path) -> None:
    pytest.importorskip("openvino", reason="needs OpenVINO: pip install openvino")
    ran = cli("build", toy_bundle, "--openvino", "--format", "onnx", "--precision", "fp16", "--json")
    assert ran.code == 0
    made = json.loads(ran.out)
    assert [(a["format"], a["precision"]) for a in made] == [("onnx", "fp16"), ("openvino", "fp32")]
    assert made == json.loads(cli("inspect", toy_bundle, "--json").out)["graphs"]["infer"]["artifacts"][1:]
    assert "building onnx fp16" in ran.err
    assert "building openvino fp32" in ran.err
    table = cli("build", toy_bundle, "--openvino")
    assert table.code == 0
    assert "openvino" in table.out
    assert "building" not in table.out


def test_transcribe_one(cli: Cli, toy_bundle: Path, recordings: list[Path]) -> None:
    ran = cli("transcribe", toy_bundle, recordings[0])
    assert (ran.code, ran.out) == (0, "AB BAD\n")
    assert "1.30 s of audio in" in ran.err
    assert "onnxruntime fp32 on cpu" in ran.err


def test_transcribe_several(cli: Cli, toy_bundle: Path, recordings: list[Path]) -> None:
    ran = cli("transcribe", toy_bundle, *recordings)
    assert (ran.code, ran.out) == (0, f"{recordings[0]}: AB BAD\n{recordings[1]}: CAB\n")


def test_transcribe_as_json(cli: Cli, toy_bundle: Path, recordings: list[Path]) -> None:
    ran = cli("transcribe", toy_bundle, *recordings, "--json", "--threads", 1)
    assert (ran.code, ran.err) == (0, "")
    found = json.loads(ran.out)
    assert found["session"] == "onnxruntime fp32 on cpu"
    assert [(record["audio"], record["text"]) for record in found["transcripts"]] == [
        (str(recordings[0]), "AB BAD"),
        (str(recordings[1]), "CAB"),
    ]
    first = found["transcripts"][0]
    assert [(w["text"], w["start_s"], w["end_s"]) for w in first["words"]] == [("AB", 0.1, 0.4), ("BAD", 0.7, 1.2)]
    assert first["audio_s"] == 1.3
    assert first["rtf"] == pytest.approx(first["compute_s"] / 1.3)


def test_transcribe_as_json_lines(cli: Cli, toy_bundle: Path, recordings: list[Path]) -> None:
    ran = cli("transcribe", toy_bundle, *recordings, "--jsonl")
    assert (ran.code, ran.err) == (0, "")
    assert [json.loads(line)["text"] for line in ran.out.splitlines()] == ["AB BAD", "CAB"]


def test_transcribe_as_subtitles(cli: Cli, toy_bundle: Path, recordings: list[Path]) -> None:
    ran = cli("transcribe", toy_bundle, recordings[0], "--srt")
    assert (ran.code, ran.out, ran.err) == (0, "1\n00:00:00,100 --> 00:00:01,200\nAB BAD\n", "")


def test_transcribe_on_a_backend(cli: Cli, toy_bundle: Path, recordings: list[Path]) -> None:
    pytest.importorskip("openvino", reason="needs OpenVINO: pip install openvino")
    absent = cli("transcribe", toy_bundle, recordings[0], "--backend", "openvino")
    assert absent.code == 1
    assert f"hint:  edgekit build {toy_bundle} --format openvino --precision fp32" in absent.err
    assert cli("build", toy_bundle, "--openvino").code == 0
    ran = cli("transcribe", toy_bundle, recordings[0], "--backend", "openvino")
    assert (ran.code, ran.out) == (0, "AB BAD\n")
    assert "openvino fp32 on cpu" in ran.err


def test_words_of_random_weights_are_printed_only_when_asked_for(
    cli: Cli, toy_with: Callable[..., Bundle], recordings: list[Path]
) -> None:
    bundle = toy_with(provenance={"weights": {"source": "random", "seed": 0}})
    ran = cli("transcribe", bundle.path, recordings[0])
    assert (ran.code, ran.out) == (1, "")
    assert "random weights" in ran.err
    assert "--allow-random-weights" in ran.err
    assert cli("transcribe", bundle.path, recordings[0], "--allow-random-weights").out == "AB BAD\n"


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (
            "export hubert-studnt",
            "expected a family among classifier, disconformer, hubert, hubert-student, lio",
            "did you mean hubert-student?",
        ),
        ("export hubert --variant bse", "expected a variant of hubert among base, large", "did you mean base?"),
        ("export hubert --head ctcc", "expected a head of hubert among ctc, embedding; received", "did you mean ctc?"),
        ("export hubert --format opnvino", "expected a format among onnx, openvino", "did you mean openvino?"),
        ("export hubert --precision fp61", "expected a precision among fp32, fp16", "did you mean fp16?"),
        ("export hubert --set hiden_size=3", "received 'hiden_size'", "did you mean hidden_size?"),
        ("export hubert --set hidden_size=wide", "hidden_size: expected int, received 'wide'", None),
        ("export hubert --set hidden_size=7", "hidden_size must divide by num_attention_heads", None),
        ("build TOY --openvino --precision int4", "expected a precision among fp32, fp16, bf16", None),
        ("build TOY", "expected what to build besides the fp32 ONNX", "edgekit build TOY --openvino"),
        ("build TOY --format onnx", "expected what to build besides the fp32 ONNX", "edgekit build TOY --openvino"),
        ("build TOY --format tensorrt", "expected a format among onnx, openvino, trt, trt-rtx", None),
        ("transcribe TOY A --backend onnxruntim", "expected a backend among", "did you mean onnxruntime?"),
        ("transcribe TOY A --srt --json", "expected one of --json, --jsonl and --srt, received several", None),
        ("transcribe TOY A A --srt", "expected one recording with --srt, received 2", None),
    ],
)
def test_wrong_usage_is_answered(
    cli: Cli, toy_bundle: Path, recordings: list[Path], arguments: str, message: str, hint: str | None
) -> None:
    given = [{"TOY": str(toy_bundle), "A": str(recordings[0])}.get(word, word) for word in arguments.split()]
    ran = cli(*given)
    assert (ran.code, ran.out) == (2, "")
    error, _, rest = ran.err.partition("hint:  ")
    assert message in error.splitlines()[-1]
    assert error.splitlines()[-1].startswith("error: ")
    assert rest.strip() == (hint or "").replace("TOY", str(toy_bundle))


@pytest.mark.parametrize(
    "arguments", ["nosuch", "transcrib", "verify", "inspect A B", "transcribe TOY A --threads 0", "list --yaml"]
)
def test_what_cannot_be_parsed_is_wrong_usage(
    cli: Cli, toy_bundle: Path, recordings: list[Path], arguments: str
) -> None:
    given = [{"TOY": str(toy_bundle), "A": str(recordings[0])}.get(word, word) for word in arguments.split()]
    ran = cli(*given)
    assert (ran.code, ran.out) == (2, "")
    assert "Error: " in ran.err


def test_a_bundle_for_another_task_is_wrong_usage(
    cli: Cli, toy_with: Callable[..., Bundle], recordings: list[Path]
) -> None:
    bundle = toy_with(task="speech-embedding", output={"kind": "embedding", "frame_s": 0.02})
    ran = cli("transcribe", bundle.path, recordings[0])
    assert (ran.code, ran.out) == (2, "")
    assert f"error: expected a bundle for speech-recognition, {bundle.path} is for speech-embedding" in ran.err


def test_a_checkpoint_of_another_family_names_the_command_for_it(cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="exports modules of torch")
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    config = {"model_type": "hubert", "edgekit": {"family": "hubert-student", "variant": "x", "config": {}}}
    (folder / "config.json").write_text(json.dumps(config))
    ran = cli("export", "hubert", folder, "--out", tmp_path / "bundle")
    assert (ran.code, ran.out) == (1, "")
    assert f"error: expected a checkpoint of hubert, {folder} is one of hubert-student\n" in ran.err
    assert ran.err.endswith(f"hint:  edgekit export hubert-student {folder}\n")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("package", ["torch", "onnx", "onnxscript"])
def test_export_without_its_packages_names_the_command_that_brings_them(tmp_path: Path, package: str) -> None:
    if package != "torch":
        pytest.importorskip("torch", reason="is looked for first")
    code = f"""if True:
        import sys
        sys.modules[{package!r}] = None  # as if it were not installed
        from edgekit.cli import main
        main()
    """
    small = [part for setting in families()["hubert-student"].small for part in ("--set", setting)]
    arguments = ["export", "hubert-student", *small, "--out", tmp_path / "bundle"]
    ran = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert f"error: expected the package {package} to " in ran.stderr
    assert ran.stderr.endswith('hint:  pip install "edgekit[export]"\n')
    assert not (tmp_path / "bundle").exists()


def write_missing(path: Path, wave: np.ndarray) -> None:
    pass


def write_cut(path: Path, wave: np.ndarray) -> None:
    soundfile.write(path, wave, 16000)
    path.write_bytes(path.read_bytes()[:-5000])


def write_empty(path: Path, wave: np.ndarray) -> None:
    path.touch()


def write_no_samples(path: Path, wave: np.ndarray) -> None:
    soundfile.write(path, wave[:0], 16000)


def write_text(path: Path, wave: np.ndarray) -> None:
    path.write_text("no recording at all\n" * 9)


def write_folder(path: Path, wave: np.ndarray) -> None:
    path.mkdir()


def write_nan(path: Path, wave: np.ndarray) -> None:
    soundfile.write(path, np.where(np.arange(len(wave)) == 999, np.nan, wave), 16000, subtype="FLOAT")


def write_short(path: Path, wave: np.ndarray) -> None:
    soundfile.write(path, wave[:160], 16000)


BROKEN = {
    write_missing: "expected a recording that can be read, received",
    write_cut: "it was cut short or is damaged",
    write_empty: "received an empty file",
    write_no_samples: "received none",
    write_text: "expected a recording that can be decoded",
    write_folder: "received a folder",
    write_nan: "expected finite samples, received NaN or infinity",
    write_short: "expected at least 400 samples (0.025 s at 16000 Hz), received 160",
}


@pytest.mark.parametrize("write", BROKEN, ids=[write.__name__.removeprefix("write_") for write in BROKEN])
def test_an_unusable_recording_is_an_error_and_no_obstacle_to_others(
    cli: Cli,
    toy_bundle: Path,
    recordings: list[Path],
    speak: Speak,
    tmp_path: Path,
    write: Callable[[Path, np.ndarray], None],
) -> None:
    broken = tmp_path / "broken.wav"
    write(broken, speak("DAB"))
    alone = cli("transcribe", toy_bundle, broken)
    assert (alone.code, alone.out) == (1, "")
    assert alone.err.startswith("error: ")
    assert BROKEN[write] in alone.err
    assert str(broken) in alone.err
    assert "\nhint:  " in alone.err
    among = cli("transcribe", toy_bundle, recordings[0], broken, recordings[1], "--jsonl")
    assert among.code == 1
    assert [json.loads(line)["text"] for line in among.out.splitlines()] == ["AB BAD", "CAB"]
    assert BROKEN[write] in among.err
    as_json = cli("transcribe", toy_bundle, broken, recordings[1], "--json")
    assert as_json.code == 1
    assert [record["text"] for record in json.loads(as_json.out)["transcripts"]] == ["CAB"]


def test_eight_channels_at_another_rate_are_one_recording(
    cli: Cli, toy_bundle: Path, speak: Speak, tmp_path: Path
) -> None:
    wave = np.repeat(speak("DAB BAD"), 3)
    soundfile.write(tmp_path / "eight.wav", np.tile(wave[:, None], (1, 8)), 48000)
    assert cli("transcribe", toy_bundle, tmp_path / "eight.wav").out == "DAB BAD\n"


def test_a_name_that_is_no_text_is_printed_all_the_same(toy_bundle: Path) -> None:
    name = os.fsencode(toy_bundle.parent) + b"/\xff"
    failed = subprocess.run([*command("transcribe", toy_bundle), name], capture_output=True, timeout=60)
    assert (failed.returncode, failed.stdout) == (1, b"")
    assert b"/\\udcff: No such file or directory" in failed.stderr
    try:
        os.rename(toy_bundle, name)  # noqa: PTH104  (bytes)
    except OSError:
        pytest.skip("this file system takes only text for names")
    ran = subprocess.run([*command("inspect"), name], capture_output=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert b"/\\udcff: toy tiny, speech-recognition" in ran.stdout


def flip(bundle: Bundle) -> None:
    path = bundle.path / bundle.graph().artifacts[0].file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def remove(bundle: Bundle) -> None:
    (bundle.path / bundle.graph().artifacts[0].file).unlink()


def renew(bundle: Bundle) -> None:
    manifest = json.loads((bundle.path / "manifest.json").read_text())
    (bundle.path / "manifest.json").write_text(json.dumps({**manifest, "schema": 2, "unheard": {}}))


def cut(bundle: Bundle) -> None:
    text = (bundle.path / "manifest.json").read_text()
    (bundle.path / "manifest.json").write_text(text[: len(text) // 2])


def empty(bundle: Bundle) -> None:
    (bundle.path / "manifest.json").unlink()


DAMAGED = {
    flip: ("was altered", "edgekit export toy --out"),
    remove: ("is missing", "edgekit export toy --out"),
    renew: ("has schema 2, this edgekit reads up to 1", "pip install --upgrade edgekit"),
    cut: ("manifest.json is not a manifest", "edgekit export FAMILY --out DIR"),
    empty: ("expected a bundle at", "edgekit export hubert-student --out DIR"),
}


@pytest.mark.parametrize("damage", DAMAGED, ids=[damage.__name__ for damage in DAMAGED])
@pytest.mark.parametrize("arguments", ["transcribe TOY A", "verify TOY", "build TOY --precision fp16"])
def test_a_damaged_bundle_is_refused_with_what_mends_it(
    cli: Cli, toy_bundle: Path, recordings: list[Path], damage: Callable[[Bundle], None], arguments: str
) -> None:
    damage(open_bundle(toy_bundle))
    before = {path.name: path.read_bytes() for path in toy_bundle.iterdir() if path.name != ".lock"}
    given = [{"TOY": str(toy_bundle), "A": str(recordings[0])}.get(word, word) for word in arguments.split()]
    ran = cli(*given)
    assert (ran.code, ran.out) == (1, "")
    message, hint = DAMAGED[damage]
    error = next(line for line in ran.err.splitlines() if line.startswith("error: "))
    assert message in error
    assert hint in ran.err.splitlines()[-1]
    assert {path.name: path.read_bytes() for path in toy_bundle.iterdir() if path.name != ".lock"} == before


def test_a_device_that_is_absent_is_an_error(cli: Cli, toy_bundle: Path, recordings: list[Path]) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime was built with CUDA")
    for arguments in (("transcribe", toy_bundle, recordings[0]), ("verify", toy_bundle)):
        ran = cli(*arguments, "--device", "cuda")
        assert (ran.code, ran.out) == (1, "")
        assert "cuda" in ran.err
        assert "hint:  " in ran.err
    fallen = cli("transcribe", toy_bundle, recordings[0], "--device", "cuda", "--allow-fallback")
    assert fallen.out == "AB BAD\n"
    assert "onnxruntime fp32 on cpu" in fallen.err


def test_an_engine_that_cannot_be_built_here_leaves_the_onnx_and_names_the_command(cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="exports modules of torch")
    pytest.importorskip("onnxscript", reason="exports modules of torch")
    try:
        import tensorrt  # noqa: F401
    except ImportError:
        pass
    else:
        pytest.skip("TensorRT is installed")
    path = tmp_path / "bundle"
    small = [part for setting in families()["hubert-student"].small for part in ("--set", setting)]
    ran = cli("export", "hubert-student", *small, "--out", path, "--trt", "--precision", "fp16", "--json")
    assert ran.code == 1
    assert "error: expected the Python module tensorrt" in ran.err
    named = f"on the device, run: edgekit build {path} --format trt --precision fp16\n"
    assert ran.err.endswith(f"The bundle {path} holds what was made; {named}")
    printed = json.loads(ran.out)
    assert printed["path"] == str(path)
    (artifact,) = printed["manifest"]["graphs"]["infer"]["artifacts"]
    assert (artifact["format"], artifact["precision"], artifact["reason"]) == ("onnx", "fp32", None)
    assert [(row["backend"], row["audio_s"]) for row in printed["latency"]] == [
        ("onnxruntime", 1),
        ("onnxruntime", 5),
        ("onnxruntime", 10),
    ]
    for row in printed["latency"]:
        assert 0 < row["p50_ms"] <= row["max_ms"]
        assert row["rtf"] == pytest.approx(row["p50_ms"] / 1000 / row["audio_s"])
        assert row["num_samples"] >= 10
    bundle = open_bundle(path)
    for file in bundle.manifest.files():
        bundle.checked(file)


@pytest.mark.parametrize(
    "arguments", ["list", "list --json", "inspect TOY", "doctor", "transcribe TOY A A", "transcribe TOY A --json"]
)
def test_a_reader_that_has_gone_is_no_failure(toy_bundle: Path, recordings: list[Path], arguments: str) -> None:
    given = [{"TOY": str(toy_bundle), "A": str(recordings[0])}.get(word, word) for word in arguments.split()]
    process = subprocess.Popen(command(*given), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()  # as `| head` does, and before anything was written
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 0, errors
    assert "Traceback" not in errors
    assert "BrokenPipe" not in errors


def test_work_goes_on_where_nobody_reads_its_progress(toy_bundle: Path) -> None:
    process = subprocess.Popen(
        command("build", toy_bundle, "--precision", "fp16"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    assert open_bundle(toy_bundle).graph().find("onnx", "fp16") is not None


def test_what_failed_is_told_by_the_exit_code_also_where_nobody_reads(toy_bundle: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        command("transcribe", toy_bundle, tmp_path / "none.wav"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=60) == 1


def test_an_interrupt_ends_quietly_and_leaves_the_bundle(toy_bundle: Path) -> None:
    before = (toy_bundle / "manifest.json").read_bytes()
    with locked(toy_bundle / ".lock"):  # so that the command waits
        process = subprocess.Popen(
            command("build", toy_bundle, "--precision", "fp16"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # a shell's background job ignores interrupts, and so would its children
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        assert process.stderr is not None
        assert "building" in process.stderr.readline()
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in errors
    assert (toy_bundle / "manifest.json").read_bytes() == before
