"""The annotations of a data set in one block of shared memory, without a Python object per image or box.

A list of dicts would be copied into every worker process: under fork by the reference counts that each access writes,
under spawn by pickling. Flat arrays in shared memory are mapped once, whatever the number of workers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

NO_MASK, POLYGONS, COMPRESSED_RLE, RLE = range(4)


class SharedArrays:
    """Named arrays in one tensor of shared memory.

    Args:
        arrays: what to copy into it.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.layout: dict[str, tuple[str, tuple[int, ...], int]] = {}
        size = 0
        for name, array in arrays.items():
            self.layout[name] = (array.dtype.str, array.shape, size)
            size += -(-array.nbytes // 64) * 64
        self.buffer = torch.zeros(max(size, 1), dtype=torch.uint8)
        # Where /dev/shm is too small, as in containers, forked workers still share the pages: nothing writes to them.
        with contextlib.suppress(RuntimeError):
            self.buffer.share_memory_()
        self._views: dict[str, np.ndarray] = {}
        for name, array in arrays.items():
            self[name][...] = array

    def __getitem__(self, name: str) -> np.ndarray:
        """The array `name`, as a view."""
        if name not in self._views:
            dtype, shape, start = self.layout[name]
            nbytes = np.dtype(dtype).itemsize * int(np.prod(shape))
            self._views[name] = self.buffer.numpy()[start:start + nbytes].view(dtype).reshape(shape)
        return self._views[name]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, '_views': {}}


class AnnotationStore:
    """Images and their instances.

    Args:
        images: for each image a dict of img_id, file_name, width, height, and if need be seg_map_path.
        counts: (I,) how many instances each image has; they follow each other in the arrays below.
        boxes: (M, 4) xyxy in pixels.
        labels: (M,) indices into the data set's classes.
        ignore: (M,) bool, True for a crowd.
        masks: M masks in COCO's form: polygons, an RLE dict, or None; None where no masks are kept.
        segment_ids: (M,) the value of each instance's pixels in a panoptic map; None where there is none.
    """

    def __init__(self, images: Sequence[Mapping[str, Any]], counts: np.ndarray, boxes: np.ndarray, labels: np.ndarray,
                 ignore: np.ndarray, masks: Sequence[Any] | None = None,
                 segment_ids: np.ndarray | None = None) -> None:
        ids = [image['img_id'] for image in images]
        self._ids_are_ints = all(isinstance(i, int) for i in ids)
        arrays: dict[str, np.ndarray] = dict(
            sizes=np.array([(i['width'], i['height']) for i in images], np.int32).reshape(-1, 2),
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            boxes=np.asarray(boxes, np.float32).reshape(-1, 4),
            labels=np.asarray(labels, np.int32),
            ignore=np.asarray(ignore, np.uint8))
        arrays.update(_pack('name', [str(i['file_name']).encode() for i in images]))
        if any(i.get('seg_map_path') for i in images):
            arrays.update(_pack('seg', [str(i.get('seg_map_path') or '').encode() for i in images]))
        if self._ids_are_ints:
            arrays['ids'] = np.array(ids, np.int64)
        else:
            arrays.update(_pack('id', [str(i).encode() for i in ids]))
        if masks is not None:
            kinds, blobs = zip(*map(encode_mask, masks), strict=True) if len(masks) else ((), ())
            arrays.update(_pack('mask', blobs))
            arrays['mask_kinds'] = np.array(kinds, np.uint8)
        if segment_ids is not None:
            arrays['segment_ids'] = np.asarray(segment_ids, np.int64)
        self.has_masks = masks is not None
        self._arrays = SharedArrays(arrays)
        self._n = len(images)

    @classmethod
    def from_records(cls, records: Sequence[Mapping[str, Any]]) -> AnnotationStore:
        """From MMDetection's form: for each image a dict of img_path, img_id, height, width and instances."""
        instances = [i for record in records for i in record.get('instances', ())]
        return cls([dict(img_id=r.get('img_id', n), file_name=r['img_path'], width=r.get('width', 0),
                         height=r.get('height', 0), seg_map_path=r.get('seg_map_path')) for n, r in enumerate(records)],
                   counts=np.array([len(r.get('instances', ())) for r in records], np.int64),
                   boxes=np.array([i['bbox'] for i in instances], np.float32),
                   labels=np.array([i['bbox_label'] for i in instances]),
                   ignore=np.array([i.get('ignore_flag', 0) for i in instances]),
                   masks=[i.get('mask') for i in instances] if any('mask' in i for i in instances) else None)

    def __len__(self) -> int:
        return self._n

    @property
    def buffer(self) -> torch.Tensor:
        """The one block of memory that everything lies in."""
        return self._arrays.buffer

    @property
    def sizes(self) -> np.ndarray:
        """(I, 2) int32, (width, height) of every image."""
        return self._arrays['sizes']

    @property
    def ids(self) -> list[int] | list[str]:
        """The images' ids."""
        return self._arrays['ids'].tolist() if self._ids_are_ints else [self._text('id', i) for i in range(len(self))]

    def image(self, index: int) -> dict[str, Any]:
        """img_id, file_name, width, height and seg_map_path (or None) of an image."""
        width, height = self.sizes[index].tolist()
        return dict(img_id=int(self._arrays['ids'][index]) if self._ids_are_ints else self._text('id', index),
                    file_name=self._text('name', index), width=width, height=height,
                    seg_map_path=(self._text('seg', index) or None) if 'seg' in self._arrays.layout else None)

    def labels(self, index: int) -> np.ndarray:
        """(G,) int32 labels of an image's instances."""
        start, end = self._arrays['offsets'][index:index + 2]
        return self._arrays['labels'][start:end]

    def instances(self, index: int) -> list[dict[str, Any]]:
        """An image's instances as dicts of bbox (xyxy), bbox_label, ignore_flag and, where kept, mask and id."""
        start, end = self._arrays['offsets'][index:index + 2].tolist()
        rows = zip(self._arrays['boxes'][start:end].tolist(), self._arrays['labels'][start:end].tolist(),
                   self._arrays['ignore'][start:end].tolist(), strict=True)
        out: list[dict[str, Any]] = [dict(bbox=b, bbox_label=c, ignore_flag=f) for b, c, f in rows]
        if self.has_masks:
            for n, instance in enumerate(out, start):
                instance['mask'] = decode_mask(int(self._arrays['mask_kinds'][n]), self._blob('mask', n))
        if 'segment_ids' in self._arrays.layout:
            for n, instance in enumerate(out, start):
                instance['id'] = int(self._arrays['segment_ids'][n])
        return out

    def _blob(self, name: str, index: int) -> bytes:
        start, end = self._arrays[f'{name}_offsets'][index:index + 2]
        return self._arrays[f'{name}_bytes'][start:end].tobytes()

    def _text(self, name: str, index: int) -> str:
        return self._blob(name, index).decode()


def encode_mask(mask: Any) -> tuple[int, bytes]:
    """An instance's mask in COCO's form as a kind and bytes; a malformed one is no mask.

    Polygons: their number, their lengths (int32), then all coordinates (float32). RLE: h, w (int32), then the counts.
    """
    if isinstance(mask, Mapping) and 'counts' in mask and len(mask.get('size', ())) == 2:
        size, counts = np.array(mask['size'], np.int32).tobytes(), mask['counts']
        if isinstance(counts, (str, bytes)):
            return COMPRESSED_RLE, size + (counts.encode() if isinstance(counts, str) else counts)
        return RLE, size + np.array(counts, np.int32).tobytes()
    if isinstance(mask, (list, tuple)) and len(mask):
        mask = [mask] if isinstance(mask[0], (int, float)) else mask
        parts = [np.asarray(p, np.float32).reshape(-1) for p in mask if len(p) >= 6 and len(p) % 2 == 0]
        if parts:
            header = np.array([len(parts), *map(len, parts)], np.int32)
            return POLYGONS, header.tobytes() + np.concatenate(parts).tobytes()
    return NO_MASK, b''


def decode_mask(kind: int, data: bytes) -> Any:
    """The mask that `encode_mask` made `kind` and `data` from."""
    if kind == POLYGONS:
        n = int(np.frombuffer(data, np.int32, 1)[0])
        lengths = np.frombuffer(data, np.int32, n, offset=4)
        # the decimals of the file again, on which it depends how COCO rounds a corner
        points = np.frombuffer(data, np.float32, offset=4 + 4 * n).astype(np.float64).round(3)
        return np.split(points, np.cumsum(lengths)[:-1])
    if kind in (RLE, COMPRESSED_RLE):
        size = np.frombuffer(data, np.int32, 2).tolist()
        return dict(size=size, counts=data[8:] if kind == COMPRESSED_RLE else np.frombuffer(data, np.int32, offset=8))
    return None


def _pack(name: str, blobs: Sequence[bytes]) -> dict[str, np.ndarray]:
    """Byte strings of any length as one array of bytes, and where each begins."""
    return {f'{name}_bytes': np.frombuffer(b''.join(blobs), np.uint8),
            f'{name}_offsets': np.concatenate([[0], np.cumsum([len(b) for b in blobs])]).astype(np.int64)}
