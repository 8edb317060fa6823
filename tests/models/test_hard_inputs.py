"""Every family takes images without objects, crowds, one-pixel objects and five hundred objects, whole or padded."""

from __future__ import annotations

import pytest
import torch

import omnidet
from omnidet.structures import ImageMeta, Targets

H, W = 128, 160
SMALL = (96, 130)    # (h, w) of the second image, which is padded
FAST = ('rtmdet/rtmdet_tiny_8xb32-300e_coco', 'retinanet/retinanet_r18_fpn_1x_coco',
        'mask_rcnn/mask-rcnn_r18_fpn_8xb8-amp-lsj-200e_coco')
SLOW = ('rpn/rpn_r50_fpn_1x_coco', 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco',
        'faster_rcnn/faster-rcnn_r50_fpn_ohem_1x_coco', 'faster_rcnn/faster-rcnn_r50-caffe-c4_1x_coco',
        'fast_rcnn/fast-rcnn_r50_fpn_1x_coco', 'cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco',
        'swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco', 'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco',
        'atss/atss_r50_fpn_1x_coco', 'gfl/gfl_r50_fpn_1x_coco', 'tood/tood_r50_fpn_1x_coco',
        'yolox/yolox_tiny_8xb8-300e_coco', 'centernet/centernet_r18_8xb16-crop512-140e_coco',
        'centernet/centernet-update_r18_fpn_8xb8-amp-lsj-200e_coco',
        'cornernet/cornernet_hourglass104_8xb6-210e-mstest_coco',
        'centripetalnet/centripetalnet_hourglass104_16xb6-crop511-210e-mstest_coco',
        'solov2/solov2-light_r18_fpn_ms-3x_coco',
        'condinst/condinst_r50_fpn_ms-poly-90k_coco_instance', 'rtmdet/rtmdet-ins_tiny_8xb32-300e_coco',
        'detr/detr_r50_8xb2-150e_coco', 'deformable_detr/deformable-detr-refine-twostage_r50_16xb2-50e_coco',
        'dino/dino-4scale_r50_8xb2-12e_coco', 'mask2former/mask2former_r50_8xb2-lsj-50e_coco',
        'mask2former/mask2former_r50_8xb2-lsj-50e_coco-panoptic')
PAIRS = (('none', 'none'), ('crowd', 'one'), ('pixel', 'flat'), ('many', 'none'), ('same', 'one'))


def boxes_of(kind: str, size: tuple[int, int]) -> torch.Tensor:
    h, w = size
    if kind == 'many':
        corner = torch.rand(500, 2) * torch.tensor([w - 20.0, h - 20.0])
        return torch.cat([corner, corner + 2 + torch.rand(500, 2) * 18], 1)
    one = [10.0, 12.0, 60.0, 70.0]
    return torch.tensor({'none': [], 'one': [one], 'same': [one] * 3, 'crowd': [[10.0, 12.0, 90.0, 90.0]],
                         'pixel': [[5.0, 6.0, 6.0, 7.0], [30.0, 30.0, 31.0, 31.0]],
                         'flat': [[5.0, 6.0, 5.0, 6.0], one]}[kind]).reshape(-1, 4)


def item(kind: str, size: tuple[int, int], cfg: dict) -> dict:
    boxes, model = boxes_of(kind, size), str(cfg)
    out = {'boxes': boxes, 'labels': torch.arange(len(boxes)) % 80, 'size': size,
           'ignore': torch.full((len(boxes),), kind == 'crowd')}
    if 'ask' in model or 'CondInst' in model or 'SOLO' in model:
        masks = torch.zeros(len(boxes), *size, dtype=torch.bool)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
            mask[y1:y2, x1:x2] = True
        out['masks'] = masks
    if "'num_stuff_classes': 53" in model:
        out['sem_seg'] = torch.full(size, 100)
    if cfg['type'] == 'FastRCNN':
        out['proposals'] = torch.tensor([[0.0, 0.0, 50.0, 50.0], [10.0, 10.0, 60.0, 60.0]])
    return out


@pytest.mark.parametrize('config', [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_losses_gradients_and_results_are_sound(config):
    torch.manual_seed(0)
    cfg = omnidet.load_config(config).model
    model = omnidet.build_model(cfg).train()
    images = torch.randn(2, 3, H, W)
    images[1, :, SMALL[0]:], images[1, :, :, SMALL[1]:] = 0, 0
    for pair in PAIRS:
        model.zero_grad()
        losses = model.loss(images, Targets.collate([item(pair[0], (H, W), cfg), item(pair[1], SMALL, cfg)], (H, W)))
        total = sum(v for k, v in losses.items() if 'loss' in k)
        total.backward()
        assert torch.isfinite(total), (pair, {k: float(v) for k, v in losses.items()})
        wild = [k for k, p in model.named_parameters() if p.grad is not None and not torch.isfinite(p.grad).all()]
        assert not wild, (pair, wild)
    given = {'proposals': torch.tensor([[0.0, 0.0, 50.0, 50.0]])} if cfg['type'] == 'FastRCNN' else {}
    metas = [ImageMeta((H, W), (2 * H, 2 * W), (2.0 ** -1, 2.0 ** -1), (H, W), **given),
             ImageMeta(SMALL, SMALL, (1.0, 1.0), (H, W), **given)]
    model.eval()
    with torch.no_grad():
        for result, meta in zip(model.predict(images, metas), metas, strict=True):
            assert len(result.boxes) == len(result.scores) == len(result.labels)
            assert torch.isfinite(result.boxes).all() and ((result.scores >= 0) & (result.scores <= 1)).all()
            if result.masks is not None:
                assert result.masks.shape == (len(result), *meta.ori_shape)
            if result.panoptic is not None:
                assert result.panoptic.shape == meta.ori_shape
