"""Which pixels may hold identifying text, and blanking them (PS3.15 E.3.1, Clean Pixel Data).

Looking is not proof: what may hold burned-in text leaves only with declared regions or a rule that
somebody wrote for that equipment. What is not blanked stays bit for bit as it was.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from anonymizer.catalogue import boxes_of
from anonymizer.elements import EXPLICIT_BIG, PIXEL_DATA, Element, Item, Part10, text_value
from anonymizer.policy import RULE_KEYS, Policy
from anonymizer.quarantine import Quarantined, Reason
from anonymizer.table import Option

_ROWS, _COLUMNS, _FRAMES, _SAMPLES = 0x00280010, 0x00280011, 0x00280008, 0x00280002
_ALLOCATED, _STORED, _HIGH, _SIGNED = 0x00280100, 0x00280101, 0x00280102, 0x00280103
_PLANAR = 0x00280006
_PHOTOMETRIC, _PADDING = 0x00280004, 0x00280120
_REGIONS = 0x00186011
_DIMENSIONS = (0x00186018, 0x0018601A, 0x0018601C, 0x0018601E)

# Ultrasound, secondary capture, visible light, endoscopy, ophthalmic photography.
_RISKY_CLASSES = tuple(
    f"1.2.840.10008.5.1.4.1.1.{arc}" for arc in ("6.1", "3.1", "7", "7.1", "7.2", "7.3", "7.4")
)
_RISKY_PREFIXES = ("1.2.840.10008.5.1.4.1.1.77.1.",)
_RISKY_MODALITIES = frozenset(("US", "IVUS", "SC", "OT", "XC", "ES", "OP", "GM", "DOC", "HC"))
# Seldom burned in, so that one image of each series is read.
_SAMPLED_MODALITIES = frozenset(("CT", "MR", "PT"))
# RT Dose, Segmentation, Parametric Map: numbers, not pictures of a screen.
_NO_RENDERING = tuple(f"1.2.840.10008.5.1.4.1.1.{arc}" for arc in ("481.2", "66.4", "30"))


class Box(NamedTuple):
    """A rectangle of pixels in every frame: left and top from 0, width, height."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What to blank; `is_cleaned` if a rule, declared regions or OCR vouch for the rest."""

    boxes: tuple[Box, ...] = ()
    is_cleaned: bool = False
    clears_spare_bits: bool = False
    is_by_ocr: bool = False


@dataclass(frozen=True, slots=True)
class Geometry:
    """How the samples of native pixel data lie (PS3.5 8.1)."""

    rows: int
    columns: int
    frames: int
    samples: int
    allocated: int
    is_planar: bool

    @property
    def planes(self) -> int:
        """Planes per frame: samples lie together unless Planar Configuration is 1."""
        return self.samples if self.is_planar else 1

    @property
    def pixel_bytes(self) -> int:
        """Bytes of one pixel in one plane."""
        return self.allocated // 8 * (1 if self.is_planar else self.samples)

    @property
    def length(self) -> int:
        """Bytes of all frames."""
        return self.rows * self.columns * self.frames * self.planes * self.pixel_bytes


def plan(
    root: Item,
    policy: Policy,
    look: Callable[[], tuple[Box, ...]],
    *,
    is_ours: bool,
    was_cleaned: bool,
    is_suspect: bool = False,
) -> Plan:
    """What to do about burned-in text; raises Quarantined (BURNED_IN_RISK) if nothing vouches for it.

    `look` finds text by OCR; it is asked only where the policy says so and nothing better is known.
    `is_ours` says that this engine has released the instance before, `was_cleaned` that it then vouched
    for its pixels, `is_suspect` that burned-in text was met in its series.
    """
    if PIXEL_DATA not in root:
        return Plan()
    _reject_tail(root)
    spare = _has_embedded_overlay(root) or _has_spare_bits(root)
    if is_ours:
        return Plan(is_cleaned=was_cleaned)
    if _is_cleaning(policy):
        for rule in policy.document["pixel"]["rules"]:
            if _matches(rule, root):
                return Plan(tuple(Box(*box) for box in rule["boxes"]), True, spare)
    if not (is_suspect or _is_risky(root)):
        return Plan(clears_spare_bits=spare)
    boxes = (*_outside_regions(root), *_known_scanner(root, policy)) if _is_cleaning(policy) else ()
    if not boxes and _is_cleaning(policy) and policy.document["pixel"]["ocr"]:
        return Plan(look(), True, spare, is_by_ocr=True)
    if not boxes:
        raise Quarantined(
            Reason.BURNED_IN_RISK,
            "Its kind of image often has names burned in, and neither a rule nor declared regions say where.",
        )
    return Plan(boxes, True, spare)


def needs_sample(root: Item, policy: Policy) -> bool:
    """Whether OCR is to read one image of its series: the policy asks for it, and nothing else vouches."""
    if PIXEL_DATA not in root or not (_is_cleaning(policy) and policy.document["pixel"]["ocr"]):
        return False
    if text_value(root, 0x00080060) not in _SAMPLED_MODALITIES or _is_risky(root):
        return False
    return not any(_matches(rule, root) for rule in policy.document["pixel"]["rules"])


def carry_out(plan: Plan, copy: Item, source: Part10, data: bytes | memoryview) -> str:
    """Blanks what the plan says in `copy` and returns the transfer syntax to write it in."""
    if PIXEL_DATA not in copy or not (plan.boxes or plan.clears_spare_bits):
        return source.transfer_syntax
    element = copy[PIXEL_DATA]
    if element.is_encapsulated:
        if plan.clears_spare_bits:
            raise _unsupported("An overlay lies in its compressed pixel data.")
        from anonymizer.frames import blank_compressed

        return blank_compressed(copy, source.transfer_syntax, data, plan.boxes)
    order = ">" if source.transfer_syntax == EXPLICIT_BIG else "<"
    copy[PIXEL_DATA] = Element(element.vr, _blank_native(copy, element, plan, order))
    return source.transfer_syntax


def geometry_of(root: Item, order: str = "<") -> Geometry:
    """The layout of the pixel data; raises Quarantined if its attributes are missing."""
    frames = text_value(root, _FRAMES) or "1"
    return Geometry(
        rows=short(root, _ROWS, order),
        columns=short(root, _COLUMNS, order),
        frames=int(frames) if frames.isdigit() else 0,
        samples=short(root, _SAMPLES, order),
        allocated=short(root, _ALLOCATED, order),
        is_planar=_SAMPLES in root and short(root, _SAMPLES, order) > 1 and short(root, _PLANAR, order) == 1,
    )


def fill_pixel(root: Item, order: str = "<") -> tuple[int, ...]:
    """The samples of black for this photometric interpretation."""
    photometric = text_value(root, _PHOTOMETRIC)
    stored = short(root, _STORED, order)
    is_signed = _SIGNED in root and short(root, _SIGNED, order) == 1
    if photometric == "MONOCHROME1":
        return ((1 << (stored - is_signed)) - 1,)
    if photometric == "PALETTE COLOR":
        return (_darkest(root, order),)
    if photometric.startswith("YBR"):
        return (0, 128, 128)
    if photometric == "RGB":
        return (0, 0, 0)
    return (-(1 << (stored - 1)),) if is_signed else (0,)


def blank(data: bytearray, geometry: Geometry, boxes: tuple[Box, ...], fill: list[bytes]) -> None:
    """Fills the boxes of every frame; `fill` has one pixel's bytes for each plane."""
    row_bytes = geometry.columns * geometry.pixel_bytes
    plane_bytes = geometry.rows * row_bytes
    for plane in range(geometry.frames * geometry.planes):
        pixel = fill[plane % geometry.planes]
        for box in boxes:
            left, right = max(0, box.left), min(geometry.columns, box.left + box.width)
            if right <= left:
                continue
            line = pixel * (right - left)
            start = plane * plane_bytes + left * geometry.pixel_bytes
            for row in range(max(0, box.top), min(geometry.rows, box.top + box.height)):
                at = start + row * row_bytes
                data[at : at + len(line)] = line


def short(root: Item, tag: int, order: str = "<") -> int:
    """The value of a US element; raises Quarantined if it is not there."""
    data = root[tag].data if tag in root else b""
    if len(data) < 2:
        raise Quarantined(Reason.UNREADABLE, f"Its pixel data cannot be laid out without ({tag:08X}).")
    return int(struct.unpack_from(f"{order}H", data)[0])


def _unsupported(sentence: str) -> Quarantined:
    return Quarantined(Reason.UNSUPPORTED_TS_FOR_REQUIRED_PIXEL_WORK, sentence)


def _matches(rule: dict[str, Any], root: Item) -> bool:
    for key, wanted in rule["match"].items():
        if key in ("Rows", "Columns"):
            if short(root, RULE_KEYS[key]) != int(wanted):
                return False
        elif text_value(root, RULE_KEYS[key]) != wanted:
            return False
    return True


def _is_cleaning(policy: Policy) -> bool:
    return policy.shows(Option.CLEAN_PIXEL_DATA)


def _known_scanner(root: Item, policy: Policy) -> tuple[Box, ...]:
    """What the catalogue of scanners says about an ultrasound image, if the policy trusts it."""
    if not policy.document["pixel"]["catalogue"] or text_value(root, 0x00080060) != "US":
        return ()
    names = text_value(root, 0x00080070), text_value(root, 0x00081090)
    found = boxes_of(*names, short(root, _ROWS), short(root, _COLUMNS))
    return tuple(Box(*box) for box in found)


def _is_risky(root: Item) -> bool:
    sop_class = text_value(root, 0x00080016)
    if sop_class in _NO_RENDERING:
        return False
    image_type = text_value(root, 0x00080008).upper().split("\\")
    return (
        sop_class in _RISKY_CLASSES
        or sop_class.startswith(_RISKY_PREFIXES)
        or text_value(root, 0x00080060) in _RISKY_MODALITIES
        or text_value(root, 0x00280301) == "YES"
        or "SECONDARY" in image_type
        or any("SCREEN" in value or "DOSE" in value or value == "LABEL" for value in image_type)
        or text_value(root, 0x00080064) in ("DF", "SD", "DV", "WSD", "SI", "DRW")
        or _REGIONS in root
        or _is_coloured(root)
    )


def _is_coloured(root: Item) -> bool:
    """Whether it has colours, in either byte order: a screen, whatever its SOP Class says."""
    return _SAMPLES in root and 3 in (short(root, _SAMPLES), short(root, _SAMPLES, ">"))


def _outside_regions(root: Item) -> tuple[Box, ...]:
    """Boxes over everything outside the ultrasound regions; none if the regions leave nothing out."""
    if _REGIONS not in root:
        return ()
    rows, columns = short(root, _ROWS), short(root, _COLUMNS)
    regions = [tuple(_long(item, tag) for tag in _DIMENSIONS) for item in root[_REGIONS].items]
    edges = sorted({0, rows, *(y for r in regions for y in (r[1], r[3] + 1) if 0 < y < rows)})
    boxes = []
    for top, bottom in pairwise(edges):
        spans = sorted((r[0], r[2] + 1) for r in regions if r[1] <= top and r[3] + 1 >= bottom)
        at = 0
        for left, right in [*spans, (columns, columns)]:
            if left > at:
                boxes.append(Box(at, top, min(left, columns) - at, bottom - top))
            at = max(at, right)
    return tuple(box for box in boxes if box.width > 0)


def _long(item: Item, tag: int) -> int:
    data = item[tag].data if tag in item else b""
    if len(data) < 4:
        raise Quarantined(Reason.BURNED_IN_RISK, "One of its ultrasound regions does not say where it is.")
    return int(struct.unpack_from("<I", data)[0])


def _has_embedded_overlay(root: Item) -> bool:
    """Whether an overlay lies in unused bits of the pixel data, as was once allowed (PS3.3 C.9.2)."""
    groups = {tag & 0xFFFF0000 for tag in root if tag >> 24 == 0x60}
    return any(
        group | 0x3000 not in root or (group | 0x102 in root and root[group | 0x102].data.strip(b"\0"))
        for group in groups
    )


def _has_spare_bits(root: Item) -> bool:
    """Whether bits beside the stored ones are set, which no viewer shows and anything may be in."""
    element = root[PIXEL_DATA]
    if element.is_encapsulated or any(tag not in root for tag in (_ALLOCATED, _STORED, _HIGH)):
        return False
    allocated, stored = short(root, _ALLOCATED), short(root, _STORED)
    if allocated not in (8, 16) or stored >= allocated or (_SIGNED in root and short(root, _SIGNED)):
        return False  # the bits above a signed value are its sign
    if _PADDING in root and short(root, _PADDING) >> stored:
        return False  # or they tell pixels from padding
    whole = len(element.data) // (allocated // 8) * (allocated // 8)
    return bool(int.from_bytes(element.data[:whole], "big") & _spare_bits(root, whole, "<"))


def _spare_bits(root: Item, length: int, order: str) -> int:
    """The bits beside the stored ones in `length` bytes of pixels, as one number (PS3.5 8.1.1)."""
    allocated, stored = short(root, _ALLOCATED, order), short(root, _STORED, order)
    high = short(root, _HIGH, order) if _HIGH in root else stored - 1
    every = (1 << allocated) - 1
    kept = ((1 << stored) - 1) << max(0, high + 1 - stored)
    size = allocated // 8
    word = (every & ~kept).to_bytes(size, "big" if order == ">" else "little")
    return int.from_bytes(word * (length // size), "big")


def _reject_tail(root: Item) -> None:
    """Raises Quarantined if something stands behind the last frame, where nobody would see it."""
    element = root[PIXEL_DATA]
    if element.is_encapsulated or any(tag not in root for tag in (_ROWS, _COLUMNS, _SAMPLES, _ALLOCATED)):
        return
    frames = text_value(root, _FRAMES) or "1"
    cells = short(root, _ROWS) * short(root, _COLUMNS) * short(root, _SAMPLES)
    bits = cells * short(root, _ALLOCATED) * (int(frames) if frames.isdigit() else 0)
    if bytes(element.data[(bits + 7) // 8 + 1 :]).strip(b"\0"):
        raise Quarantined(Reason.UNREADABLE, "Its pixel data goes on after its last frame.")


def _blank_native(root: Item, element: Element, plan: Plan, order: str) -> bytes:
    geometry = geometry_of(root, order)
    if geometry.allocated not in (8, 16) or text_value(root, _PHOTOMETRIC).startswith("YBR_FULL_4"):
        raise _unsupported("Its pixel data is native, but in a layout that is not blanked here.")
    if order == ">" and geometry.allocated == 8 and element.vr == "OW":
        raise _unsupported("Its bytes are swapped in words of big endian.")
    data = bytearray(element.data)
    if len(data) < geometry.length or not geometry.length:
        raise Quarantined(Reason.UNREADABLE, "Its pixel data is shorter than its rows and columns say.")
    if plan.clears_spare_bits:
        whole = len(data) // (geometry.allocated // 8) * (geometry.allocated // 8)
        cleared = int.from_bytes(data[:whole], "big") & ~_spare_bits(root, whole, order)
        data = bytearray(cleared.to_bytes(whole, "big"))
    size = geometry.allocated // 8
    mask = (1 << geometry.allocated) - 1
    name = "big" if order == ">" else "little"
    samples = [
        (value & mask).to_bytes(size, "big" if name == "big" else "little")
        for value in fill_pixel(root, order)
    ]
    fill = samples if geometry.is_planar else [b"".join(samples)]
    blank(data, geometry, plan.boxes, fill)
    del data[geometry.length :]
    return bytes(data)


def _darkest(root: Item, order: str) -> int:
    sums: list[int] = []
    for descriptor, table in ((0x00281101, 0x00281201), (0x00281102, 0x00281202), (0x00281103, 0x00281203)):
        if table not in root or descriptor not in root:
            raise _unsupported("It has a palette, but not as plain tables.")
        entries, first, bits = struct.unpack_from(f"{order}3H", root[descriptor].data)
        data = root[table].data
        wide = bits == 16 or len(data) >= 2 * (entries or 1 << 16)
        shade = (
            list(struct.unpack(f"{order}{len(data) // 2}H", data[: len(data) // 2 * 2]))
            if wide
            else list(data)
        )
        sums = [a + b for a, b in zip(sums or [0] * len(shade), shade, strict=False)]
    return int(first) + sums.index(min(sums))
