"""RetinaNet, FCOS and SSD300 on a CPU beside torchvision's, with the same weights and the same work.

    python benchmarks/one_stage.py [--model retinanet] [--threads 2] [--pairs 5] [--size 800 1216] [--cpu-time]
                                   [--only predict] [--out one_stage.json]

Ours are the configs `torchvision/retinanet_r50_fpn_coco`, `fcos_r50_fpn_coco` and `ssd300_vgg16_coco` as the Detector
runs them, theirs the models as their users call them. Weights are random ones of theirs, converted as
`omnidet checkpoint convert` does, with a threshold that leaves 1,000 candidates. A training step is the losses of an
image with eight objects, which agree to 1 %, the backward pass and an SGD step; norms of the backbone have fixed
statistics, and as torchvision's builders have it the stem and the first stage of a ResNet are frozen. Both are measured
in turns, pair by pair, so that what else the machine does falls on both; a ratio is the median over the pairs. Below
each row stands where the time goes: 'losses' are priors, assignment and losses, 'the rest' is the optimiser and what
else there is. SSD300 has images of 300 x 300 whatever `--size` says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torchvision
from side_by_side import Timer, arguments, batch_of, compare, objects, report, training_step
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

import omnidet
from omnidet.checkpoints.peers import convert_checkpoint
from omnidet.inference.fuse import fuse_conv_bn
from omnidet.structures import ImageMeta

CANDIDATES = 1000
LOSSES = {'classification': 'loss_cls', 'bbox_regression': 'loss_bbox', 'bbox_ctrness': 'loss_centerness'}
Size = tuple[int, int]


class Model(NamedTuple):
    """A model of both sides: its config here, and how to build theirs for a size of images."""

    title: str
    config: str
    build: Callable[[Size], Any]


def main() -> None:
    args = arguments(__doc__, (800, 1216), tuple(MODELS))
    rows = []
    for key in [args.model] if args.model else list(MODELS):
        torch.manual_seed(0)
        model, size = MODELS[key], (300, 300) if key == 'ssd300' else (args.size[0], args.size[1])
        image = torch.rand(3, *size)
        theirs = model.build(size)
        ours = our_model(model, theirs, image)
        if args.only != 'train':
            rows.append(compare(f'{model.title}, prediction', *predictions(ours, theirs, image), args.pairs))
        if args.only != 'predict':
            rows.append(compare(f'{model.title}, training step', *training_steps(ours, theirs, image), args.pairs))
    report(args, rows, 'fp32, one image', 'torchvision', torchvision.__version__)


def resnet_pyramid(size: Size) -> nn.Module:
    """Theirs, as their builders make it: frozen norms, three stages trained, P6 and P7 made of P5; norms settled."""
    backbone = resnet_fpn_backbone(backbone_name='resnet50', weights=None, norm_layer=FrozenBatchNorm2d,
                                   trainable_layers=3, returned_layers=[2, 3, 4],
                                   extra_blocks=LastLevelP6P7(256, 256))

    def settle(module: nn.Module, args: tuple[Tensor]) -> None:
        module.running_mean, module.running_var = args[0].mean((0, 2, 3)), args[0].var((0, 2, 3))

    hooks = [m.register_forward_pre_hook(settle) for m in backbone.modules() if isinstance(m, FrozenBatchNorm2d)]
    with torch.no_grad():
        backbone.eval()(torch.randn(1, 3, *size))
    for hook in hooks:
        hook.remove()
    return backbone


def retinanet(size: Size) -> Any:
    sizes = tuple((s, int(s * 2 ** (1 / 3)), int(s * 2 ** (2 / 3))) for s in (32, 64, 128, 256, 512))
    anchors = detection.anchor_utils.AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 5)
    model = detection.RetinaNet(resnet_pyramid(size), 91, anchor_generator=anchors, min_size=min(size),
                                max_size=max(size))
    nn.init.normal_(model.head.classification_head.cls_logits.weight, 0, 0.05)    # scores that differ
    nn.init.normal_(model.head.regression_head.bbox_reg.weight, 0, 0.02)    # boxes that move
    model.head.classification_head.cls_logits.bias.data.view(9, 91)[:, 0] = -20    # a class that never occurs
    return model


def fcos(size: Size) -> Any:
    model = detection.FCOS(resnet_pyramid(size), 91, min_size=min(size), max_size=max(size))
    for layer, std in ((model.head.classification_head.cls_logits, 0.08), (model.head.regression_head.bbox_reg, 0.05),
                       (model.head.regression_head.bbox_ctrness, 0.05)):
        nn.init.normal_(layer.weight, 0, std)
    model.head.classification_head.cls_logits.bias.data[0] = -20
    return model


def ssd300(size: Size) -> Any:
    model = detection.ssd300_vgg16(weights=None, weights_backbone=None)
    for layer in model.backbone.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity='relu')
    for head, part in ((model.head.classification_head, 1.0), (model.head.regression_head, 0.25)):
        for i, layer in enumerate(head.module_list):
            nn.init.normal_(layer.weight, 0, part * (0.0002 if i else 0.012))    # the finest level's vectors are long
    for layer in model.head.classification_head.module_list:
        layer.bias.data.view(-1, 91)[:, 0] = 6    # mostly background
    return model


MODELS = {'retinanet': Model('RetinaNet R50-FPN', 'torchvision/retinanet_r50_fpn_coco', retinanet),
          'fcos': Model('FCOS R50-FPN', 'torchvision/fcos_r50_fpn_coco', fcos),
          'ssd300': Model('SSD300 VGG-16', 'torchvision/ssd300_vgg16_coco', ssd300)}


def our_model(model: Model, theirs: Any, image: Tensor) -> Any:
    """Ours with their weights, and with a threshold for both that leaves `CANDIDATES`."""
    cfg = omnidet.load_config(model.config)
    if 'eps' in cfg.model.backbone.get('norm_cfg', {}):
        cfg.model.backbone.norm_cfg.eps = 1e-5
    conversion = convert_checkpoint(theirs.state_dict(), 'torchvision')
    ours: Any = omnidet.build_model(cfg)
    missing, unexpected = ours.load_state_dict(conversion.state, strict=False)
    assert not conversion.unused and not unexpected
    assert all(name.endswith('num_batches_tracked') for name in missing), missing
    head = ours.eval().bbox_head
    with torch.no_grad():
        scores = head.scores(head(ours.extract_feat(normalised(theirs, image)))).flatten()
    threshold = float(scores.topk(CANDIDATES + 1).values[-1])
    theirs.score_thresh = cfg.model.test_cfg.score_thr = threshold
    ours = omnidet.build_model(cfg)
    ours.load_state_dict(conversion.state, strict=False)
    learned, their_learned = (sum(p.numel() for p in m.parameters() if p.requires_grad) for m in (ours, theirs))
    assert abs(learned / their_learned - 1) < 2e-3, f'{learned} parameters are trained here, {their_learned} there'
    return ours.to(memory_format=torch.channels_last)


def normalised(theirs: Any, image: Tensor) -> Tensor:
    """(3, H, W) in 0..1 -> (1, 3, H, W), by the mean and deviation that both models have."""
    mean, std = (torch.tensor(v)[:, None, None] for v in (theirs.transform.image_mean, theirs.transform.image_std))
    return ((image - mean) / std)[None].contiguous(memory_format=torch.channels_last)


def predictions(ours: Any, theirs: Any, image: Tensor) -> tuple[Callable[[], Any], Callable[[], Any], Timer, Timer]:
    """Both as their users run them, and the timers of their stages."""
    model: Any = fuse_conv_bn(ours).eval().requires_grad_(False)
    size = (image.shape[1], image.shape[2])
    meta = ImageMeta(size, size)
    mine, others = timers(model, theirs.eval())

    @torch.no_grad()
    def predict() -> Any:
        with mine('preprocessing'):
            x = normalised(theirs, image)
        return model.predict(x, [meta])[0]

    @torch.no_grad()
    def their_predict() -> Any:
        return theirs([image])[0]

    a, b = predict().boxes, their_predict()['boxes']
    same = int((torch.cdist(a, b).amin(1) < 0.5).sum())    # rounding may swap detections of equal scores
    assert len(a) == len(b) and same >= 0.9 * len(a), f'{len(a)} and {len(b)} detections, {same} the same'
    return predict, their_predict, mine, others


def training_steps(ours: Any, theirs: Any, image: Tensor) -> tuple[Callable[[], Any], Callable[[], Any], Timer, Timer]:
    """Loss, backward pass and an optimiser step of both."""
    size = (image.shape[1], image.shape[2])
    item = objects(size)
    targets, their_targets = batch_of(item, size), [{**item, 'labels': item['labels'] + 1}]
    mine, others = timers(ours.train(), theirs.train())

    def losses() -> dict[str, Tensor]:
        with mine('preprocessing'):
            x = normalised(theirs, image)
        return ours.loss(x, targets)    # type: ignore[no-any-return]

    def their_losses() -> dict[str, Tensor]:
        return theirs([image], their_targets)    # type: ignore[no-any-return]

    with torch.no_grad():
        a, b = losses(), their_losses()
    for name, value in b.items():    # RetinaNets differ in who has an anchor that is one object's best, nearer another
        mine_too = a[LOSSES[name]]
        assert torch.allclose(mine_too, value, rtol=1e-2), f'{name} is {value} there and {mine_too} here'

    def sgd(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=1e-8, momentum=0.9)

    return (training_step(ours, lambda: torch.stack(list(losses().values())).sum(), mine, sgd),
            training_step(theirs, lambda: torch.stack(list(their_losses().values())).sum(), others, sgd), mine, others)


def timers(ours: Any, theirs: Any) -> tuple[Timer, Timer]:
    head = ours.bbox_head
    pyramid = hasattr(theirs.backbone, 'fpn')
    mine = Timer({'backbone': [ours.backbone] if pyramid else [ours.backbone, ours.neck],
                  **({'FPN': ours.neck} if pyramid else {}), 'head': head},
                 {'losses': (head, 'loss'), 'detections': (head, 'predict')})
    others = Timer({'preprocessing': theirs.transform, 'backbone': theirs.backbone.body if pyramid else theirs.backbone,
                    **({'FPN': theirs.backbone.fpn} if pyramid else {}), 'head': theirs.head},
                   {'losses': (theirs, 'compute_loss'), 'detections': (theirs, 'postprocess_detections')})
    return mine, others


if __name__ == '__main__':
    main()
