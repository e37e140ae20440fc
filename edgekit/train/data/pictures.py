"""Sets of pictures with classes, in the layouts in which they are handed out.

Recognised: a folder per class (ImageFolder, as ImageNet's), with or without "train", "val" and "test" above;
CUB-200-2011; Stanford Cars; FGVC-Aircraft; and JSON lines `{"picture": PATH, "class": NAME}`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgekit.core.errors import DataError, UnavailableError
from edgekit.core.files import explained, write_atomic
from edgekit.runtime.features.picture import SUFFIXES
from edgekit.runtime.layouts import Skipped

Split = Literal["train", "test"]

_SPLITS = {"train": ("train", "training"), "test": ("val", "validation", "valid", "test", "testing")}
_MOST_TOLD = 3


@dataclass(frozen=True)
class Item:
    """One picture.

    Attributes:
        path: of its file.
        label: its class' number.
    """

    path: Path
    label: int


@dataclass(frozen=True)
class PictureSet:
    """Pictures and their classes.

    Attributes:
        classes: names, by number.
        items: the pictures.
        skipped: what was left out, and why.
    """

    classes: tuple[str, ...]
    items: tuple[Item, ...]
    skipped: tuple[Skipped, ...] = ()

    def of_class(self) -> list[list[int]]:
        """Places in `items`, for each class."""
        found: list[list[int]] = [[] for _ in self.classes]
        for place, item in enumerate(self.items):
            found[item.label].append(place)
        return found


def read_pictures(source: str | Path, split: Split | None = None) -> PictureSet:
    """Read a set.

    Args:
        source: its folder, or a file of JSON lines.
        split: the part that its layout names so; None: "train" where folders are named so, else all that it holds.

    Raises:
        DataError: there is no such folder, no such part, or nothing in it; or its lists do not fit each other.
        UnavailableError: scipy is needed (Stanford Cars) and not installed.
    """
    folder = Path(source)
    with explained(folder):
        if folder.is_file():
            found = _of_lines(folder)
        elif not folder.is_dir():
            raise DataError(f"expected a folder of pictures, there is none at {folder}")
        else:
            reader = next((read for fits, read in _LAYOUTS if fits(folder)), _of_folders)
            found = reader(folder, split)
    if not found.items:
        first = f" ({found.skipped[0].path}: {found.skipped[0].reason})" if found.skipped else ""
        raise DataError(
            f"expected pictures in {folder}, received none{first}",
            hint="a folder per class, CUB-200-2011, Stanford Cars, FGVC-Aircraft, or JSON lines of picture and class",
        )
    return found


def has_split(source: str | Path, split: Split) -> bool:
    """Whether a set's layout names such a part."""
    folder = Path(source)
    if not folder.is_dir():
        return False
    return any(fits(folder) for fits, _ in _LAYOUTS) or _part(folder, split) is not None


def write_lines(path: Path, pictures: PictureSet) -> None:
    """Keep a set as JSON lines; the first names its classes, so that none is lost that has no picture.

    Links are kept as they are: what they point to (a cache's blob) may not be named as a picture. ASCII holds any name.
    """
    lines = [json.dumps({"classes": list(pictures.classes)})]
    lines += [
        json.dumps({"picture": str(item.path.absolute()), "class": pictures.classes[item.label]})
        for item in pictures.items
    ]
    write_atomic(path, "\n".join([*lines, ""]).encode())


def _of_lines(path: Path) -> PictureSet:
    classes: tuple[str, ...] | None = None
    found: list[tuple[Path, str]] = []
    # not splitlines(): a name may hold what counts as a line's end there
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").split("\n"), 1):
        if not line.strip():
            continue
        try:
            said = json.loads(line)
            if "classes" in said:
                classes = tuple(map(str, said["classes"]))
                continue
            found.append((path.parent / said["picture"], str(said["class"])))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f'expected {{"picture": PATH, "class": NAME}}, received another in {path}, line {number}: {error}'
            ) from error
    return _set(found, classes)


def _of_folders(folder: Path, split: Split | None) -> PictureSet:
    """A folder per class; classes in the order of their names, as everywhere."""
    if _names_parts(folder):
        part = _part(folder, split or "train")
        if part is None:
            raise DataError(f"expected a folder {' or '.join(_SPLITS[split or 'train'])} in {folder}, there is none")
        folder = part
    elif (folder / "images").is_dir() and not any(_is_picture(path) for path in (folder / "images").iterdir()):
        folder = folder / "images"  # miniature ImageNets have their folders one deeper
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = [(path, name) for name in names for path in sorted((folder / name).rglob("*")) if path.is_file()]
    return _set(found, tuple(names))


def _part(folder: Path, split: Split) -> Path | None:
    if not _names_parts(folder):
        return None
    return next((folder / name for name in _SPLITS[split] if (folder / name).is_dir()), None)


def _names_parts(folder: Path) -> bool:
    """Whether it has a folder named as a part that holds folders; one of pictures is a class (trains)."""
    named = (folder / name for names in _SPLITS.values() for name in names)
    inside = (path for part in named if part.is_dir() for path in part.iterdir())
    return any(path.is_dir() and not path.name.startswith(".") for path in inside)


def _of_cub(folder: Path, split: Split | None) -> PictureSet:
    """images.txt, image_class_labels.txt, classes.txt and train_test_split.txt, each "number value" a line."""
    files, labels, names = (
        dict(_pairs(folder / name)) for name in ("images.txt", "image_class_labels.txt", "classes.txt")
    )
    trains = dict(_pairs(folder / "train_test_split.txt"))
    try:
        kept = [
            (folder / "images" / files[number], names[label])
            for number, label in sorted(labels.items(), key=lambda pair: int(pair[0]))
            if split is None or (trains[number] == "1") == (split == "train")
        ]
        return _set(kept, tuple(names[number] for number in sorted(names, key=int)))
    except (KeyError, ValueError) as error:
        raise DataError(
            f"expected images.txt, image_class_labels.txt, classes.txt and train_test_split.txt in {folder} to fit "
            f"each other, {error} does not"
        ) from error


def _of_cars(folder: Path, split: Split | None) -> PictureSet:
    """cars_train and cars_test, and the tables of `devkit`, which are MATLAB's.

    Labels of the test pictures are in `cars_test_annos_withlabels.mat`.
    """
    kit = folder / "devkit" if (folder / "devkit").is_dir() else folder
    classes = tuple(str(name) for name in _matlab(kit / "cars_meta.mat", "class_names"))
    found = []
    for part in ("train", "test") if split is None else (split,):
        name = "cars_train_annos.mat" if part == "train" else "cars_test_annos_withlabels.mat"
        table = next((place / name for place in (kit, folder) if (place / name).is_file()), kit / name)
        for row in _matlab(table, "annotations"):
            if "class" not in (row.dtype.names or ()):
                raise DataError(f"expected labels in {table}, there are none")
            number = int(row["class"])
            if not 1 <= number <= len(classes):
                raise DataError(f"expected classes 1 to {len(classes)} in {table}, received {number}")
            found.append((folder / f"cars_{part}" / str(row["fname"]), classes[number - 1]))
    return _set(found, classes)


def _of_aircraft(folder: Path, split: Split | None) -> PictureSet:
    """data/images and lists "number variant"; training takes "trainval", as papers do."""
    data = folder / "data" if (folder / "data").is_dir() else folder
    classes = tuple(line.strip() for line in (data / "variants.txt").read_text().splitlines() if line.strip())
    parts = {"train": ("trainval",), "test": ("test",)}
    found = []
    for part in ("trainval", "test") if split is None else parts[split]:
        pairs = _pairs(data / f"images_variant_{part}.txt")
        found += [(data / "images" / f"{number}.jpg", variant) for number, variant in pairs]
    return _set(found, classes)


Reader = Callable[[Path, "Split | None"], PictureSet]
_LAYOUTS: tuple[tuple[Callable[[Path], bool], Reader], ...] = (
    (lambda folder: (folder / "train_test_split.txt").is_file() and (folder / "images.txt").is_file(), _of_cub),
    (lambda folder: (folder / "cars_train").is_dir() or (folder / "cars_test").is_dir(), _of_cars),
    (
        lambda folder: any((part / "images_variant_test.txt").is_file() for part in (folder, folder / "data")),
        _of_aircraft,
    ),
)


def _pairs(path: Path) -> Iterator[tuple[str, str]]:
    """Lines of a number and the rest.

    Raises:
        DataError: a line has no rest.
    """
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            first, _, rest = line.strip().partition(" ")
            if not rest:
                raise DataError(f"expected a number and a value in {path}, line {number}, received {line!r}")
            yield first, rest.strip()


def _matlab(path: Path, name: str) -> Any:
    """A variable of a MATLAB file, as a row."""
    try:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError
    except ModuleNotFoundError as error:
        raise UnavailableError(
            "expected the package scipy to read the tables of Stanford Cars, it is not installed",
            hint="pip install scipy, or give JSON lines of picture and class",
        ) from error
    try:
        return loadmat(path, squeeze_me=True)[name].reshape(-1)
    except (MatReadError, OSError, KeyError, ValueError, NotImplementedError, TypeError) as error:
        raise DataError(f"expected a MATLAB file with {name} at {path}, received another: {error}") from error


def _set(found: Iterable[tuple[Path, str]], classes: Sequence[str] | None) -> PictureSet:
    """Classes numbered; files that are no pictures, or not there, skipped."""
    pairs = list(found)
    names = tuple(sorted({name for _, name in pairs})) if classes is None else tuple(classes)
    number = {name: index for index, name in enumerate(names)}
    if len(number) != len(names):
        raise DataError("expected classes of different names, received one twice")
    for name in names:
        if any("\ud800" <= each <= "\udfff" for each in name):
            raise DataError(f"expected names of classes that UTF-8 can hold, received {name!r}", hint="rename it")
    items, skipped = [], []
    for path, name in pairs:
        if name not in number:
            skipped.append(Skipped(path, f"its class {name!r} is not among those listed"))
        elif not _is_picture(path):
            skipped.append(Skipped(path, "its name does not end as a picture's"))
        elif not path.is_file():
            skipped.append(Skipped(path, "there is no such file"))
        else:
            items.append(Item(path, number[name]))
    return PictureSet(names, tuple(items), tuple(skipped))


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES
