"""Faster R-CNN with ResNet-50 and FPN on a CPU beside torchvision's, with the same weights and the same work.

    python benchmarks/two_stage.py [--threads 2] [--pairs 5] [--cpu-time] [--only predict] [--out two_stage.json]

Ours is the config `torchvision/faster-rcnn_r50_fpn_coco` as the Detector runs it, theirs `FasterRCNN` as its users call
it, with random weights: 1,000 proposals, 100 detections out of 1,000 candidates, and in the training step 512 RoIs of
an image with eight objects, norms and the first stage frozen. Both are measured in turns, pair by pair, so that what
else the machine does falls on both; a ratio is the median over the pairs. Then where either's time goes, by stages.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))    # works without an installation too

import omnidet  # noqa: E402
from omnidet.checkpoints.torchvision_detection import convert_torchvision_detection  # noqa: E402
from omnidet.engine.allocator import keep_freed_memory  # noqa: E402
from omnidet.files import written_whole  # noqa: E402
from omnidet.inference.fuse import fuse_conv_bn  # noqa: E402
from omnidet.structures import ImageMeta, Targets  # noqa: E402

CONFIG = 'torchvision/faster-rcnn_r50_fpn_coco'
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STAGES = ('preprocessing', 'backbone', 'FPN', 'RPN head', 'proposals', 'RoIAlign', 'box head', 'detections')
clock = time.perf_counter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--threads', type=int, default=2, help="torch's threads")
    parser.add_argument('--pairs', type=int, default=5, help='how often each side is measured, after a warm-up')
    parser.add_argument('--size', type=int, nargs=2, default=(800, 1216), help='height and width of the image')
    parser.add_argument('--only', choices=('predict', 'train'), help='one half of the comparison')
    parser.add_argument('--out', type=Path, help='write the figures to this json too')
    parser.add_argument('--cpu-time', action='store_true',
                        help='count CPU seconds: what a busy machine can measure too; set OMP_WAIT_POLICY=PASSIVE')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.cpu_time:
        global clock
        clock = time.process_time
    keep_freed_memory()    # as `train` does; both sides gain from it
    torch.manual_seed(0)
    image = torch.rand(3, *args.size)
    theirs = their_model(args.size)
    ours = our_model(theirs, image)
    rows = []
    if args.only != 'train':
        rows.append(compare('prediction', *predictions(ours, theirs, image), args.pairs))
    if args.only != 'predict':
        rows.append(compare('training step', *training_steps(ours, theirs, image), args.pairs))
    print(f'{args.threads} threads, torch {torch.__version__}, torchvision {torchvision.__version__}, '
          f'{args.size[0]} x {args.size[1]} px, {"CPU" if args.cpu_time else "wall"} time\n')
    print(to_markdown(rows))
    if args.out:
        with written_whole(args.out) as temporary:
            temporary.write_text(json.dumps(rows, indent=1) + '\n')


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
    mine = Timer({'backbone': model.backbone, 'FPN': model.neck, 'RPN head': model.rpn_head,
                  'RoIAlign': model.roi_head.bbox_roi_extractor, 'box head': model.roi_head.bbox_head},
                 {'proposals': (model.rpn_head, 'propose'), 'detections': (model.roi_head, 'predict')})
    their_head = theirs.roi_heads
    others = Timer({'preprocessing': theirs.transform, 'backbone': theirs.backbone.body, 'FPN': theirs.backbone.fpn,
                    'RPN head': theirs.rpn.head, 'proposals': theirs.rpn, 'RoIAlign': their_head.box_roi_pool,
                    'box head': (their_head.box_head, their_head.box_predictor), 'detections': their_head})

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


def training_steps(ours: Any, theirs: Any, image: Tensor) -> tuple[Callable[[], Any], Callable[[], Any], None, None]:
    """Loss, backward pass and an optimiser step of both."""
    size = (image.shape[1], image.shape[2])
    corner = torch.rand(8, 2) * torch.tensor([size[1] / 2, size[0] / 2])
    boxes = torch.cat([corner, corner + 16 + torch.rand(8, 2) * min(size) / 3], 1)
    labels = torch.arange(8)
    targets = Targets.collate([dict(boxes=boxes, labels=labels)], size)
    their_targets = [dict(boxes=boxes, labels=labels + 1)]
    x = normalised(image)
    ours.train()
    theirs.train()

    def step_of(model: nn.Module, losses: Callable[[], Mapping[str, Tensor]]) -> Callable[[], None]:
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-6, momentum=0.9)

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            torch.stack([v for k, v in losses().items() if 'loss' in k]).sum().backward()
            optimizer.step()
        return step

    return (step_of(ours, lambda: ours.loss(x, targets)), step_of(theirs, lambda: theirs([image], their_targets)),
            None, None)


class Timer:
    """Seconds of a model's stages; a stage that runs inside another is taken off it.

    Args:
        modules: the module, or modules, of each stage.
        methods: the object and the name of the method of a stage that is none; it is replaced on the object.
    """

    def __init__(self, modules: Mapping[str, Any], methods: Mapping[str, tuple[Any, str]] | None = None) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._open: list[tuple[str, float]] = []
        for name, found in modules.items():
            for module in found if isinstance(found, tuple) else (found,):
                module.register_forward_pre_hook(lambda *_, name=name: self._begin(name))
                module.register_forward_hook(lambda *_: self._end())
        for name, (owner, attribute) in (methods or {}).items():
            setattr(owner, attribute, self._timed(name, getattr(owner, attribute)))

    def _timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self(name):
                return function(*args, **kwargs)
        return timed

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self._begin(name)
        yield
        self._end()

    def _begin(self, name: str) -> None:
        self._open.append((name, clock()))

    def _end(self) -> None:
        name, start = self._open.pop()
        passed = clock() - start
        self.seconds[name] += passed
        if self._open:
            self.seconds[self._open[-1][0]] -= passed


def compare(name: str, ours: Callable[[], Any], theirs: Callable[[], Any], mine: Timer | None, others: Timer | None,
            pairs: int) -> dict[str, Any]:
    """Median seconds of both, the median of the pairs' ratios, and the mean seconds of the stages."""
    seconds = []
    for i in range(pairs + 1):
        if i == 1:
            for timer in (mine, others):
                if timer is not None:
                    timer.seconds = dict.fromkeys(STAGES, 0.0)
        start = clock()
        ours()
        half = clock()
        theirs()
        if i:
            seconds.append((half - start, clock() - half))
    return dict(name=name, ours=statistics.median(o for o, _ in seconds),
                theirs=statistics.median(t for _, t in seconds), ratio=statistics.median(o / t for o, t in seconds),
                stages={} if mine is None or others is None else
                {k: (mine.seconds[k] / pairs, others.seconds[k] / pairs) for k in STAGES})


def to_markdown(rows: list[dict[str, Any]]) -> str:
    lines = ['| Faster R-CNN R50-FPN, fp32, one image | OmniDet, ms | torchvision, ms | ratio |', '|---|---|---|---|']
    for row in rows:
        pairs = [(row['name'], row['ours'], row['theirs'], row['ratio'])]
        pairs += [(f'- {stage}', a, b, a / b if b else 0) for stage, (a, b) in row['stages'].items()]
        lines += [f'| {name} | {1000 * a:.0f} | {1000 * b:.0f} | {ratio:.2f} |' for name, a, b, ratio in pairs]
    return '\n'.join(lines)


if __name__ == '__main__':
    main()
