"""Sets of pictures as papers on few-shot learning lay them out: classes, apart as base, validation and novel ones.

- json: `base.json`, `val.json`, `novel.json`, each `label_names`, `image_names`, `image_labels` (as CloserLookFewShot
  and S2M2 write them, of any set).
- cub: CUB_200_2011 as it comes (`images.txt`, `image_class_labels.txt`, `classes.txt`). Of the classes in their order
  every second is base; of the others every second is validation, the rest novel (CloserLookFewShot).
- csv: `train.csv`, `val.csv`, `test.csv` beside `images`. Either `filename,label` under a header (miniImageNet, Ravi
  and Larochelle), or a class and the group it belongs to, without one (tieredImageNet, Ren et al.).
- lists: `train.txt`, `val.txt`, `test.txt` with a class a line, in the folder or in `splits`, as
  `splits/bertinetto` of CIFAR-FS; pictures in `data/CLASS` or `images/CLASS`.
- folders: a folder per class, below `train` or `base`, `val`, and `test` or `novel`, or without these.

Pickles, in which some of these sets are handed out too, are not read: opening one runs what is in it.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.core.errors import DataError, UsageError
from edgekit.core.files import explained
from edgekit.runtime.features.picture import SUFFIXES

Pair = tuple[Path, str]

_NAMES = {
    "base": ("base", "train", "training"),
    "validation": ("val", "validation", "valid"),
    "novel": ("novel", "test", "testing"),
}
_PICTURES = ("images", "data", "")
"""Where pictures lie below a set's folder."""


@dataclass(frozen=True)
class ClassPictures:
    """Pictures of some classes.

    Attributes:
        root: the set's folder.
        paths: of the pictures.
        labels: the class of each.
        split: which part they are; None: the layout has no parts, these are all.
        num_missing: files that are listed and not there.
    """

    root: Path
    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    layout: str
    split: str | None
    num_missing: int

    def first(self, per_class: int) -> ClassPictures:
        """At most so many pictures of each class, spread evenly over it."""
        kept = []
        for name in dict.fromkeys(self.labels):
            of_it = [index for index, label in enumerate(self.labels) if label == name]
            num = min(per_class, len(of_it))
            kept += [of_it[index * len(of_it) // num] for index in range(num)]
        paths, labels = tuple(self.paths[index] for index in kept), tuple(self.labels[index] for index in kept)
        return replace(self, paths=paths, labels=labels)


def read_class_pictures(root: Path, split: str = "novel", layout: str | None = None) -> ClassPictures:
    """Read one part of a set.

    Args:
        split: "base", "validation" or "novel".
        layout: one of those above; None: the first that fits.

    Raises:
        DataError: no such folder, another layout, no such part, or no pictures in it.
        UsageError: no such layout or split.
    """
    if split not in _NAMES:
        raise UsageError(f"expected a split among {', '.join(_NAMES)}, received {split!r}")
    if layout is not None and layout not in _READERS:
        raise UsageError(f"expected a layout among {', '.join(_READERS)}, received {layout!r}")
    with explained(root):
        if not root.is_dir():
            raise DataError(f"expected a folder of pictures, there is none at {root}")
        fitting = [name for name, (fits, _) in _READERS.items() if fits(root)]
        if layout is not None and layout not in fitting:
            raise DataError(f"expected the layout {layout} in {root}, received another", hint="leave --layout out")
        layout = layout or fitting[0]
        _, read = _READERS[layout]
        parts = layout != "folders" or any(_part(root, each) for each in _NAMES)
        pairs = [pair for pair in read(root, split) if pair[0].suffix.lower() in SUFFIXES]
        found = [pair for pair in pairs if pair[0].is_file()]
    if not found:
        first = f"; the first that is listed is {pairs[0][0]}" if pairs else ""
        raise DataError(
            f"expected pictures of {split} classes in {root} (layout {layout}), received none{first}",
            hint="a folder per class, or miniImageNet, tieredImageNet, CIFAR-FS or CUB as they are handed out",
        )
    paths, labels = zip(*found)
    return ClassPictures(root, paths, labels, layout, split if parts else None, len(pairs) - len(found))


def _named(root: Path, split: str, ending: str) -> Path | None:
    """The file of a part: `train.csv`, `splits/train.csv`, `splits/bertinetto/train.csv`."""
    below = root / "splits"
    folders = [root, below, *(sorted(path for path in below.iterdir() if path.is_dir()) if below.is_dir() else ())]
    files = (folder / f"{name}{ending}" for folder in folders for name in _NAMES[split])
    return next((file for file in files if file.is_file()), None)


def _required(root: Path, split: str, ending: str) -> Path:
    file = _named(root, split, ending)
    if file is None:
        names = " or ".join(f"{name}{ending}" for name in _NAMES[split])
        raise DataError(f"expected {names} in {root}, there is none")
    return file


def _part(root: Path, split: str) -> Path | None:
    return next((root / name for name in _NAMES[split] if (root / name).is_dir()), None)


def _of_json(root: Path, split: str) -> Iterator[Pair]:
    file = _required(root, split, ".json")
    try:
        listed = json.loads(file.read_text(encoding="utf-8"))
        pairs = list(zip(listed["image_names"], listed["image_labels"], strict=True))
    except (ValueError, LookupError, TypeError) as error:
        message = f"expected image_names and image_labels of one length in {file}: {error}"
        raise DataError(message, hint="see write_CUB_filelist.py of CloserLookFewShot") from error
    for name, label in pairs:
        # absolute, of the machine that wrote it
        parts = Path(str(name)).parts
        tries = [Path(str(name)), *(Path(root, place, *parts[-depth:]) for place in _PICTURES for depth in (2, 1))]
        yield next((path for path in tries if path.is_file()), tries[0]), str(label)


def _of_cub(root: Path, split: str) -> Iterator[Pair]:
    files, labels, names = (
        dict(_numbered(root / f"{name}.txt")) for name in ("images", "image_class_labels", "classes")
    )
    order = {number: place for place, number in enumerate(sorted(names, key=int))}
    kept = {"base": (0, 2), "validation": (1,), "novel": (3,)}[split]
    for number, label in labels.items():
        if label not in order or number not in files:
            raise DataError(f"expected picture {number} and its class {label} in {root}'s tables, there is none")
        if order[label] % 4 in kept:
            yield root / "images" / files[number], names[label]


def _numbered(file: Path) -> Iterator[tuple[str, str]]:
    for line in file.read_text(encoding="utf-8").splitlines():
        number, _, rest = line.strip().partition(" ")
        if number:
            if not (number.isdecimal() and rest):
                raise DataError(f"expected a number and a value on each line of {file}, received {line!r}")
            yield number, rest.strip()


def _of_csv(root: Path, split: str) -> Iterator[Pair]:
    file = _required(root, split, ".csv")
    with file.open(encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.reader(lines) if row]
    if any(len(row) < 2 for row in rows):
        raise DataError(f"expected two columns in {file}, received one")
    if rows and rows[0][0].strip().lower() in ("filename", "file", "image"):
        yield from _of_file_names(root, [(row[0].strip(), row[1].strip()) for row in rows[1:]])
    else:
        for name in dict.fromkeys(row[0].strip() for row in rows):
            yield from _of_class(root, name, ("images", "train", *_PICTURES[1:]))


def _of_file_names(root: Path, rows: Iterable[tuple[str, str]]) -> Iterator[Pair]:
    """miniImageNet's: `images/FILE`, `images/CLASS/FILE`, or ImageNet's own files, of which FILE ends in the place."""
    sorted_files: dict[str, list[Path]] = {}
    for name, label in rows:
        tries = [root / place / name for place in _PICTURES] + [root / "images" / label / name]
        path = next((path for path in tries if path.is_file()), None)
        if path is None:
            if label not in sorted_files:
                folder = root / "images" / label
                found = [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
                sorted_files[label] = sorted(found, key=lambda path: (len(path.name), path.name))
            files, digits = sorted_files[label], Path(name).stem[-5:]
            place = int(digits) if digits.isdecimal() else 0
            path = files[place - 1] if 0 < place <= len(files) else tries[0]
        yield path, label


def _of_lists(root: Path, split: str) -> Iterator[Pair]:
    for line in _required(root, split, ".txt").read_text(encoding="utf-8").splitlines():
        if line.strip():
            yield from _of_class(root, line.strip(), _PICTURES)


def _of_class(root: Path, name: str, places: Iterable[str]) -> Iterator[Pair]:
    folder = next((root / place / name for place in places if (root / place / name).is_dir()), None)
    if folder is None:
        raise DataError(f"expected a folder of the class {name!r} below {root}, there is none")
    yield from ((path, name) for path in sorted(folder.rglob("*")) if path.is_file())


def _of_folders(root: Path, split: str) -> Iterator[Pair]:
    if any(_part(root, each) for each in _NAMES):
        part = _part(root, split)
        if part is None:
            raise DataError(f"expected a folder {' or '.join(_NAMES[split])} in {root}, there is none")
        root = part
    elif (root / "images").is_dir():
        root = root / "images"
    for name in sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        yield from _of_class(root, name, ("",))


_READERS: dict[str, tuple[Callable[[Path], bool], Callable[[Path, str], Iterable[Pair]]]] = {
    "json": (lambda root: any(_named(root, each, ".json") for each in _NAMES), _of_json),
    # before "cub", whose few-shot splits are also handed out as lists of files
    "csv": (lambda root: any(_named(root, each, ".csv") for each in _NAMES), _of_csv),
    "lists": (lambda root: any(_named(root, each, ".txt") for each in _NAMES), _of_lists),
    "cub": (lambda root: all((root / f"{name}.txt").is_file() for name in ("images", "classes")), _of_cub),
    "folders": (lambda root: True, _of_folders),
}
