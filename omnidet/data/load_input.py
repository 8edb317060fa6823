"""The test pipeline of a config, on images that no data set describes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from omnidet.data.collate import collate
from omnidet.data.preprocess import build_preprocessor
from omnidet.data.transforms.base import Compose
from omnidet.errors import ConfigError, ImageError
from omnidet.structures import ImageMeta, Sample

ANNOTATION_LOADERS = ('LoadAnnotations', 'LoadPanopticAnnotations', 'LoadTrackAnnotations')
IMAGE_LOADERS = ('LoadImageFromFile', 'LoadImageFromNDArray', 'LoadImageFromWebcam', 'InferencerLoader')


class TestPipeline:
    """What a config's test pipeline makes of one image.

    Args:
        cfg: a whole config.

    Raises:
        ConfigError: the config has no test pipeline.
    """

    __test__ = False    # not a test case, whatever pytest makes of the name

    def __init__(self, cfg: Mapping[str, Any]) -> None:
        transforms = [t for t in test_pipeline(cfg) if _name(t) not in ANNOTATION_LOADERS]
        if not transforms or _name(transforms[0]) not in IMAGE_LOADERS:
            transforms = [dict(type='LoadImageFromFile'), *transforms]
        loader, *rest = transforms
        options = {k: v for k, v in loader.items() if k in ('to_float32', 'color_type', 'imdecode_backend')}
        self.from_file = Compose([dict(options, type='LoadImageFromFile')])
        self.from_array = Compose([dict(options, type='LoadImageFromNDArray')])
        self.rest = Compose(rest)

    def __call__(self, image: str | Path | np.ndarray) -> Sample:
        """Load and transform one image.

        Args:
            image: a file, or (h, w, 3) uint8 in BGR.

        Raises:
            ImageError: the file cannot be read, or the array is no image.
        """
        if isinstance(image, np.ndarray):
            if image.ndim not in (2, 3) or image.size == 0 or (image.ndim == 3 and image.shape[2] != 3):
                raise ImageError(f'an image is an array (h, w, 3) of uint8 in BGR; found shape {image.shape}')
            image = np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image
            results = self.from_array(dict(img=image, img_path=None, img_id=0))
        else:
            results = self.from_file(dict(img_path=str(image), img_id=0))
        return self.rest(results)


def test_pipeline(cfg: Mapping[str, Any]) -> list[Any]:
    """The transforms a config tests with: those of its test data set, or of `test_pipeline`.

    Raises:
        ConfigError: there are none.
    """
    for key in ('test_dataloader', 'val_dataloader'):
        dataset = (cfg.get(key) or {}).get('dataset')
        while isinstance(dataset, Mapping):
            if dataset.get('pipeline'):
                return list(dataset['pipeline'])
            inner = dataset.get('dataset') or dataset.get('datasets')
            dataset = inner[0] if isinstance(inner, (list, tuple)) and inner else inner
    if cfg.get('test_pipeline'):
        return list(cfg['test_pipeline'])
    raise ConfigError('the config has no test pipeline: neither test_dataloader.dataset.pipeline nor test_pipeline')


test_pipeline.__test__ = False    # type: ignore[attr-defined]


def load_input(cfg: Mapping[str, Any], path: str | Path) -> tuple[Tensor, ImageMeta]:
    """The test pipeline and preprocessor of a config on one image.

    Args:
        cfg: a whole config.
        path: an image file.

    Returns:
        (3, H, W) float as the model gets it, and what was done to the image.
    """
    model = cfg.get('model') or {}
    preprocessor = build_preprocessor(model.get('data_preprocessor') or cfg.get('data_preprocessor')).eval()
    batch = preprocessor(collate([TestPipeline(cfg)(path)]))
    return batch.images[0], batch.metas[0]


def _name(transform: Any) -> str:
    kind = transform.get('type') if isinstance(transform, Mapping) else type(transform)
    return kind.rpartition('.')[2] if isinstance(kind, str) else getattr(kind, '__name__', '')
