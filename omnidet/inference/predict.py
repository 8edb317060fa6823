"""Detections of many images, written to a folder: pictures, and one json."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from faster_coco_eval.core import mask as mask_api
from torch import Tensor

from omnidet.data.transforms.loading import read_image
from omnidet.errors import OmniDetError
from omnidet.evaluation.rle import encode_masks, readable
from omnidet.files import written_whole
from omnidet.inference.detector import Detector, Prediction
from omnidet.inference.sources import Source, to_bgr
from omnidet.panoptic import ids_to_colors, segments_of
from omnidet.visualization import draw, write_jpg


@dataclass
class PredictSummary:
    """What `predict_to` did.

    Attributes:
        images: how many images were read.
        counts: detections of each class at or above the threshold, or segments of panoptic maps; most frequent first.
        broken: what is wrong with each image that could not be read.
        seconds: spent on finding, drawing and writing.
        json_path: all detections.
        panoptic_path: all panoptic segments; None where the model finds none.
        pictures: the drawn images.
    """

    images: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    seconds: float = 0.0
    json_path: Path | None = None
    panoptic_path: Path | None = None
    pictures: list[Path] = field(default_factory=list)


def predict_to(out: str | Path, detector: Detector, images: Source | Iterable[Source], score_thr: float = 0.3,
               batch_size: int = 1, pictures: bool = True, progress: bool = False) -> PredictSummary:
    """Find the objects in images and write what was found.

    `out/detections.json` is a COCO data set (images, categories, annotations with a score) that holds every detection
    of the model; `out/pictures` has the images with those drawn that score at least `score_thr`. An image that cannot
    be read is left out and named in the summary. Panoptic maps are written in COCO's form: `out/panoptic.json`, and
    a png for each image in `out/panoptic`; semantic maps as png files of labels in `out/semantic`, 255 where there is
    nothing.

    Args:
        out: the folder; it is made where it does not exist.
        detector: what finds them.
        images: as for calling the detector.
        score_thr: the lowest score that is drawn and counted.
        batch_size: how many images go through the model at once.
        pictures: draw.
        progress: show a bar.

    Raises:
        OmniDetError: not one image could be read.
    """
    out = Path(out)
    summary, counts, start = PredictSummary(json_path=out / 'detections.json'), Counter[str](), time.perf_counter()
    coco: dict[str, list[dict[str, Any]]] = {
        'images': [], 'categories': [{'id': k + 1, 'name': name} for k, name in enumerate(detector.classes)],
        'annotations': []}
    panoptic = {**coco, 'annotations': []}
    names: Counter[str] = Counter()
    for p in detector.stream(images, batch_size, progress, skip_broken=True):
        if p.result is None:
            summary.broken.append(str(p.error))
            continue
        summary.images += 1
        name = _file_name(p.name, names)
        found = p.result.labels[p.result.scores >= score_thr].tolist()
        _add(coco, p)
        if p.result.panoptic is not None:
            segments = _write_panoptic(out / 'panoptic' / f'{name}.png', p.result.panoptic, len(detector.classes))
            panoptic['annotations'].append({'image_id': len(coco['images']), 'file_name': f'{name}.png',
                                            'segments_info': segments})
            found = [s['category_id'] - 1 for s in segments]
        if p.result.sem_seg is not None:
            _write_png(out / 'semantic' / f'{name}.png', _labels(p.result.sem_seg, len(detector.classes)))
        counts.update(class_name(detector.classes, k) for k in found)
        if pictures:
            path = out / 'pictures' / f'{name}.jpg'
            write_jpg(path, draw(_pixels(p.source), p.result, detector.classes, score_thr))
            summary.pictures.append(path)
    if not summary.images:
        raise OmniDetError('not one image could be read\n  ' + '\n  '.join(summary.broken[:5] or ['none were given']))
    with written_whole(out / 'detections.json') as path:
        path.write_text(json.dumps(coco), encoding='utf-8')
    if panoptic['annotations']:
        summary.panoptic_path = out / 'panoptic.json'
        with written_whole(summary.panoptic_path) as path:
            path.write_text(json.dumps(panoptic), encoding='utf-8')
    summary.counts, summary.seconds = dict(counts.most_common()), time.perf_counter() - start
    return summary


def class_name(classes: tuple[str, ...], label: int) -> str:
    """A label's name, or its number where it has none."""
    return classes[label] if label < len(classes) else str(label)


def _add(coco: dict[str, list[dict[str, Any]]], p: Prediction) -> None:
    """Append one image and its detections to a COCO json."""
    assert p.result is not None and p.meta is not None
    height, width = p.meta.ori_shape
    image_id = len(coco['images']) + 1
    coco['images'].append({'id': image_id, 'file_name': p.name, 'width': int(width), 'height': int(height)})
    masks = None if p.result.instance_masks is None else encode_masks(p.result.instance_masks)
    found = zip(p.result.boxes.tolist(), p.result.scores.tolist(), p.result.labels.tolist(), strict=True)
    for k, ((x1, y1, x2, y2), score, label) in enumerate(found):
        x, y, w, h = (round(v, 3) for v in (x1, y1, x2 - x1, y2 - y1))
        row = {'id': len(coco['annotations']) + 1, 'image_id': image_id, 'category_id': label + 1,
               'bbox': [x, y, w, h], 'area': round(w * h, 3), 'score': round(score, 6), 'iscrowd': 0}
        if masks is not None:
            row |= {'area': int(mask_api.area(masks[k])), 'segmentation': readable(masks[k])}
        coco['annotations'].append(row)


def _pixels(source: Source) -> np.ndarray:
    return to_bgr(source if isinstance(source, np.ndarray) else read_image(source))


def _file_name(name: str, seen: Counter[str]) -> str:
    """`street` for `a/street.png`, and `street_2` for the next one of that name."""
    stem = Path(name).stem
    seen[stem] += 1
    return stem if seen[stem] == 1 else f'{stem}_{seen[stem]}'


def _write_panoptic(path: Path, panoptic: Tensor, num_classes: int) -> list[dict[str, Any]]:
    """Write a map as a png; its segments as COCO's json has them, category ids counting from 1."""
    ids, segments = segments_of(panoptic.numpy(), num_classes)
    _write_png(path, ids_to_colors(ids))
    return [{'id': s['id'], 'category_id': s['label'] + 1, 'area': s['area']} for s in segments]


def _labels(sem_seg: Tensor, num_classes: int) -> np.ndarray:
    """(H, W) uint8 labels, or uint16 where there are more; 255, or 65535, where there is nothing."""
    kind = np.uint8 if num_classes <= 255 else np.uint16
    labels = sem_seg.numpy()
    return np.where((labels >= 0) & (labels < num_classes), labels, np.iinfo(kind).max).astype(kind)


def _write_png(path: Path, image: np.ndarray) -> None:
    with written_whole(path) as temporary:
        temporary.write_bytes(cv2.imencode('.png', image)[1].tobytes())
