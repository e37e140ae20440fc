"""Back-off held to values computed by hand, to a plain reading of the definition, and to KenLM; and wrong files."""

from __future__ import annotations

import gzip
import math
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.core.errors import DecodingError
from edgekit.runtime.decode.ngram import NgramModel, read_arpa

pytestmark = pytest.mark.device_side

ARPA = """\\data\\
ngram 1=6
ngram 2=5
ngram 3=2

\\1-grams:
-2.0\t<unk>
-99\t<s>\t-0.5
-1.0\t</s>
-0.8\tthe\t-0.4
-1.2\tcat\t-0.3
-1.5\tsat

\\2-grams:
-0.6\t<s> the\t-0.2
-0.7\tthe cat\t-0.1
-0.9\tcat sat\t0.05
-1.1\tsat </s>
-1.3\tcat <unk>\t-0.25

\\3-grams:
-0.3\t<s> the cat
-0.4\tthe cat sat

\\end\\
"""


@pytest.fixture
def model(tmp_path: Path) -> NgramModel:
    return written(tmp_path, ARPA)


def written(folder: Path, text: str | bytes) -> NgramModel:
    path = folder / "lm.arpa"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_arpa(path)


def score(model: NgramModel, text: str) -> list[float]:
    """To base 10, as the file has them."""
    context, found = model.start, []
    for word in text.split():
        log_prob, context = model.score(context, word)
        found.append(log_prob / math.log(10))
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # trigrams and bigrams that are there
        ("the cat sat", [-0.6, -0.3, -0.4]),
        # back-off(cat sat) = 0.05, then sat </s>
        ("the cat sat </s>", [-0.6, -0.3, -0.4, 0.05 - 1.1]),
        # back-off(<s>) cat; back-off(cat) the
        ("cat the", [-0.5 - 1.2, -0.3 - 0.8]),
        # (<s> the), then (the): both back off
        ("the sat", [-0.6, -0.2 - 0.4 - 1.5]),
        # a word that is not there is <unk>, also as context; (cat <unk>) backs off by -0.25, <unk> by nothing
        ("the cat dog the", [-0.6, -0.3, -0.1 - 1.3, -0.25 - 0.8]),
        ("dog dog", [-0.5 - 2.0, -2.0]),
    ],
)
def test_back_off(model: NgramModel, text: str, expected: list[float]) -> None:
    assert score(model, text) == pytest.approx(expected, abs=1e-6)


def test_what_a_model_holds(model: NgramModel) -> None:
    assert model.order == 3
    assert "cat" in model
    assert "dog" not in model
    assert model.has_prefix("ca")
    assert model.has_prefix("cat")
    assert not model.has_prefix("cats")


def test_a_model_without_unknown_or_start(tmp_path: Path) -> None:
    unigrams = "\\data\\\nngram 1=2\n\\1-grams:\n-0.5 a\n-0.7 b\n\\end\\\n"
    assert score(written(tmp_path, unigrams), "a x b") == pytest.approx([-0.5, -0.7, -0.7])
    bigrams = "\\data\\\nngram 1=2\nngram 2=1\n\\1-grams:\n-99 <s> -1\n-0.5 a -0.1\n\\2-grams:\n-0.2 a a\n\\end\\\n"
    # <s> is no word whose probability could be taken
    assert score(written(tmp_path, bigrams), "x a a") == pytest.approx([-0.5, -0.5, -0.2])


def test_a_compressed_file_whatever_its_name(tmp_path: Path, model: NgramModel) -> None:
    assert score(written(tmp_path, gzip.compress(ARPA.encode())), "the cat") == score(model, "the cat")


def test_line_ends_spaces_and_a_preamble(tmp_path: Path, model: NgramModel) -> None:
    other = "made by hand\n\n" + ARPA.replace("\t", "  ").replace("\n", " \r\n")
    assert score(written(tmp_path, other), "the cat sat dog </s>") == score(model, "the cat sat dog </s>")


def test_words_split_at_white_space_of_ascii_alone(tmp_path: Path) -> None:
    text = "\\data\\\nngram 1=2\n\\1-grams:\n-0.5\ta\u00a0b\n-0.7\té\n\\end\\\n"
    assert "a\u00a0b" in written(tmp_path, text)


# ---- against the definition, and against KenLM


def random_arpa(seed: int, order: int) -> tuple[str, list[dict[tuple[str, ...], tuple[float, float]]]]:
    """A model in which every n-gram's first and last words are n-grams, as KenLM wants them; and its tables."""
    draw = random.Random(seed)
    vocabulary = ["<unk>", "<s>", "</s>", *"abcde"]
    tables: list[dict[tuple[str, ...], tuple[float, float]]] = []

    def numbers() -> tuple[float, float]:
        return -round(draw.uniform(0.1, 4), 4), -round(draw.uniform(0.01, 2), 4)

    tables.append({(word,): numbers() for word in vocabulary})
    for _ in range(order - 1):
        lower = tables[-1]
        found = {}
        for gram in lower:
            for word in vocabulary[2:]:
                # nothing follows the end; KenLM takes no n-grams of <unk> for granted
                fits = gram[-1] not in ("</s>", "<unk>") and (*gram[1:], word) in lower
                if fits and draw.random() < 0.6:
                    found[(*gram, word)] = numbers()
        tables.append(found)
    tables = [table for table in tables if table]
    lines = ["\\data\\", *(f"ngram {n}={len(table)}" for n, table in enumerate(tables, start=1))]
    for n, table in enumerate(tables, start=1):
        lines += ["", f"\\{n}-grams:"]
        for gram, (log_prob, backoff) in table.items():
            held = "" if n == len(tables) or gram[-1] == "</s>" else f"\t{backoff}"
            lines.append(f"{log_prob}\t{' '.join(gram)}{held}")
    return "\n".join([*lines, "", "\\end\\", ""]), tables


def by_definition(tables: list[dict[tuple[str, ...], tuple[float, float]]], words: list[str]) -> list[float]:
    def log_prob(history: tuple[str, ...], word: str) -> float:
        gram = (*history, word)
        if len(gram) <= len(tables) and gram in tables[len(gram) - 1]:
            return tables[len(gram) - 1][gram][0]
        known = len(history) <= len(tables) and history in tables[len(history) - 1]
        has_backoff = known and len(history) < len(tables) and history[-1] != "</s>"
        return (tables[len(history) - 1][history][1] if has_backoff else 0.0) + log_prob(history[1:], word)

    known = ["<s>", *(word if (word,) in tables[0] else "<unk>" for word in words)]
    return [log_prob(tuple(known[max(0, at - len(tables) + 1) : at]), known[at]) for at in range(1, len(known))]


sentences = st.lists(st.sampled_from([*"abcdexyz"]), max_size=12)


@settings(deadline=None)
@given(seed=st.integers(0, 50), order=st.integers(1, 5), words=sentences)
def test_the_definition(tmp_path_factory: pytest.TempPathFactory, seed: int, order: int, words: list[str]) -> None:
    text, tables = random_arpa(seed, order)
    found = written(tmp_path_factory.mktemp("lm"), text)
    words = [*words, "</s>"]
    assert score(found, " ".join(words)) == pytest.approx(by_definition(tables, words), abs=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_kenlm(tmp_path: Path, seed: int) -> None:
    kenlm = pytest.importorskip("kenlm", reason="compares with KenLM: pip install kenlm-ex")
    text, _ = random_arpa(seed, 4)
    ours = written(tmp_path, text)
    theirs = kenlm.Model(str(tmp_path / "lm.arpa"))
    draw = random.Random(seed)
    for _ in range(50):
        sentence = " ".join(draw.choices("abcdexyz", k=draw.randrange(1, 12)))
        expected = [log_prob for log_prob, _, _ in theirs.full_scores(sentence)]
        assert score(ours, f"{sentence} </s>") == pytest.approx(expected, abs=1e-5)


# ---- wrong files


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ngram 2=5", "ngram 2=6", r"6 2-grams as .* says, then \\3-grams:; received \\3-grams: after 5 in line 21"),
        ("ngram 2=5", "ngram 2=4", "4 2-grams"),
        ("ngram 2=5", "ngram 2=0", "n-grams of every order"),
        ("ngram 2=5", "ngram 2=" + "9" * 40, "`ngram 1=`"),
        ("ngram 2=5\n", "", r"`ngram 1=`"),
        ("ngram 3=2\n", "", r"received \\3-grams: after 5"),
        ("ngram 3=2", "ngram 3=2\nngram 4=1", r"then \\4-grams:; received \\end\\ after 2"),
        ("\\1-grams:", "\\2-grams:", "`ngram 1=`"),
        ("\\end\\\n", "", r"2 3-grams, then \\end\\; received the end after 2"),
        ("-0.4\tthe cat sat", "-0.4\tthe dog sat", "3 of the file's words.*'-0.4.tthe dog sat' in line 23"),
        ("-0.4\tthe cat sat", "-0.4\tsat the cat", "every 3-gram's first 2 words as an n-gram"),
        ("-0.4\tthe cat sat", "-0.4\t<s> the cat", "each 3-gram once"),
        ("-0.4\tthe cat sat", "-0.4\tthe cat", "line 23"),
        ("-0.4\tthe cat sat", "-0.4\tthe cat sat -1 -2", "line 23"),
        ("-0.4\tthe cat sat", "-0.4", "line 23"),
        ("-1.5\tsat", "-1.5", "line 12"),
        ("-1.2\tcat", "-1.2\tthe", "each once"),
        ("-1.2\tcat", "much\tcat", "line 11"),
        ("-1.2\tcat", "nan\tcat", "finite logarithms.*1-grams"),
        ("-1.2\tcat", "1.2\tcat", "finite logarithms.*1-grams"),
        ("\tcat sat\t0.05", "\tcat sat\tinf", "finite logarithms.*2-grams"),
        ("\\data\\", "data", r"\\data\\ at the beginning|`ngram 1=`"),
        ("\\data\\", "mmap lm http://kheafield.com/code format version 5", "data.*at the beginning"),
        ("-1.2\tcat", "-1.2\tc\0t", "line 11 of .* is binary"),
        ("-1.2\tcat", "-1.2\t" + "c" * 10_000_000, "lines of at most"),
    ],
)
def test_a_file_that_contradicts_itself(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in ARPA
    with pytest.raises(DecodingError, match=message) as caught:
        written(tmp_path, ARPA.replace(old, new))
    assert str(tmp_path / "lm.arpa") in caught.value.message
    assert len(caught.value.message) < 400
    assert caught.value.hint is not None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        random.Random(0).randbytes(100_000),
        b"\n" * 5000,
        b"\\data\\",
        gzip.compress(ARPA.encode())[:-20],
        gzip.compress(ARPA.encode())[:40] + b"x" * 200,
        ARPA.replace("cat", "c\udce4t").encode(errors="surrogateescape"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DecodingError, match="expected a language model in ARPA format"):
        written(tmp_path, content)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(DecodingError, match="no such file"):
        read_arpa(tmp_path / "none.arpa")
