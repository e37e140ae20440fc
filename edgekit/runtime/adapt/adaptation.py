"""From recordings of a speaker to a new version of them in the store: read, label, learn, judge, install."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

import edgekit
from edgekit.core.bundle import Bundle, open_bundle
from edgekit.core.errors import AudioError, BundleError, DataError, EdgekitError, StoreError, UsageError
from edgekit.core.files import locked
from edgekit.core.record import Record, check_name
from edgekit.core.settings import settings_to_dict
from edgekit.core.store import Store
from edgekit.runtime.adapt.budget import Budget
from edgekit.runtime.adapt.examples import PSEUDO, AdaptationData, Example, ExampleMaker, Recorded, read_data, split
from edgekit.runtime.adapt.gradient import open_gradient
from edgekit.runtime.adapt.labels import Labels, read_labels
from edgekit.runtime.adapt.learner import Progress
from edgekit.runtime.adapt.loop import Adapted, adapt
from edgekit.runtime.adapt.pseudo_labels import label
from edgekit.runtime.adapt.settings import AdaptSettings
from edgekit.runtime.adapt.speaker import KIND, install
from edgekit.runtime.adapt.state import FILE, State, described, erase_state, load_state, save_state
from edgekit.runtime.decode.decoding import Decoding
from edgekit.runtime.layouts import Skipped
from edgekit.runtime.tasks import load
from edgekit.runtime.tasks.speech_recognition import SpeechRecognition, Transcript, require_trained

Resume = Literal["same", "must", "never"]
"""An unfinished adaptation of the speaker is gone on with where its settings and data are the same, and else begun anew
("same"); or it is an error if there is none such ("must"); or it is dropped ("never")."""

# features that are remembered, as megabytes and as a share of the memory allowed: half an hour of speech
_CACHE_MIB, _CACHE_SHARE = 64.0, 0.1
# of the time, until which recordings are read and labelled
_READING_SHARE = 0.3


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        record: the speaker's new version; None: the core alone does better on what was held back.
    """

    speaker: str
    adapted: Adapted
    data: AdaptationData
    record: Record | None
    details: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain data: the card's details, and what was left out."""
        return {
            "speaker": self.speaker,
            "installed": None if self.record is None else self.record.card.version,
            **self.details,
            "history": list(self.adapted.history),
            "skipped": [{"path": str(each.path), "reason": each.reason} for each in self.data.skipped],
        }


def adapt_speaker(
    bundle: Path | str,
    speaker: str,
    data: Sequence[Path | str],
    *,
    settings: AdaptSettings | None = None,
    store: Path | str | None = None,
    budget_s: float | None = None,
    began: float | None = None,
    max_memory_mib: float | None = None,
    num_threads: int | None = None,
    decoding: Decoding | None = None,
    resume: Resume = "same",
    allow_random_weights: bool = False,
    report: Callable[[Progress], None] = lambda progress: None,
    say: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Learn a speaker from recordings and install what was learned, if it is better than the core alone.

    Args:
        bundle: for speech recognition, with gradients.
        speaker: see `check_name`.
        data: paths for `read_data`.
        settings: None: the defaults.
        store: the store's folder; None: in the platform's data directory.
        budget_s: wall time for all of it; None: as long as it takes.
        began: since when that counts, as `time.monotonic` tells it; None: from now on.
        max_memory_mib: of this process; None: what there is.
        num_threads: for execution on the CPU; None: the backend's default.
        decoding: a beam search for recordings without texts; None: greedy.
        allow_random_weights: learn although the words mean nothing.
        report: called after each step.
        say: called with what a person should know.

    Raises:
        UsageError: a budget, a limit or a starting point that cannot be.
        BundleError: no bundle, none that adapts, or random weights.
        DataError: the data cannot be read, or hold fewer than two utterances of use.
        StoreError: a name that is refused, or, with `resume` "must", nothing to go on with.
        EdgekitError: the memory allowed is too little, or another process is learning this speaker.
    """
    check_name(speaker)
    settings = settings or AdaptSettings()
    if max_memory_mib is not None and not max_memory_mib > 0:
        raise UsageError(f"expected a memory limit above 0, received {max_memory_mib}")
    try:
        budget = Budget(budget_s, began=began)
    except ValueError as error:
        raise UsageError(str(error)) from error
    opened = open_bundle(bundle)
    require_adaptable(opened)
    require_trained(opened, allow_random_weights)
    labels = read_labels(opened)
    read = _read(opened, labels, data, settings, budget, max_memory_mib, num_threads, decoding, report)
    home = Store(opened.manifest.core_hash, store)
    gradient = open_gradient(opened, num_threads=num_threads)
    try:
        file = home.resume_folder(KIND, speaker) / FILE
        of = described(gradient, read, settings, max_memory_mib)
        with locked(file.with_name(".lock"), timeout_s=0, busy=_busy(speaker)):
            begun = _begun(file, of, gradient.size, resume, say)
            adapted = adapt(
                gradient,
                read,
                settings,
                labels,
                budget=budget,
                max_memory_mib=max_memory_mib,
                begun=begun,
                save=lambda state: save_state(file, state, of),
                report=report,
            )
        layout_hash = gradient.layout_hash
    finally:
        gradient.close()
    details = _details(adapted, read, settings, layout_hash)
    record = None
    if adapted.improved:
        record = install(home, speaker, adapted.theta_P, layout_hash, details)
    else:
        erase_state(file)
    return Outcome(speaker, adapted, read, record, details)


def _busy(speaker: str) -> EdgekitError:
    return EdgekitError(f"another process is learning {speaker!r}", hint="wait for it, or choose another --speaker")


def require_adaptable(bundle: Bundle) -> None:
    """Raise `BundleError` for a bundle that is not for recognising speech, or has no gradients."""
    if bundle.manifest.task != "speech-recognition":
        raise BundleError(
            f"expected a bundle for speech-recognition, {bundle.path} is for {bundle.manifest.task}",
            hint="classes of pictures are learned by: edgekit enroll BUNDLE --class NAME PICTURES",
        )
    adaptation = bundle.manifest.adaptation
    if adaptation is None or not adaptation.gradient:
        raise BundleError(
            f"expected a bundle with gradients, {bundle.path} has none: it cannot learn a speaker",
            hint=f"edgekit export {bundle.manifest.family} --adapt; of the families, disconformer adapts",
        )


def _read(
    bundle: Bundle,
    labels: Labels,
    paths: Sequence[Path | str],
    settings: AdaptSettings,
    budget: Budget,
    max_memory_mib: float | None,
    num_threads: int | None,
    decoding: Decoding | None,
    report: Callable[[Progress], None],
) -> AdaptationData:
    """The examples; recordings without texts are labelled by the model, which is closed again."""
    recordings, skipped = read_data(paths)
    cache_mib = _CACHE_MIB if max_memory_mib is None else min(_CACHE_MIB, _CACHE_SHARE * max_memory_mib)
    maker = ExampleMaker(bundle, labels, settings.longest_s, cache_mib)
    # where time does not suffice for all, those that are read are to be any
    random.Random(settings.seed).shuffle(recordings)
    examples, recogniser = list[Example](), None
    if any(recorded.source == PSEUDO for recorded in recordings):
        recogniser = load(bundle.path, num_threads=num_threads)
        assert isinstance(recogniser, SpeechRecognition)
        if decoding is not None:
            recogniser.search(decoding)  # what does not fit is said before the first recording

    def transcribe(wave: np.ndarray, sample_rate: int) -> Transcript:
        assert recogniser is not None
        transcript: Transcript = recogniser.transcribe(
            (wave, sample_rate), decoding=decoding, allow_random_weights=True
        )
        return transcript

    used = list[Recorded]()
    try:
        for index, recorded in enumerate(recordings):
            report(Progress("reading", index, len(recordings)))
            if budget.seconds is not None and budget.elapsed_s > _READING_SHARE * budget.seconds and len(examples) > 1:
                skipped += [Skipped(late.utterance.audio, "no time to read it") for late in recordings[index:]]
                break
            try:
                if recorded.source == PSEUDO:
                    made, left_out = label(recorded, maker, transcribe, settings.confidence)
                    skipped += left_out
                else:
                    made = [maker.make(recorded)]
            except (AudioError, DataError) as error:
                skipped.append(Skipped(recorded.utterance.audio, error.message))
                continue
            examples += made
            used += [recorded] if made else []
    finally:
        if recogniser is not None:
            recogniser.session.close()
            recogniser = None
            gc.collect()
    training, held_back = split(examples, settings, skipped)
    return AdaptationData(
        training,
        held_back,
        sources=tuple(sorted({recorded.source for recorded in used})),
        speakers=tuple(sorted({recorded.utterance.speaker for recorded in used if recorded.utterance.speaker})),
        skipped=tuple(skipped),
    )


def _begun(file: Path, of: dict[str, str], size: int, resume: Resume, say: Callable[[str], None]) -> State | None:
    """The state to go on with."""
    if resume == "never":
        file.unlink(missing_ok=True)
        return None
    try:
        state = load_state(file, of, size)
    except StoreError as error:
        if resume == "must":
            raise
        say(f"an unfinished adaptation is dropped: {error.message}")
        return None
    if state is None and resume == "must":
        raise StoreError("expected an unfinished adaptation to go on with, there is none", hint="drop --resume")
    if state is not None:
        say(f"going on from update {state.step}")
    return state


def _details(adapted: Adapted, data: AdaptationData, settings: AdaptSettings, layout_hash: str) -> dict[str, Any]:
    """What a speaker's card says; no text and no name of a recording is among it."""
    return {
        "layout_hash": layout_hash,
        "labels": list(data.sources),
        "num_utterances": adapted.num_utterances,
        "speech_s": round(adapted.speech_s, 3),
        "held_back": {
            "num_utterances": adapted.num_held_back,
            "speech_s": round(adapted.held_back_s, 3),
            "before": asdict(adapted.before),
            "after": asdict(adapted.after),
        },
        "start": adapted.start,
        "steps": adapted.steps,
        "best_step": adapted.best_step,
        "epochs": adapted.epochs,
        "stopped": adapted.stopped,
        "seconds": round(adapted.seconds, 3),
        "peak_mib": round(adapted.peak_mib, 1),
        "settings": settings_to_dict(settings),
        "edgekit": edgekit.__version__,
    }
