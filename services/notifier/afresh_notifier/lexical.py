"""Embeddings made of the letters of a text, for who has no model: they need no network, and know no meanings.

In: a text. Out: a vector of length 1, the same for the same text for ever. Two texts are near each other as far as they
share words, pairs of words and parts of words, whatever the case and the accents; that "pool" and "swimming" belong
together it does not know.

The features are hashed into places of the vector, each with a sign (Weinberger et al., *Feature Hashing for Large Scale
Multitask Learning*, 2009), and into a place of its first quarter thousand and of its first thousand as well: so its
beginning is an embedding too, as with models that were trained for that (*Matryoshka Representation Learning*, 2022).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from zlib import crc32

#: The beginnings of a vector which are embeddings themselves.
BEGINNINGS = (256, 1024)

#: What a word, a pair of words and a part of a word weigh.
WORD, PAIR, PART = 1.0, 0.5, 0.25

#: The lengths of the parts of words; each word stands between two marks, so that its beginning and its end are told apart.
PARTS = (3, 4, 5)

#: Words that are in every text, and tell little, weigh so much of what others do.
FREQUENT_SHARE = 0.1

FREQUENT = frozenset(
    """
    a an and are as at be by for from has have i in is it its me my of on or our that the their this to us was we with you
    your al como con de del el en es la las lo los mi para por que se su un una uno y
    """.split()  # noqa: SIM905 - a list of words is read as one
)

_WORDS = re.compile(r"\w+")


def embed(text: str, dimensions: int) -> list[float]:
    """The embedding of ``text`` in so many ``dimensions``; of a text without words, nothing but zeros."""
    vector = [0.0] * dimensions
    for feature, weight in _features(text):
        data = feature.encode("utf-8", "surrogatepass")
        for number, size in enumerate((*(size for size in BEGINNINGS if size < dimensions), dimensions)):
            hashed = crc32(data, number)
            vector[(hashed >> 1) % size] += weight if hashed & 1 else -weight
    length = math.sqrt(sum(value * value for value in vector))
    return [value / length for value in vector] if length else vector


def _features(text: str) -> Iterator[tuple[str, float]]:
    """The features of a text, with their weights: one that is there often weighs more, but not as often more."""
    words = _WORDS.findall(_plain(text))
    counted: Counter[str] = Counter()
    weights: dict[str, float] = {}
    for place, word in enumerate(words):
        share = FREQUENT_SHARE if word in FREQUENT else 1.0
        found = [(f"w {word}", WORD * share)]
        if place:
            found.append((f"p {words[place - 1]} {word}", PAIR))
        marked = f"<{word}>"
        found += [
            (f"c {marked[at : at + size]}", PART * share) for size in PARTS for at in range(len(marked) - size + 1)
        ]
        for feature, weight in found:
            counted[feature] += 1
            weights[feature] = weight
    for feature, count in counted.items():
        yield feature, weights[feature] * (1 + math.log(count))


def _plain(text: str) -> str:
    """Without accents, and without a difference between large and small letters."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))
