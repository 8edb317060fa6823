"""`mmcv.image`: arrays (h, w, 3) in BGR, as OpenCV has them."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from omnidet.data.transforms.loading import read_image
from omnidet.errors import ConfigError

MODES = {'nearest': cv2.INTER_NEAREST, 'bilinear': cv2.INTER_LINEAR, 'bicubic': cv2.INTER_CUBIC,
         'area': cv2.INTER_AREA, 'lanczos': cv2.INTER_LANCZOS4}
Image = np.ndarray


def imread(img_or_path: Any, flag: str = 'color', channel_order: str = 'bgr', backend: str | None = None,
           **kwargs: Any) -> Image:
    """An image file as an array; an array as it is."""
    if isinstance(img_or_path, np.ndarray):
        return img_or_path
    image = read_image(img_or_path, flag, backend or 'cv2')
    return image[..., ::-1].copy() if channel_order == 'rgb' and image.ndim == 3 else image


def imfrombytes(content: bytes, flag: str = 'color', channel_order: str = 'bgr', **kwargs: Any) -> Image:
    """The bytes of an image file as an array."""
    kind = cv2.IMREAD_GRAYSCALE if flag == 'grayscale' else cv2.IMREAD_UNCHANGED if flag == 'unchanged' \
        else cv2.IMREAD_COLOR
    image = np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), kind))
    return image[..., ::-1].copy() if channel_order == 'rgb' and image.ndim == 3 else image


def imwrite(img: Image, file_path: Any, params: Any = None, auto_mkdir: bool = True) -> bool:
    """Write an image file."""
    from omnidet.compat.files import mkdir_or_exist
    if auto_mkdir:
        from pathlib import Path
        mkdir_or_exist(Path(file_path).parent)
    return cv2.imwrite(str(file_path), img, params or [])


def imresize(img: Image, size: tuple[int, int], return_scale: bool = False, interpolation: str = 'bilinear',
             out: Any = None, backend: str | None = None) -> Any:
    """`img` in the size (w, h); with `return_scale` also the factors of width and height."""
    h, w = img.shape[:2]
    resized = cv2.resize(img, tuple(size), interpolation=_mode(interpolation))
    return (resized, size[0] / w, size[1] / h) if return_scale else resized


def rescale_size(old_size: tuple[int, int], scale: float | tuple[float, float], return_scale: bool = False) -> Any:
    """The size (w, h) that `scale` makes of one: a factor, or the greatest long and short side."""
    w, h = old_size
    factor = scale if isinstance(scale, (int, float)) else min(max(scale) / max(h, w), min(scale) / min(h, w))
    size = int(w * factor + 0.5), int(h * factor + 0.5)
    return (size, factor) if return_scale else size


def imrescale(img: Image, scale: float | tuple[float, float], return_scale: bool = False,
              interpolation: str = 'bilinear', backend: str | None = None) -> Any:
    """`img` by a factor, or within the greatest long and short side."""
    size, factor = rescale_size((img.shape[1], img.shape[0]), scale, return_scale=True)
    resized = imresize(img, size, interpolation=interpolation)
    return (resized, factor) if return_scale else resized


def imflip(img: Image, direction: str = 'horizontal') -> Image:
    """`img` mirrored."""
    axes = {'horizontal': (1,), 'vertical': (0,), 'diagonal': (0, 1)}[direction]
    return np.flip(img, axes)


def imnormalize(img: Image, mean: Any, std: Any, to_rgb: bool = True) -> Image:
    """(img - mean) / std in float32, with the channels turned where `to_rgb`."""
    img = img[..., ::-1] if to_rgb else img
    return (img.astype(np.float32) - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)


def impad(img: Image, *, shape: tuple[int, int] | None = None, padding: Any = None, pad_val: Any = 0,
          padding_mode: str = 'constant') -> Image:
    """`img` padded at the right and bottom to `shape` (h, w), or by `padding`: all sides, (x, y), or l, t, r, b."""
    if shape is not None:
        left, top, right, bottom = 0, 0, max(shape[1] - img.shape[1], 0), max(shape[0] - img.shape[0], 0)
    elif isinstance(padding, int):
        left = top = right = bottom = padding
    else:
        left, top, right, bottom = padding if len(padding) == 4 else (*padding, *padding)
    kinds = {'constant': cv2.BORDER_CONSTANT, 'edge': cv2.BORDER_REPLICATE, 'reflect': cv2.BORDER_REFLECT_101,
             'symmetric': cv2.BORDER_REFLECT}
    value = pad_val if isinstance(pad_val, (tuple, list)) else (pad_val,) * 4
    return cv2.copyMakeBorder(img, top, bottom, left, right, kinds[padding_mode], value=value)


def impad_to_multiple(img: Image, divisor: int, pad_val: Any = 0) -> Image:
    """`img` padded so that `divisor` divides its sides."""
    h, w = (-(-side // divisor) * divisor for side in img.shape[:2])
    return impad(img, shape=(h, w), pad_val=pad_val)


def imrotate(img: Image, angle: float, center: tuple[float, float] | None = None, scale: float = 1.0,
             border_value: Any = 0, interpolation: str = 'bilinear', auto_bound: bool = False) -> Image:
    """`img` turned clockwise by `angle` degrees."""
    h, w = img.shape[:2]
    matrix = cv2.getRotationMatrix2D(center or ((w - 1) / 2, (h - 1) / 2), -angle, scale)
    if auto_bound:
        cos, sin = abs(matrix[0, 0]), abs(matrix[0, 1])
        new_w, new_h = h * sin + w * cos, h * cos + w * sin
        matrix[:, 2] += (new_w - w) / 2, (new_h - h) / 2
        w, h = round(new_w), round(new_h)
    return cv2.warpAffine(img, matrix, (w, h), flags=_mode(interpolation), borderValue=border_value)


def imcrop(img: Image, bboxes: Any, scale: float = 1.0, pad_fill: Any = None) -> Any:
    """What lies in boxes xyxy whose last pixels count; an array for one box, a list for several."""
    boxes = np.atleast_2d(np.asarray(bboxes, np.float64))
    h, w = img.shape[:2]
    out = []
    for x1, y1, x2, y2 in boxes:
        cx, cy, dx, dy = (x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1 + 1) * scale / 2, (y2 - y1 + 1) * scale / 2
        left, right = max(int(cx - dx + 0.5), 0), min(int(cx + dx + 0.5), w)
        top, bottom = max(int(cy - dy + 0.5), 0), min(int(cy + dy + 0.5), h)
        out.append(img[top:bottom, left:right])
    return out[0] if np.ndim(bboxes) == 1 else out


def _mode(name: str) -> int:
    if name not in MODES:
        raise ConfigError(f'there is no interpolation {name!r}; there are {", ".join(MODES)}')
    return MODES[name]


def bgr2rgb(img: Image) -> Image:
    return cv2.cvtColor(img, cv2.COLOR_BGR2RGB)


def rgb2bgr(img: Image) -> Image:
    return cv2.cvtColor(img, cv2.COLOR_RGB2BGR)


def bgr2hsv(img: Image) -> Image:
    return cv2.cvtColor(img, cv2.COLOR_BGR2HSV)


def hsv2bgr(img: Image) -> Image:
    return cv2.cvtColor(img, cv2.COLOR_HSV2BGR)


def bgr2gray(img: Image, keepdim: bool = False) -> Image:
    grey = cv2.cvtColor(img, cv2.COLOR_BGR2GRAY)
    return grey[..., None] if keepdim else grey


def gray2bgr(img: Image) -> Image:
    return cv2.cvtColor(img, cv2.COLOR_GRAY2BGR)
