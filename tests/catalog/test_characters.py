"""Specific Character Set: the standard's own examples, what devices make of it, and the way back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.characters import NAME_DELIMITERS, NotInRepertoire, named_repertoire, repertoire

# PS3.5 Annexes H, I, J, K: a name, its declared set, and its bytes.
EXAMPLES = {
    "H.3.1": (
        rb"\ISO 2022 IR 87",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
    ),
    "H.3.2": (
        rb"ISO 2022 IR 13\ISO 2022 IR 87",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
    ),
    "I.2": (
        rb"\ISO 2022 IR 149",
        "Hong^Gildong=洪^吉洞=홍^길동",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
    ),
    "J.1": (
        b"ISO_IR 192",
        "Wang^XiaoDong=王^小東",
        b"Wang^XiaoDong=\xe7\x8e\x8b^\xe5\xb0\x8f\xe6\x9d\xb1",
    ),
    "J.3": (b"GB18030", "Wang^XiaoDong=王^小东", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab"),
    "K.2": (
        rb"\ISO 2022 IR 58",
        "Zhang^XiaoDong=张^小东",
        b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab",
    ),
}


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_of_the_standard_are_read_and_written(example: str) -> None:
    declared, text, raw = EXAMPLES[example]
    characters = repertoire(declared)
    assert characters.decode(raw, NAME_DELIMITERS) == text
    assert characters.encode(text, NAME_DELIMITERS) == raw


@pytest.mark.parametrize(
    ("term", "text", "raw"),
    [
        ("ISO_IR 100", "Buc^Jérôme", b"Buc^J\xe9r\xf4me"),
        ("ISO_IR 101", "Wałęsa", b"Wa\xb3\xeasa"),
        ("ISO_IR 109", "Ġorġ", b"\xd5or\xf5"),
        ("ISO_IR 110", "Šņore", b"\xa9\xf1ore"),
        ("ISO_IR 126", "Διονυσιος", b"\xc4\xe9\xef\xed\xf5\xf3\xe9\xef\xf2"),
        ("ISO_IR 127", "قباني", b"\xe2\xc8\xc7\xe6\xea"),
        ("ISO_IR 138", "שרון", b"\xf9\xf8\xe5\xef"),
        ("ISO_IR 144", "Люкceмбypг", b"\xbb\xee\xdace\xdc\xd1yp\xd3"),
        ("ISO_IR 148", "Çavuşoğlu", b"\xc7avu\xfeo\xf0lu"),
        ("ISO_IR 166", "นามสกุล", b"\xb9\xd2\xc1\xca\xa1\xd8\xc5"),
        ("ISO_IR 203", "Œuvre €", b"\xbcuvre \xa4"),
        ("GBK", "小东", b"\xd0\xa1\xb6\xab"),
    ],
)
def test_single_sets_are_read_and_written(term: str, text: str, raw: bytes) -> None:
    assert named_repertoire(term).decode(raw) == text
    assert named_repertoire(term).encode(text) == raw


@pytest.mark.parametrize("spelling", ["ISO IR 100", "ISO-IR 100", "iso_ir_100", "ISO_IR100", " ISO_IR 100 "])
def test_the_spellings_of_devices_are_understood(spelling: str) -> None:
    assert named_repertoire(spelling).decode(b"J\xe9r\xf4me") == "Jérôme"


def test_an_absent_set_is_ascii_and_more_is_guessed() -> None:
    assert repertoire(b"").decode(b"Doe") == "Doe"
    assert repertoire(b"").decode("Jérôme".encode()) == "Jérôme"
    assert repertoire(b"").decode(b"J\xe9r\xf4me") == "Jérôme"


def test_a_set_nobody_knows_is_guessed_too() -> None:
    assert named_repertoire("KLINGON 7").decode("Jérôme".encode()) == "Jérôme"


def test_bytes_that_the_declared_set_cannot_explain_are_still_text() -> None:
    assert named_repertoire("ISO_IR 192").decode(b"J\xe9r\xf4me") == "Jérôme"


def test_an_undeclared_escape_is_followed() -> None:
    assert repertoire(b"").decode(b"\x1b$B;3ED\x1b(B^X") == "山田^X"


def test_after_a_delimiter_the_initial_sets_are_back() -> None:
    characters = repertoire(rb"ISO 2022 IR 100\ISO 2022 IR 144")
    raw = b"\x1b-L\xbb\xee^J\xe9r\xf4me"
    assert characters.decode(raw, NAME_DELIMITERS) == "Лю^Jérôme"
    assert characters.encode("Лю^Jérôme", NAME_DELIMITERS) == raw


def test_half_width_kana_beside_kanji_are_kept() -> None:
    raw = b"\x1b$B;3\xd4\xcf\x1b(J"
    assert repertoire(rb"ISO 2022 IR 13\ISO 2022 IR 87").decode(raw) == "山ﾔﾏ"


def test_a_text_the_set_would_change_is_not_written_in_it() -> None:
    with pytest.raises(NotInRepertoire):
        named_repertoire("ISO_IR 13").encode("5¥")  # the yen sign would come back as a delimiter


def test_kanji_are_not_written_in_a_set_of_kana() -> None:
    with pytest.raises(NotInRepertoire):
        named_repertoire("ISO_IR 13").encode("山田")


def test_characters_of_an_undeclared_extension_are_not_written() -> None:
    with pytest.raises(NotInRepertoire):
        named_repertoire(r"\ISO 2022 IR 87").encode("丂")  # JIS X 0212 only


TERMS = (
    "",
    "ISO_IR 13",
    "ISO_IR 100",
    "ISO_IR 192",
    "GB18030",
    r"\ISO 2022 IR 87\ISO 2022 IR 159",
    r"ISO 2022 IR 13\ISO 2022 IR 87",
    r"\ISO 2022 IR 149",
    r"ISO 2022 IR 100\ISO 2022 IR 58",
)


@given(st.sampled_from(TERMS), st.text(st.characters(exclude_categories=("Cs",)), max_size=30))
def test_what_is_written_is_read_as_the_same(terms: str, text: str) -> None:
    characters = named_repertoire(terms)
    try:
        raw = characters.encode(text, NAME_DELIMITERS)
    except NotInRepertoire:
        return
    assert characters.decode(raw, NAME_DELIMITERS) == text


@given(st.sampled_from(TERMS), st.binary(max_size=60) | st.text("A山ﾔ한张é\\^=\x1b$B()CAI").map(str.encode))
def test_any_bytes_become_text(terms: str, raw: bytes) -> None:
    assert isinstance(named_repertoire(terms).decode(raw, NAME_DELIMITERS), str)
