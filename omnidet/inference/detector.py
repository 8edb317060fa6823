"""The detector that a user calls."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from omnidet.checkpoints import load_checkpoint, load_weights
from omnidet.config import load_config
from omnidet.data import TestPipeline, build_preprocessor, collate
from omnidet.engine.distributed import pick_device
from omnidet.errors import ImageError
from omnidet.inference.classes import find_classes
from omnidet.inference.fuse import fuse_conv_bn
from omnidet.inference.sources import Source, is_single, iter_sources, load_ahead, source_name, to_bgr
from omnidet.models import build_model
from omnidet.ops.boxes import clip_boxes
from omnidet.structures import ImageMeta, Result, Sample


@dataclass
class Prediction:
    """One image of a stream.

    Attributes:
        name: its path, or image_0007 for an array.
        source: the path or the array.
        result: what was found, on the CPU; None where the image is broken.
        meta: what the test pipeline did to the image; None where it is broken.
        error: what is wrong with a broken image.
    """

    name: str
    source: Source
    result: Result | None = None
    meta: ImageMeta | None = None
    error: ImageError | None = None


class Detector:
    """A model with its test pipeline: images in, detections in pixels of those images out.

    >>> detector = Detector('rtmdet/rtmdet_tiny', 'rtmdet_tiny.pth')
    >>> result = detector('street.jpg')
    >>> for box, score, label in zip(result.boxes, result.scores, result.labels):
    ...     print(detector.classes[label], round(float(score), 2), box.tolist())

    Args:
        config: a config file, a name of the zoo, or a loaded config.
        checkpoint: a .pth file whose names and shapes fit the model; without one the weights are random.
        device: 'cpu', 'cuda', 'cuda:1', 'mps'; the best there is by default.
        score_thr: drop detections below it; by default all are kept that the config's test_cfg lets through.
        trust: execute a config file that is more than data, and load a checkpoint that is more than tensors.

    Attributes:
        classes: the names of the labels.
        cfg: the config.
        model: the model as it runs, with its batch norms folded into its convolutions.

    Raises:
        OmniDetError: a config or checkpoint that is missing, broken, or does not fit.
    """

    def __init__(self, config: str | Path | Mapping[str, Any], checkpoint: str | Path | None = None,
                 device: str | torch.device | None = None, score_thr: float | None = None, trust: bool = False) -> None:
        self.cfg: Mapping[str, Any] = config if isinstance(config, Mapping) else load_config(config, trust=trust)
        self.device = pick_device(device)
        self.score_thr = score_thr
        model = build_model(self.cfg)
        meta: Mapping[str, Any] = {}
        if checkpoint is None:
            warnings.warn('Detector: no checkpoint is given, so the weights are random', stacklevel=2)
        else:
            content = load_checkpoint(checkpoint, trust=trust)
            load_weights(model, content['state_dict'], str(checkpoint), strict=True)
            meta = content['meta']
        self.classes = find_classes(meta, self.cfg)
        self.model = fuse_conv_bn(model).requires_grad_(False).to(self.device).to(memory_format=torch.channels_last)
        self.pipeline = TestPipeline(self.cfg)
        preprocessor = (self.cfg.get('model') or {}).get('data_preprocessor') or self.cfg.get('data_preprocessor')
        self.preprocessor = build_preprocessor(preprocessor).to(self.device).eval()

    def __call__(self, images: Source | Iterable[Source], batch_size: int = 1, progress: bool = False,
                 skip_broken: bool = False) -> Any:
        """Find the objects in images.

        Args:
            images: a path; an array (H, W, 3) of uint8 in BGR as OpenCV reads it (or grey, or BGRA); a folder; or any
                iterable of these.
            batch_size: how many images go through the model at once.
            progress: show a bar.
            skip_broken: give None for an image that cannot be read, rather than raise.

        Returns:
            one Result on the CPU for one image, else a list of them in order.

        Raises:
            ImageError: an image that is missing or cannot be decoded; the message names it.
        """
        found = [p.result for p in self.stream(images, batch_size, progress, skip_broken)]
        return found[0] if is_single(images) else found

    def stream(self, images: Source | Iterable[Source], batch_size: int = 1, progress: bool = False,
               skip_broken: bool = False) -> Iterator[Prediction]:
        """Like calling the detector, one image after another and without keeping them: for folders of any size.

        The next images are loaded while the model works on the present ones.
        """
        sources: Iterator[Source] = iter_sources(images)
        total = None
        if progress and isinstance(images, (str, Path, list, tuple)):
            sources = iter(counted := list(sources))
            total = len(counted)
        loaded = load_ahead(enumerate(sources), self._load, workers=min(4, batch_size + 1), ahead=2 * batch_size)
        bar = _bar(total) if progress else None
        try:
            while chunk := list(islice(loaded, batch_size)):
                predictions = [p for p, _ in chunk]
                broken = next((p.error for p in predictions if p.error is not None), None)
                if broken is not None and not skip_broken:
                    raise broken
                self._predict([(p, s) for p, s in chunk if s is not None])
                yield from predictions
                if bar is not None:
                    bar(len(chunk))
        finally:
            loaded.close()    # type: ignore[attr-defined]
            if bar is not None:
                bar(None)

    def _load(self, item: tuple[int, Source]) -> tuple[Prediction, Sample | None]:
        index, source = item
        prediction = Prediction(source_name(source, index), source)
        try:
            sample = self.pipeline(to_bgr(source) if isinstance(source, np.ndarray) else source)
            if sample is None:
                raise ImageError('the test pipeline drops it')
        except ImageError as e:
            named = str(e) if prediction.name in str(e) else f'{prediction.name}: {e}'
            prediction.error = ImageError(named)
            return prediction, None
        prediction.meta = sample.meta
        return prediction, sample

    @torch.no_grad()    # not inference_mode: its tensors refuse to be changed by the caller
    def _predict(self, chunk: list[tuple[Prediction, Sample]]) -> None:
        """Fill in the results of one batch."""
        if not chunk:
            return
        batch = self.preprocessor(collate([sample for _, sample in chunk]).to(self.device, non_blocking=True))
        images = batch.images.contiguous(memory_format=torch.channels_last)
        results = self.model.predict(images, batch.metas, rescale=True)    # type: ignore[operator]
        for (prediction, _), result in zip(chunk, results, strict=True):
            if self.score_thr is not None:
                result = result[result.scores >= self.score_thr]
            assert prediction.meta is not None
            prediction.result = clip(result.cpu(), prediction.meta.ori_shape)


def clip(result: Result, shape: tuple[int, int]) -> Result:
    """Cut boxes at the edges of an image of `shape` (h, w), and drop those of which nothing is left.

    A model looks at the padding of an image too, and takes some objects to go on there.
    """
    boxes = clip_boxes(result.boxes, result.boxes.new_tensor(shape))
    return result.replace(boxes=boxes)[(boxes[:, 2:] > boxes[:, :2]).all(dim=1)]


def _bar(total: int | None) -> Callable[[int | None], None]:
    """A progress bar on stderr: call it with a number of finished images, and with None at the end."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    progress = Progress(TextColumn('images'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                        console=Console(stderr=True))
    task = progress.add_task('', total=total)
    progress.start()
    return lambda n: progress.stop() if n is None else progress.update(task, advance=n)

