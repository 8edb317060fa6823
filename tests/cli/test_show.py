"""`omnidet test --show-dir` draws a results json on the test images."""

from __future__ import annotations

import json

import cv2
import numpy as np

from omnidet.cli.test import draw_results
from omnidet.demo.shapes import CLASSES, write_dataset


def test_detections_are_drawn_on_their_images_and_low_scores_are_not(tmp_path):
    write_dataset(tmp_path, dict(val=2), seed=1, size=96)
    dataset = dict(type='CocoDataset', data_root=str(tmp_path), ann_file='annotations/val.json',
                   data_prefix=dict(img='val/'), metainfo=dict(classes=CLASSES), test_mode=True, pipeline=[])
    cfg = dict(test_dataloader=dict(dataset=dataset))
    box = [10.0, 20.0, 60.0, 40.0]    # xywh

    def pictures(rows: list[dict], name: str) -> list[np.ndarray]:
        (tmp_path / 'results.json').write_text(json.dumps(rows))
        assert draw_results(cfg, tmp_path / 'results.json', tmp_path / name, 0.3) == 2
        paths = sorted((tmp_path / name).iterdir())
        assert [p.name for p in paths] == ['00001.jpg', '00002.jpg']
        return [np.asarray(cv2.imread(str(p))) for p in paths]

    bare = pictures([], 'bare')
    row = dict(image_id=2, category_id=3, bbox=box, score=0.9)
    drawn = pictures([row, dict(row, image_id=1, score=0.2)], 'drawn')
    assert np.array_equal(bare[0], drawn[0])
    mask = dict(size=[96, 96], counts=[96 * 30, 96 * 20, 96 * 46])    # the columns from 30 to 49
    masked = pictures([dict(row, segmentation=mask)], 'masked')
    tint = np.abs(masked[1].astype(int) - drawn[1]).max(axis=2)
    assert (tint[30:50, 32:48] > 5).mean() > 0.9 and tint[64:, 55:].max() <= 20
    change = np.abs(bare[1].astype(int) - drawn[1]).max(axis=2)
    assert (change[59:61, 15:65].max(axis=0) > 20).mean() > 0.7    # the lower edge, at y = 20 + 40
    assert (change[25:55, 69:71].max(axis=1) > 20).mean() > 0.7    # the right edge, at x = 10 + 60
    assert change[80:].max() <= 20    # beyond what JPEG spreads
