"""Faster R-CNN with ResNet-50 and FPN on a CPU beside torchvision's, with the same weights and the same work.

    python benchmarks/two_stage.py [--threads 2] [--pairs 5] [--cpu-time] [--only predict] [--out two_stage.json]

Ours is the config `torchvision/faster-rcnn_r50_fpn_coco` as the Detector runs it, theirs `FasterRCNN` as its users call
it, with random weights: 1,000 proposals, 100 detections out of 1,000 candidates, and in the training step 512 RoIs of
an image with eight objects, norms and the first stage frozen. Both are measured in turns, pair by pair, so that what
else the machine does falls on both; a ratio is the median over the pairs. Then where either's time goes, by stages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torchvision
from side_by_side import Timer, arguments, batch_of, compare, objects, report, training_step
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

import omnidet
from omnidet.checkpoints.torchvision_detection import convert_torchvision_detection
from omnidet.inference.fuse import fuse_conv_bn
from omnidet.structures import ImageMeta

CONFIG = 'torchvision/faster-rcnn_r50_fpn_coco'
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main() -> None:
    args = arguments(__doc__, (800, 1216))
    torch.manual_seed(0)
    image = torch.rand(3, *args.size)
    theirs = their_model(args.size)
    ours = our_model(theirs, image)
    rows = []
    if args.only != 'train':
        rows.append(compare('prediction', *predictions(ours, theirs, image), args.pairs))
    if args.only != 'predict':
        rows.append(compare('training step', *training_steps(ours, theirs, image), args.pairs))
    report(args, rows, 'Faster R-CNN R50-FPN, fp32, one image', 'torchvision', torchvision.__version__)


def their_model(size: tuple[int, int]) -> FasterRCNN:
    backbone = resnet_fpn_backbone(backbone_name='resnet50', weights=None, norm_layer=FrozenBatchNorm2d,
                                   trainable_layers=3)
    model = FasterRCNN(backbone, 91, min_size=min(size), max_size=max(size)).eval()
    nn.init.normal_(model.rpn.head.cls_logits.weight, 0, 0.1)    # scores that differ, boxes that move
    nn.init.normal_(model.rpn.head.bbox_pred.weight, 0, 0.003)
    nn.init.normal_(model.roi_heads.box_predictor.bbox_pred.weight, 0, 0.02)
    nn.init.normal_(model.roi_heads.box_predictor.cls_score.weight, 0, 0.05)

    def settle(module: nn.Module, args: tuple[Tensor]) -> None:
        module.running_mean, module.running_var = args[0].mean((0, 2, 3)), args[0].var((0, 2, 3))

    hooks = [m.register_forward_pre_hook(settle) for m in model.modules() if isinstance(m, FrozenBatchNorm2d)]
    with torch.no_grad():
        model.backbone(torch.randn(1, 3, *size))
    for hook in hooks:
        hook.remove()
    return model


def our_model(theirs: FasterRCNN, image: Tensor) -> nn.Module:
    """Ours with their weights; both get the threshold that leaves 1,000 candidates, and as many proposals."""
    scores: list[Tensor] = []
    hook = theirs.roi_heads.box_predictor.register_forward_hook(
        lambda module, args, out: scores.append(out[0].softmax(1)[:, 1:].flatten()))
    with torch.no_grad():
        theirs([image])
    hook.remove()
    threshold = float(scores[0].sort(descending=True).values[1000])
    theirs.roi_heads.score_thresh = threshold
    cfg = omnidet.load_config(CONFIG)
    cfg.model.backbone.norm_cfg.eps = 1e-5
    cfg.model.test_cfg.rcnn.score_thr = threshold
    cfg.model.train_cfg.rpn_proposal.max_per_img = 2000
    model: nn.Module = omnidet.build_model(cfg)
    model.load_state_dict(convert_torchvision_detection(theirs.state_dict()), strict=False)    # but num_batches_tracked
    return model.to(memory_format=torch.channels_last)


def normalised(image: Tensor) -> Tensor:
    mean, std = (torch.tensor(v)[:, None, None] for v in (MEAN, STD))
    return ((image - mean) / std)[None].contiguous(memory_format=torch.channels_last)


def predictions(ours: Any, theirs: Any, image: Tensor) -> tuple[Callable[[], Any], Callable[[], Any], Timer, Timer]:
    """Both as their users run them, and the timers of their stages."""
    model: Any = fuse_conv_bn(ours).eval().requires_grad_(False)
    theirs.eval()
    size = (image.shape[1], image.shape[2])
    meta = ImageMeta(size, size)
    mine, others = timers(model, theirs)

    @torch.no_grad()
    def predict() -> Any:
        with mine('preprocessing'):
            x = normalised(image)
        return model.predict(x, [meta])[0].boxes

    @torch.no_grad()
    def their_predict() -> Any:
        return theirs([image])[0]['boxes']

    a, b = predict(), their_predict()
    same = int((torch.cdist(a, b).amin(1) < 0.5).sum())    # rounding may swap detections of equal scores
    assert len(a) == len(b) == 100 and same >= 90, f'{len(a)} and {len(b)} detections, {same} the same'
    return predict, their_predict, mine, others


def training_steps(ours: Any, theirs: Any, image: Tensor) -> tuple[Callable[[], Any], Callable[[], Any], Timer, Timer]:
    """Loss, backward pass and an optimiser step of both."""
    size = (image.shape[1], image.shape[2])
    item = objects(size)
    targets, their_targets = batch_of(item, size), [{**item, 'labels': item['labels'] + 1}]
    x = normalised(image)
    mine, others = timers(ours.train(), theirs.train())

    def losses() -> Tensor:
        return torch.stack([v for k, v in ours.loss(x, targets).items() if 'loss' in k]).sum()

    def their_losses() -> Tensor:
        return torch.stack(list(theirs([image], their_targets).values())).sum()

    def sgd(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=1e-6, momentum=0.9)

    return training_step(ours, losses, mine, sgd), training_step(theirs, their_losses, others, sgd), mine, others


def timers(ours: Any, theirs: Any) -> tuple[Timer, Timer]:
    """A training's 'proposals' and 'detections' hold the losses of their stage too."""
    rpn, roi, their_roi = ours.rpn_head, ours.roi_head, theirs.roi_heads
    mine = Timer({'backbone': ours.backbone, 'FPN': ours.neck, 'RPN head': rpn, 'RoIAlign': roi.bbox_roi_extractor,
                  'box head': roi.bbox_head},
                 {'proposals': (rpn, 'loss_and_propose' if ours.training else 'propose'),
                  'detections': (roi, 'loss' if ours.training else 'predict')})
    others = Timer({'preprocessing': theirs.transform, 'backbone': theirs.backbone.body, 'FPN': theirs.backbone.fpn,
                    'RPN head': theirs.rpn.head, 'proposals': theirs.rpn, 'RoIAlign': their_roi.box_roi_pool,
                    'box head': (their_roi.box_head, their_roi.box_predictor), 'detections': their_roi})
    return mine, others


if __name__ == '__main__':
    main()
