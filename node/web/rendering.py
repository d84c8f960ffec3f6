"""Frames for people's eyes: PS3.3 C.11 and C.7.6.3 to eight bits, then JPEG, PNG or GIF.

The one room for numpy and Pillow, which are the optional extra `pixels`; compressed frames were decoded in
processes of their own before they come here.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydicom.dataset import Dataset

from node.pixels import NotConvertible, Picture

from .problems import Malformed, TooLarge

if TYPE_CHECKING:
    import numpy
    from PIL import Image

_MOST_PIXELS: Final = 1 << 26
"""Pixels of one image, or of all of an animation."""
_FLOAT: Final = {"FloatPixelData": "<f4", "DoubleFloatPixelData": "<f8"}


class Look(NamedTuple):
    """How a rendering is to look, PS3.18 8.3.5."""

    window: tuple[float, float, str] | None = None
    """Center, width, and `linear`, `linear-exact` or `sigmoid`."""
    size: tuple[int, int] | None = None
    """Width and height that it must fit into."""
    region: tuple[int, int, int, int] | None = None
    """Left, top, width and height of what is shown; negative extents mirror."""
    quality: int = 90


def check_size(picture: Picture, frames: int) -> None:
    """Make sure that so many frames can be rendered into one file.

    Raises:
        TooLarge: they cannot.
    """
    if picture.rows * picture.columns * frames > _MOST_PIXELS:
        raise TooLarge("It is too large to be rendered.", "Ask for fewer of its frames, or for its pixels.")


def render(
    frames: Sequence[tuple[bytes, str]], picture: Picture, header: Dataset, media_type: str, look: Look
) -> bytes:
    """Return frames, given as pixels and Photometric Interpretation, as one image file.

    Raises:
        NotConvertible: the extra `pixels` is missing, or the frame is not what its header says.
        Malformed: it has nothing where it is to be looked at.
    """
    try:
        import numpy  # noqa: F401
        import PIL  # noqa: F401
    except ImportError:
        raise NotConvertible(
            "Nothing is rendered here: pip install 'peerpacs[pixels]'.",
            "Install it into the node's environment and restart the node.",
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            images = [_image(*frame, picture, header, look) for frame in frames]
        return _file(images, media_type, header, look)
    except (ValueError, AttributeError, KeyError, TypeError, IndexError, NotImplementedError, OverflowError):
        raise NotConvertible(
            "It cannot be rendered: its pixels are not what its header says.", "Ask for its frames."
        ) from None


def _file(images: list[Image.Image], media_type: str, header: Dataset, look: Look) -> bytes:
    out = io.BytesIO()
    if media_type == "image/gif":
        duration = int(float(header.get("FrameTime") or 100))
        images[0].save(
            out, "GIF", save_all=True, append_images=images[1:], duration=max(20, duration), loop=0
        )
    elif media_type == "image/png":
        images[0].save(out, "PNG", compress_level=1)
    else:
        images[0].save(out, "JPEG", quality=look.quality)
    return out.getvalue()


def _image(pixels: bytes, photometric: str, picture: Picture, header: Dataset, look: Look) -> Image.Image:
    from PIL import Image

    array = _array(pixels, photometric, picture, header)
    if array.ndim == 3 or photometric == "PALETTE COLOR":
        shown = _colors(array, photometric, picture, header)
    else:
        shown = _grays(array, photometric, header, look)
    return _fitted(Image.fromarray(shown), look)


def _array(pixels: bytes, photometric: str, picture: Picture, header: Dataset) -> numpy.ndarray[Any, Any]:
    """Return the samples of a frame as numbers, rows first; its unused bits are not in them."""
    import numpy

    rows, columns, samples = picture.rows, picture.columns, max(1, picture.samples_per_pixel)
    if picture.bits_allocated == 1:
        bits = numpy.unpackbits(numpy.frombuffer(pixels, numpy.uint8), bitorder="little")
        return bits[: rows * columns].reshape(rows, columns)
    kind = next((kind for keyword, kind in _FLOAT.items() if keyword in header), "")
    letter = "i" if picture.pixel_representation else "u"
    array = numpy.frombuffer(pixels, kind or f"<{letter}{picture.bits_allocated // 8}")
    unused = picture.bits_allocated - picture.bits_stored
    if not kind and 0 < unused < picture.bits_allocated:
        # To the top and down again, so that the sign is that of the stored bits.
        array = (array << unused) >> unused
    if samples == 1:
        return array[: rows * columns].reshape(rows, columns)
    if picture.planar_configuration and picture.transfer_syntax in _NATIVE:
        return array[: rows * columns * samples].reshape(samples, rows, columns).transpose(1, 2, 0)
    return array[: rows * columns * samples].reshape(rows, columns, samples)


_NATIVE: Final = frozenset(("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"))


def _colors(
    array: numpy.ndarray[Any, Any], photometric: str, picture: Picture, header: Dataset
) -> numpy.ndarray[Any, Any]:
    import numpy
    from pydicom.pixels.processing import apply_color_lut, convert_color_space

    bits = picture.bits_stored
    if photometric == "PALETTE COLOR":
        array = apply_color_lut(array, header)[..., :3]
        bits = 8 * array.dtype.itemsize
        if bits == 16 and array.max(initial=0) < 256:
            bits = 8
    if bits > 8:
        array = array >> (bits - 8)
    array = array.astype(numpy.uint8)
    if photometric in ("YBR_FULL", "YBR_FULL_422"):
        array = convert_color_space(array, "YBR_FULL", "RGB")
    return numpy.ascontiguousarray(array[..., :3])


def _grays(
    array: numpy.ndarray[Any, Any], photometric: str, header: Dataset, look: Look
) -> numpy.ndarray[Any, Any]:
    import numpy
    from pydicom.pixels.processing import apply_modality_lut, apply_voi

    padding = header.get("PixelPaddingValue")
    valid = array[array != int(padding)] if isinstance(padding, int) else array
    values = apply_modality_lut(array, header).astype(numpy.float32)
    window = look.window or _window(header)
    if window is None and "VOILUTSequence" in header:
        values = apply_voi(apply_modality_lut(array, header), header).astype(numpy.float32)
        depth = int(header.VOILUTSequence[0].LUTDescriptor[2]) or 16
        shown = values / float((1 << depth) - 1)
    elif window is None:
        limits = apply_modality_lut(valid if valid.size else array, header)
        low, high = float(limits.min()), float(limits.max())
        shown = (values - low) / ((high - low) or 1.0)
    else:
        shown = _windowed(values, *window)
    if photometric == "MONOCHROME1" or header.get("PresentationLUTShape") == "INVERSE":
        shown = 1.0 - shown
    eight: numpy.ndarray[Any, Any] = (numpy.clip(shown, 0.0, 1.0) * 255.0 + 0.5).astype(numpy.uint8)
    return eight


def _window(header: Dataset) -> tuple[float, float, str] | None:
    center, width = _first(header.get("WindowCenter")), _first(header.get("WindowWidth"))
    if center is None or width is None or width < 0:
        return None
    function = str(header.get("VOILUTFunction") or "LINEAR").lower().replace("_", "-")
    return center, width, function


def _first(value: Any) -> float | None:
    if value is None or value == "":
        return None
    if isinstance(value, str | int | float):
        return float(value)
    return float(value[0]) if len(value) else None


def _windowed(
    values: numpy.ndarray[Any, Any], center: float, width: float, function: str
) -> numpy.ndarray[Any, Any]:
    """Return values between 0 and 1, PS3.3 C.11.2.1.2 and C.11.2.1.3."""
    import numpy

    result: numpy.ndarray[Any, Any]
    if function == "sigmoid":
        steepness = -4.0 * (values - center) / (width or 1.0)
        result = 1.0 / (1.0 + numpy.exp(numpy.clip(steepness, -60.0, 60.0)))
    elif function == "linear-exact":
        result = (values - center) / (width or 1e-6) + 0.5
    elif width <= 1:
        result = (values > center - 0.5).astype(numpy.float32)
    else:
        result = (values - (center - 0.5)) / (width - 1.0) + 0.5
    return result


def _fitted(image: Image.Image, look: Look) -> Image.Image:
    from PIL import Image, ImageOps

    if look.region:
        left, top, width, height = look.region
        right, bottom = min(image.width, left + abs(width)), min(image.height, top + abs(height))
        left, top = max(0, left), max(0, top)
        if right <= left or bottom <= top:
            raise Malformed("The region of the viewport is beside the image.", "Correct the query.")
        image = image.crop((left, top, right, bottom))
        image = ImageOps.mirror(image) if width < 0 else image
        image = ImageOps.flip(image) if height < 0 else image
    if look.size:
        scale = min(look.size[0] / image.width, look.size[1] / image.height)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.BILINEAR)
    return image
