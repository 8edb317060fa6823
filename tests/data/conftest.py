"""Small data sets on disk, and images in which every box is painted in its own colour."""

import json

import cv2
import numpy as np
import pytest


@pytest.fixture
def make_coco(tmp_path):
    """A COCO set: boxes per image as (x, y, w, h, category) or dicts; images are noise, so jpegs differ."""
    def make(boxes_of_images, sizes=None, names=('cat', 'dog'), name='ann.json', write_images=True, **changes):
        folder = tmp_path / 'img'
        folder.mkdir(exist_ok=True)
        data = dict(images=[], annotations=[], categories=[dict(id=10 * (i + 1), name=c) for i, c in enumerate(names)])
        for n, boxes in enumerate(boxes_of_images):
            w, h = sizes[n] if sizes else (64, 48)
            if write_images:
                noise = np.random.default_rng(n).integers(0, 255, (h, w, 3), np.uint8)
                cv2.imwrite(str(folder / f'{n}.png'), noise)
            data['images'].append(dict(id=n, file_name=f'{n}.png', width=w, height=h))
            for box in boxes:
                ann = box if isinstance(box, dict) else dict(bbox=list(box[:4]), category_id=box[4])
                number, area = len(data['annotations']) + 1, ann['bbox'][2] * ann['bbox'][3]
                data['annotations'].append(dict(dict(id=number, image_id=n, iscrowd=0, area=area), **ann))
        data.update(changes)
        (tmp_path / name).write_text(json.dumps(data))
        return dict(type='CocoDataset', data_root=str(tmp_path), ann_file=name, data_prefix=dict(img='img'),
                    metainfo=dict(classes=tuple(names)))
    return make


@pytest.fixture
def painted():
    """Results with boxes painted into the image, and masks that fill the boxes: `painted('bitmap' or 'polygon')`."""
    from omnidet.data.masks import BitmapMasks, PolygonMasks

    def make(kind='bitmap', size=(60, 80), boxes=((8, 12, 40, 32), (48, 20, 72, 52)), colours=None):
        h, w = size
        img = np.full((h, w, 3), 20, np.uint8)
        masks = np.zeros((len(boxes), h, w), np.uint8)
        polygons = []
        for n, (x1, y1, x2, y2) in enumerate(boxes):
            img[y1:y2, x1:x2] = (colours or (100, 180, 220, 250))[n]
            masks[n, y1:y2, x1:x2] = 1
            polygons.append([[x1, y1, x2, y1, x2, y2, x1, y2]])
        return dict(
            img=img, img_shape=(h, w), ori_shape=(h, w), img_id=0, img_path='painted.png',
            gt_bboxes=np.array(boxes, np.float32).reshape(-1, 4), gt_bboxes_labels=np.arange(len(boxes)),
            gt_ignore_flags=np.zeros(len(boxes), bool),
            gt_masks=BitmapMasks(masks, h, w) if kind == 'bitmap' else PolygonMasks(polygons, h, w))
    return make
