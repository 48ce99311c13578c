"""Pictures in all formats, and how Pillow and torchvision read and scale them.

Writes tests/reference/pictures/: small files of each format, and expected.safetensors with what Pillow makes of them.
Needs Pillow, NumPy and torchvision; the test that compares (tests/pictures.rs) needs none of them.
"""

import json
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, __version__
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

FOLDER = Path(__file__).parent / "pictures"
SIDE = 24  # of the pictures of all formats, which are square so that they are compared without scaling
expected = {}


def photograph(width, height, seed=1):
    """Smooth light, sharp edges, fine texture and noise: [H, W, 3] uint8."""
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    planes = [0.5 + 0.4 * np.sin(9 * x + 2), 0.5 + 0.4 * np.cos(7 * y + 5 * x), 0.4 + 0.5 * x * y]
    picture = np.stack(planes, -1)
    picture[(x - 0.4) ** 2 + (y - 0.3) ** 2 < 0.03] = [0.9, 0.1, 0.2]
    picture[(x > 0.6) & (np.sin(90 * y) > 0)] = [0.05, 0.3, 0.9]
    picture += np.random.default_rng(seed).normal(0, 0.03, picture.shape)
    return (picture.clip(0, 1) * 255).round().astype(np.uint8)


def png16(path, values):
    """A PNG of 16 bits per channel, which Pillow writes for grey only: [H, W, channels] uint16."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]
    body = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(body))


def remember(name, image):
    """Pillow's version of a picture: upright, in red, green and blue, over white where it is transparent."""
    image = ImageOps.exif_transpose(image)
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    expected[name] = np.asarray(image.convert("RGB")).transpose(2, 0, 1)


def formats():
    rgb = photograph(SIDE, SIDE)
    image, grey = Image.fromarray(rgb), Image.fromarray(rgb).convert("L")
    alpha = Image.fromarray(np.tile(np.linspace(0, 255, SIDE).astype(np.uint8), (SIDE, 1)))
    rgba, grey_alpha = image.copy(), Image.merge("LA", [grey, alpha])
    rgba.putalpha(alpha)
    palette = image.quantize(16)
    other = Image.fromarray(255 - rgb)
    cmyk = image.convert("CMYK")
    files = {
        "rgb.png": (image, {}),
        "rgba.png": (rgba, {}),
        "grey.png": (grey, {}),
        "grey_alpha.png": (grey_alpha, {}),
        "one_bit.png": (grey.convert("1"), {}),
        "palette.png": (palette, {}),
        "palette_transparent.png": (palette, {"transparency": 3}),
        "animated.png": (image, {"save_all": True, "append_images": [other]}),
        "rgb.jpg": (image, {"quality": 95, "subsampling": 0}),
        "subsampled.jpg": (image, {"quality": 90, "subsampling": 2}),
        "progressive.jpg": (image, {"quality": 95, "subsampling": 0, "progressive": True}),
        "grey.jpg": (grey, {"quality": 95}),
        "cmyk.jpg": (cmyk, {"quality": 95}),
        "lossless.webp": (image, {"lossless": True}),
        "lossy.webp": (image, {"quality": 90}),
        "alpha.webp": (rgba, {"lossless": True, "exact": True}),
        "animated.webp": (image, {"lossless": True, "save_all": True, "append_images": [other]}),
        "single.gif": (palette, {}),
        "animated.gif": (palette, {"save_all": True, "append_images": [other.quantize(16)]}),
        "rgb.bmp": (image, {}),
        "palette.bmp": (palette, {}),
        "rgb.tiff": (image, {"compression": "tiff_lzw"}),
        "grey.tiff": (grey, {"compression": "tiff_adobe_deflate"}),
        "cmyk.tiff": (cmyk, {}),
        "pages.tiff": (image, {"save_all": True, "append_images": [other]}),
    }
    for name, (picture, options) in files.items():
        picture.save(FOLDER / name, **options)
        remember(name, Image.open(FOLDER / name))
    wide = rgb.astype(np.uint16) * 257
    png16(FOLDER / "rgb16.png", wide)
    png16(FOLDER / "rgba16.png", np.concatenate([wide, np.full((SIDE, SIDE, 1), 65535, np.uint16)], -1))
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(FOLDER / "grey16.png")
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(FOLDER / "grey16.tiff")
    for name, content in [("rgb16.png", image), ("rgba16.png", image), ("grey16.png", grey), ("grey16.tiff", grey)]:
        remember(name, content)  # 257 times a level is the level
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        oblong = image.crop((0, 0, SIDE, SIDE * 2 // 3))
        oblong.save(FOLDER / f"orientation_{orientation}.jpg", exif=exif, quality=95, subsampling=0)
        remember(f"orientation_{orientation}.jpg", Image.open(FOLDER / f"orientation_{orientation}.jpg"))


def scaling():
    large, small = photograph(150, 101), photograph(19, 26)
    for name, pixels in [("large", large), ("small", small)]:
        Image.fromarray(pixels).save(FOLDER / f"{name}.png", optimize=True)
        image = Image.open(FOLDER / f"{name}.png")
        for mode in InterpolationMode.NEAREST, InterpolationMode.BILINEAR, InterpolationMode.BICUBIC, InterpolationMode.LANCZOS:
            fits = {
                "crop": Compose([Resize(37, mode), CenterCrop(32)]),
                "stretch": Resize((32, 32), mode),
                "pad": lambda image, mode=mode: ImageOps.pad(image, (32, 32), RESAMPLING[mode]),
            }
            for fit, transform in fits.items():
                for colors, picture in [("rgb", image), ("grey", image.convert("L"))]:
                    array = np.asarray(transform(picture))
                    planes = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
                    expected[f"{name} {mode.value} {fit} {colors}"] = planes


RESAMPLING = {
    InterpolationMode.NEAREST: Image.Resampling.NEAREST,
    InterpolationMode.BILINEAR: Image.Resampling.BILINEAR,
    InterpolationMode.BICUBIC: Image.Resampling.BICUBIC,
    InterpolationMode.LANCZOS: Image.Resampling.LANCZOS,
}


def write(path, arrays):
    """A safetensors file of uint8 arrays."""
    header, data = {"__metadata__": {"made_with": f"Pillow {__version__}"}}, b""
    for name, array in arrays.items():
        raw = np.ascontiguousarray(array, np.uint8).tobytes()
        header[name] = {"dtype": "U8", "shape": array.shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


FOLDER.mkdir(exist_ok=True)
formats()
scaling()
write(FOLDER / "expected.safetensors", expected)
