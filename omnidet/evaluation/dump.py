"""Results of every image in one file, in MMDetection 3.x's layout, for tools that look at them later."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from omnidet.errors import ConfigError
from omnidet.evaluation.rle import encode_masks
from omnidet.files import written_whole
from omnidet.registry import METRICS
from omnidet.structures import ImageMeta, Result

SUFFIXES = ('.pkl', '.pickle')


@METRICS.register
class DumpDetResults:
    """Write what was found in each image to a pickle; it measures nothing.

    The file is a list in the order of the data set. Each item is a dict of `img_id`, `img_path`, `ori_shape` (h, w),
    `img_shape`, `scale_factor`, and `pred_instances`: `bboxes` (K, 4) float32 xyxy in pixels of the image's file,
    `scores` (K,) float32, `labels` (K,) int64, and where there are masks `masks`, K dicts of compressed run lengths.
    There is `pred_panoptic_seg` or `pred_sem_seg` with `sem_seg` (1, H, W) int32 where the model gives such maps.
    Arrays are NumPy's, everything else is plain Python: `omnidet.analysis.results` reads it without running code.

    Args:
        out_file_path: the file, which ends in .pkl or .pickle.
        collect_device: accepted; the engine gathers the records over ranks by itself.
        collect_dir: accepted, as `collect_device`.
        dataset: what is evaluated; its images give the order. The engine gives it.
        tell: whether the report says where the file is.

    Raises:
        ConfigError: the file has another suffix.
    """

    def __init__(self, out_file_path: str | Path, collect_device: str = 'cpu', collect_dir: str | None = None,
                 dataset: Any = None, tell: bool = True) -> None:
        self.path, self.tell = Path(out_file_path), tell
        if self.path.suffix not in SUFFIXES:
            raise ConfigError(f'DumpDetResults.out_file_path: {str(out_file_path)!r} ends in {self.path.suffix!r}; '
                              f'take one of {", ".join(SUFFIXES)}')
        self.dataset = dataset
        self.records: list[Any] = []
        self._report = ''

    def update(self, results: list[Result], metas: list[ImageMeta]) -> None:
        """Take in the results of some images; masks are encoded at once, so that little memory is held."""
        self.records += [(str(meta.img_id), as_item(result, meta))
                         for result, meta in zip(results, metas, strict=True)]

    def compute(self, records: list[Any] | None = None) -> dict[str, float]:
        """Write `records` (its own by default) to the file; there are no figures."""
        items = dict(self.records if records is None else records)
        order = items if self.dataset is None else map(str, self.dataset.image_ids)
        chosen = [items[k] for k in order if k in items]
        with written_whole(self.path) as temporary, temporary.open('wb') as f:
            pickle.dump(chosen, f, protocol=4)
        self._report = f'results of {len(chosen)} images: {self.path}' if self.tell else ''
        return {}

    def report(self) -> str:
        """What was written where."""
        return self._report

    def reset(self) -> None:
        """Forget all records."""
        self.records = []


def as_item(result: Result, meta: ImageMeta) -> dict[str, Any]:
    """What the file holds of one image."""
    instances: dict[str, Any] = {'bboxes': result.boxes.detach().float().cpu().numpy(),
                                 'scores': result.scores.detach().float().cpu().numpy(),
                                 'labels': result.labels.cpu().numpy()}
    if result.instance_masks is not None:
        instances['masks'] = encode_masks(result.instance_masks)
    item = {'img_id': meta.img_id, 'img_path': meta.img_path, 'ori_shape': _plain(meta.ori_shape),
            'img_shape': _plain(meta.img_shape), 'scale_factor': _plain(meta.scale_factor),
            'pred_instances': instances}
    for name, found in (('pred_panoptic_seg', result.panoptic), ('pred_sem_seg', result.sem_seg)):
        if found is not None:
            item[name] = {'sem_seg': found.int().cpu().numpy()[None]}    # (1, H, W)
    return item


def _plain(values: Any) -> tuple[Any, ...]:
    """Numbers of Python's own kinds, whichever library's they were."""
    return tuple(v.item() if hasattr(v, 'item') else v for v in values)
