"""Who is examined: synthetic people, the same for the same seed, with names in several character sets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import blake2b
from random import Random
from typing import Final

from pydicom.valuerep import PersonName


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """Who is examined; `character_set` is the Specific Character Set that their name needs."""

    PatientID: str
    PatientName: str
    PatientBirthDate: str = "19700101"
    PatientSex: str = "O"
    IssuerOfPatientID: str = ""
    character_set: str = "ISO_IR 100"


_NAMES: Final = (
    ("ISO_IR 100", "Müller^Jörg"),
    ("ISO_IR 100", "Nuñez^María^José"),
    ("ISO_IR 192", "Łukasiewicz^Zoë"),
    ("ISO_IR 144", "Иванова^Анна"),
    ("\\ISO 2022 IR 87", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    ("ISO_IR 192", "Wang^XiaoDong=王^小东"),
    ("ISO_IR 100", "Smith^John^^Dr."),
    ("ISO_IR 126", "Παπαδόπουλος^Νίκος"),
)


def patient(seed: int, number: int) -> Patient:
    """Return the seed's patient of that number; names come in five character sets."""
    chance = Random(f"patient {seed} {number}")
    character_set, name = chance.choice(_NAMES)
    return Patient(
        PatientID=f"PP{seed:04d}{number:08d}",
        PatientName=name,
        PatientBirthDate=some_date(chance, 1930, 2020),
        PatientSex=chance.choice("FMO"),
        IssuerOfPatientID="PHANTOMS",
        character_set=character_set,
    )


def visitor(seed: int, number: int, issuer: str) -> Patient:
    """Return the same person as a hospital knows them: the issuer's Patient ID, the name that all write.

    Issuers number from the same range, so that one's ID is often another person's at the next.
    """
    known = patient(seed, number)
    offset = int.from_bytes(blake2b(issuer.encode(), digest_size=4).digest(), "big")
    id = f"{(number * 7919 + offset) % 1_000_000:06d}"
    return replace(known, PatientID=id, IssuerOfPatientID=issuer)


def some_date(chance: Random, first_year: int, last_year: int) -> str:
    """Return a date, as DA, in one of the years."""
    year = chance.randint(first_year, last_year)
    return f"{year}{chance.randint(1, 12):02d}{chance.randint(1, 28):02d}"


def encoded_name(who: Patient) -> bytes:
    """Return Patient's Name in the character set that it needs, PS3.5 6.2.1."""
    encodings = [_PYTHON_CODECS[term] for term in who.character_set.split("\\")]
    return bytes(PersonName(who.PatientName).encode(encodings))


_PYTHON_CODECS: Final = {
    "": "iso8859",
    "ISO_IR 100": "latin_1",
    "ISO_IR 126": "iso8859_7",
    "ISO_IR 144": "iso8859_5",
    "ISO_IR 192": "utf8",
    "ISO 2022 IR 87": "iso2022_jp",
}
