"""Makes data/vocabulary.txt: the single words that free text may keep (PS3.15 E.3.5).

    python -m anonymizer.build_vocabulary

The words are those of the code meanings and attribute names that pydicom ships. Of the meanings only
words that are written in lower case somewhere count, which leaves eponyms (names of people) out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pydicom._dicom_dict import DicomDictionary
from pydicom.sr._concepts_dict import concepts

OUTPUT = Path(__file__).parent / "data" / "vocabulary.txt"

# Titles, days and months announce a name or a date.
LEFT_OUT = frozenset(
    re.findall(
        "[a-z]+",
        "dr doctor md mr mrs ms miss prof professor january february march april may june july august "
        "september october november december mon tue wed thu fri sat sun",
    )
)


def build() -> list[str]:
    """The words, lower case, sorted."""
    words = {word for meaning in _meanings() for word in re.findall(r"[^\W\d_]{2,}", meaning)}
    lower = {word for word in words if word.islower()}
    names = " ".join(row[2] for row in DicomDictionary.values())
    lower |= {word.lower() for word in re.findall(r"[A-Za-z]{3,}", names)}
    return sorted(lower - LEFT_OUT)


def _meanings() -> Iterator[str]:
    schemes: dict[str, dict[str, dict[str, tuple[str, list[int]]]]] = concepts  # type: ignore[assignment]
    for by_keyword in schemes.values():
        for by_code in by_keyword.values():
            for meaning, _ in by_code.values():
                yield meaning


if __name__ == "__main__":
    OUTPUT.write_text("\n".join(build()) + "\n", encoding="utf-8")
