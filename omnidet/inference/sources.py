"""What a user may call 'images', one after another; and loading them while the model works."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from omnidet.errors import ImageError

SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')

Source = str | Path | NDArray[Any]
T = TypeVar('T')


def is_single(images: Any) -> bool:
    """Whether `images` is one image: an array, or a path that is not a folder."""
    return isinstance(images, np.ndarray) or (isinstance(images, (str, Path)) and not Path(images).is_dir())


def iter_sources(images: Source | Iterable[Source]) -> Iterator[Source]:
    """Each image by itself; a folder, also one among others, gives the images in it.

    Raises:
        ImageError: a folder without images, or something that is neither path nor array.
    """
    if isinstance(images, np.ndarray):
        yield images
    elif isinstance(images, (str, Path)):
        yield from list_images(images) if Path(images).is_dir() else [images]
    elif isinstance(images, Iterable):
        for one in images:
            yield from iter_sources(one)
    else:
        raise ImageError(f'an image is a path or an array (H, W, 3) in BGR; found {type(images).__name__}')


def list_images(folder: str | Path) -> list[Path]:
    """The images of a folder in natural order: img_2.jpg comes before img_10.jpg.

    Raises:
        ImageError: there are none.
    """
    files = sorted((p for p in Path(folder).iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith('.')),
                   key=lambda p: natural_key(p.name))
    if not files:
        raise ImageError(f'{folder} has no images; known are the suffixes {" ".join(SUFFIXES)}')
    return files


def natural_key(name: str) -> list[tuple[int, str]]:
    """A sort key under which numbers inside names count as numbers."""
    return [(int(part), '') if part.isdecimal() else (-1, part.lower()) for part in re.split(r'(\d+)', name)]


def to_bgr(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Grey (H, W) or (H, W, 1), BGR or BGRA (H, W, 4) as BGR (H, W, 3); transparency is dropped.

    Raises:
        ImageError: another shape or another dtype than uint8.
    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)) \
            or not image.size:
        raise ImageError('an image is an array (H, W, 3) of uint8 in BGR (or grey, or BGRA); '
                         f'found shape {image.shape} of {image.dtype}')
    if image.ndim == 2 or image.shape[2] == 1:
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    return np.ascontiguousarray(image[..., :3])


def source_name(source: Source, index: int) -> str:
    """What a message or a file calls an image."""
    return f'image_{index:04d}' if isinstance(source, np.ndarray) else str(source)


def load_ahead(items: Iterable[Any], load: Callable[[Any], T], workers: int, ahead: int) -> Iterator[T]:
    """`map(load, items)` in order, with up to `ahead` items in the hands of threads while the caller works."""
    with ThreadPoolExecutor(workers, thread_name_prefix='load') as pool:
        waiting: deque[Future[T]] = deque()
        rest = iter(items)
        waiting.extend(pool.submit(load, item) for item in islice(rest, ahead))
        try:
            while waiting:
                done = waiting.popleft().result()
                waiting.extend(pool.submit(load, item) for item in islice(rest, 1))
                yield done
        finally:
            for future in waiting:
                future.cancel()
