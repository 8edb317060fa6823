"""Files of proposals: boxes for each image of a data set, found by an earlier model."""

from __future__ import annotations

import json
import pickle
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from omnidet.checkpoints.unpickle import RefusedError, load
from omnidet.data.store import SharedArrays
from omnidet.errors import DatasetError


class ProposalStore:
    """The proposals of a data set's images in one block of shared memory.

    Args:
        boxes: for each image (P, 4) xyxy in pixels of its file, best first.
        scores: for each image (P,).
    """

    def __init__(self, boxes: Sequence[np.ndarray], scores: Sequence[np.ndarray]) -> None:
        self._arrays = SharedArrays(dict(
            boxes=np.concatenate([np.zeros((0, 4), np.float32), *boxes]).astype(np.float32),
            scores=np.concatenate([np.zeros(0, np.float32), *scores]).astype(np.float32),
            offsets=np.cumsum([0, *map(len, boxes)]).astype(np.int64)))

    def __len__(self) -> int:
        return len(self._arrays['offsets']) - 1

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The (P, 4) boxes and (P,) scores of an image."""
        start, end = self._arrays['offsets'][index:index + 2]
        return self._arrays['boxes'][start:end], self._arrays['scores'][start:end]


def read_proposals(path: Path, names: Sequence[str], ids: Sequence[Any]) -> ProposalStore:
    """Read a file of proposals for some images.

    It is a pickle or json of a dict from an image's name (with its folder or without: `val2017/1.jpg`) to its boxes
    (P, 4) or (P, 5) with scores, or a dict or `InstanceData` of `bboxes` and `scores`; a list of such, one for each
    image; or COCO's results json (rows of image_id, bbox as xywh, score). A pickle is read as data: nothing in it runs.

    Args:
        path: the file.
        names: the images' names, with their folders.
        ids: the images' ids.

    Raises:
        DatasetError: the file is missing or damaged, holds something else, or lacks an image.
    """
    if not path.is_file():
        raise DatasetError(f'{path}: there is no such file of proposals (proposal_file, relative to data_root)')
    found = _by_image(path, _content(path), names, ids)
    boxes, scores = [], []
    for name, entry in zip(names, found, strict=True):
        try:
            b, s = _entry(entry)
        except (TypeError, ValueError, KeyError) as e:
            raise DatasetError(f'{path}: the proposals of {name} are no boxes (P, 4) or (P, 5): {e}') from None
        best = np.argsort(-s, kind='stable')
        boxes.append(b[best])
        scores.append(s[best])
    return ProposalStore(boxes, scores)


def _content(path: Path) -> Any:
    try:
        if path.suffix == '.json':
            return json.loads(path.read_bytes())
        with path.open('rb') as file:
            return load(file)
    except RefusedError as e:
        raise DatasetError(f'{path}: the file names {e.name}, which is no data; proposals are arrays, lists and '
                           'dicts') from None
    except (pickle.UnpicklingError, EOFError, ValueError, IndexError, KeyError, AttributeError, TypeError) as e:
        raise DatasetError(f'{path}: this is no whole {path.suffix[1:]} file: {e}') from None


def _by_image(path: Path, content: Any, names: Sequence[str], ids: Sequence[Any]) -> list[Any]:
    """Each image's entry."""
    if isinstance(content, Mapping):
        known = {str(k): v for k, v in content.items()}
        spelt = [(name, '/'.join(Path(name).parts[-2:]), Path(name).name) for name in names]
        lacking = [s[1] for s in spelt if not any(n in known for n in s)]
        if lacking:
            raise DatasetError(f'{path}: there are no proposals for {lacking[0]} (and {len(lacking) - 1} others of '
                               f'{len(names)}); the file has {len(known)} images, such as {next(iter(known), None)!r}')
        return [next(known[n] for n in s if n in known) for s in spelt]
    if not isinstance(content, Sequence) or isinstance(content, str):
        raise DatasetError(f'{path}: proposals are a dict from names to boxes, or a list; found a '
                           f'{type(content).__name__}')
    if content and isinstance(content[0], Mapping) and 'image_id' in content[0]:
        rows = defaultdict(list)
        for row in content:
            x, y, w, h = row['bbox']
            rows[str(row['image_id'])].append([x, y, x + w, y + h, row.get('score', 1.0)])
        return [np.array(rows[str(i)], np.float32).reshape(-1, 5) for i in ids]
    if len(content) != len(names):
        raise DatasetError(f'{path}: a list of {len(content)} entries does not fit {len(names)} images; images that '
                           'filter_cfg leaves out count, so a dict from names is safer')
    return list(content)


def _entry(entry: Any) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (P, 4) and scores (P,) of one image."""
    values = entry if isinstance(entry, Mapping) else vars(entry) if hasattr(entry, 'bboxes') else None
    if values is not None:
        boxes = np.asarray(values['bboxes'], np.float32)
        boxes = boxes.reshape(-1, 4) if boxes.size == 0 else boxes
        scores = values.get('scores')
    else:
        boxes, scores = np.asarray(entry, np.float32), None
        boxes = boxes.reshape(-1, 4) if boxes.size == 0 else boxes
    if boxes.ndim != 2 or boxes.shape[1] not in (4, 5):
        raise ValueError(f'found an array of {boxes.shape}')
    if scores is None:
        scores = boxes[:, 4] if boxes.shape[1] == 5 else -np.arange(len(boxes))    # in the order that they have
    scores = np.asarray(scores, np.float32).reshape(-1)
    if len(scores) != len(boxes) or not np.isfinite(boxes).all():
        raise ValueError(f'{len(boxes)} boxes with {len(scores)} scores, or boxes that are not finite')
    return boxes[:, :4], scores
