"""`omnidet test`: the pictures, results and figures that are asked for."""

from __future__ import annotations

import json
import pickle

import cv2
import numpy as np
import torch

from omnidet.checkpoints import save_checkpoint
from omnidet.cli import main
from omnidet.cli.test import draw_results
from omnidet.config import load_config
from omnidet.demo.shapes import CLASSES, write_dataset
from omnidet.models import build_model


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


def test_a_test_writes_results_pictures_and_the_figures_that_are_asked_for(tmp_path, capsys):
    write_dataset(tmp_path / 'data', dict(train=1, val=3), seed=1, size=96)
    (tmp_path / 'c.py').write_text("_base_ = 'omnidet::demo/rtmdet_shapes.py'\ntest_dataloader = dict(num_workers=0)\n")
    torch.manual_seed(0)
    model = build_model(load_config(tmp_path / 'c.py'))
    save_checkpoint(tmp_path / 'w.pth', dict(state_dict=model.state_dict(), meta={}))
    line = ['test', str(tmp_path / 'c.py'), str(tmp_path / 'w.pth'), '--data-root', str(tmp_path / 'data'),
            '--device', 'cpu', '--work-dir', str(tmp_path / 'work')]
    asked = ['--eval', 'proposal', '--eval-options', 'proposal_nums=[1,7]', '--show-dir', str(tmp_path / 'shown')]
    assert main([*line, *asked, '--out', str(tmp_path / 'r.pkl')]) == 0
    out = capsys.readouterr().out
    assert 'AR@7' in out and 'AR@100' not in out
    assert f'results of 3 images: {tmp_path / "r.pkl"}' in out
    assert len(list((tmp_path / 'shown').iterdir())) == 3
    assert main([*line, '--show', '--fuse-conv-bn', '--out', str(tmp_path / 'f.pkl')]) == 0
    assert len(list((tmp_path / 'work/show').iterdir())) == 3
    plain, fused = (pickle.loads((tmp_path / name).read_bytes()) for name in ('r.pkl', 'f.pkl'))
    for a, b in zip(plain, fused):
        assert np.allclose(a['pred_instances']['scores'], b['pred_instances']['scores'], atol=1e-4)
    assert main([*line, '--format-only', '--out', str(tmp_path / 'g.json')]) == 0
    assert (tmp_path / 'g.bbox.json').is_file()
    assert 'mAP' not in capsys.readouterr().out.split('tensors loaded')[-1]
