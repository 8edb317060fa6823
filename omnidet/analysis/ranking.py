"""The images in which a model does best and worst, with what it found drawn beside what is there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from omnidet.analysis.results import Found
from omnidet.data.transforms.loading import read_image
from omnidet.evaluation.voc import Truth, average_precision, match
from omnidet.structures import Result
from omnidet.visualization import contact_sheet, draw, write_jpg

IOU_THRS = tuple(0.5 + 0.05 * i for i in range(10))


def image_score(found: Found) -> float:
    """Mean average precision in one image alone: over the classes of its objects, and IoUs of 0.5, 0.55, ..., 0.95.

    An image without objects scores 1, less the best score of what was found in it.
    """
    objects = found.record['instances']
    truth = Truth(np.array([x['bbox'] for x in objects], float).reshape(-1, 4),
                  np.array([x['bbox_label'] for x in objects], np.int64),
                  np.array([bool(x.get('ignore_flag')) for x in objects], bool))
    result = found.result
    record = ('', result.boxes.double().numpy(), result.scores.double().numpy(), result.labels.numpy())
    scores = []
    for label in np.unique(truth.labels[~truth.difficult]):
        for thr in IOU_THRS:
            scores.append(average_precision(*match([record], [truth], int(label), thr).curve()))
    return float(np.mean(scores)) if scores else 1 - float(record[2].max(initial=0.0))


def rank(found: Sequence[Found], score_thr: float = 0.0) -> list[tuple[float, Found]]:
    """The images with their scores, best first.

    Args:
        found: the images.
        score_thr: the lowest score of a detection that counts.
    """
    kept = [f._replace(result=f.result[f.result.scores >= score_thr]) for f in found]
    return sorted(((image_score(f), f) for f in kept), key=lambda pair: -pair[0])


def draw_ranked(folder: Path, ranked: Sequence[tuple[float, Found]], classes: Sequence[str], most: int = 20,
                score_thr: float = 0.3) -> tuple[list[Path], list[Path]]:
    """Draw the best images into `folder/good` and the worst into `folder/bad`, and a sheet of each beside them.

    On the left is what was found, on the right what is there. Names begin with the image's score.

    Args:
        folder: where.
        ranked: what `rank` gives.
        classes: the classes' names.
        most: how many of each; no image is in both.
        score_thr: the lowest score that is drawn.
    """
    most = min(most, len(ranked) // 2) if len(ranked) > 1 else len(ranked)
    sides = {'good': ranked[:most], 'bad': ranked[::-1][:most] if len(ranked) > 1 else []}
    good, bad = (_draw_side(folder, name, side, classes, score_thr) for name, side in sides.items())
    return good, bad


def _draw_side(folder: Path, name: str, side: Sequence[tuple[float, Found]], classes: Sequence[str],
               score_thr: float) -> list[Path]:
    paths, pictures, captions = [], [], []
    for score, found in side:
        picture = side_by_side(found, classes, score_thr)
        stem = Path(found.record['img_path']).stem
        path = folder / name / f'{score:.3f}_{stem}.jpg'
        paths.append(write_jpg(path if path not in paths else path.with_stem(f'{path.stem}_{found.record["img_id"]}'),
                            picture))
        pictures.append(cv2.resize(picture, None, fx=(f := min(1, 800 / picture.shape[1])), fy=f,
                                   interpolation=cv2.INTER_AREA))
        captions.append(f'{score:.3f}  {stem}')
    if pictures:
        sheet = contact_sheet([np.asarray(p, np.uint8) for p in pictures], columns=2, tile=640, captions=captions)
        write_jpg(folder / f'{name}.jpg', sheet)
    return paths


def side_by_side(found: Found, classes: Sequence[str], score_thr: float = 0.3) -> np.ndarray:
    """An image with what was found, and beside it with what is there: (H, 2 * W, 3) uint8 in BGR."""
    image = read_image(found.record['img_path'])
    objects = found.record['instances']
    truth = Result(torch.tensor([x['bbox'] for x in objects], dtype=torch.float32).reshape(-1, 4),
                   torch.ones(len(objects)), torch.tensor([x['bbox_label'] for x in objects], dtype=torch.long))
    return np.concatenate([draw(image, found.result, classes, score_thr),
                           np.full((image.shape[0], 6, 3), 250, np.uint8),
                           draw(image, truth, classes, 0, with_scores=False)], axis=1)
