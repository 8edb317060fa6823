"""DETR and Deformable DETR with ResNet-50 on a CPU beside transformers', with the same weights and the same work.

    python benchmarks/query.py [--model detr] [--threads 2] [--pairs 5] [--size 800 1066] [--out benchmarks/query.json]

Ours are the configs `detr/detr_r50_8xb2-150e_coco` and `transformers/deformable-detr_r50_coco` as the Detector runs
them, theirs `DetrForObjectDetection` and `DeformableDetrForObjectDetection` with the post-processing of their image
processors (`pip install transformers`; any version that has both). Weights are random ones of theirs, converted as
`omnidet checkpoint convert` does. Predictions begin at the normalised image. A training step is the losses of all
decoder layers for an image with eight objects, the backward pass and an AdamW step; norms, the stem and the first stage
are frozen, and nothing is dropped, so that losses can be held against each other. Both are measured in turns, pair by
pair, so that what else the machine does falls on both; a ratio is the median over the pairs. Below each row stands
where the time of the forward pass goes; what comes after it (backward pass, optimiser) is in 'the rest'.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))    # works without an installation too

import omnidet  # noqa: E402
from omnidet.checkpoints.peers import convert_checkpoint  # noqa: E402
from omnidet.engine.allocator import keep_freed_memory  # noqa: E402
from omnidet.files import written_whole  # noqa: E402
from omnidet.inference.fuse import fuse_conv_bn  # noqa: E402
from omnidet.structures import ImageMeta, Targets  # noqa: E402

STAGES = ('backbone', 'neck', 'encoder', 'decoder', 'the rest')


class Model(NamedTuple):
    """A model of both sides: its config here, its class's name there, and which stages its neck takes."""

    title: str
    config: str
    name: str
    neck: str
    levels: tuple[str, ...]


MODELS = {
    'detr': Model('DETR R50', 'detr/detr_r50_8xb2-150e_coco', 'Detr', 'input_projection', ('stage4',)),
    'deformable_detr': Model('Deformable DETR R50', 'transformers/deformable-detr_r50_coco', 'DeformableDetr',
                             'input_proj', ('stage2', 'stage3', 'stage4')),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', choices=tuple(MODELS), help='one of the two')
    parser.add_argument('--threads', type=int, default=2, help="torch's threads")
    parser.add_argument('--pairs', type=int, default=5, help='how often each side is measured, after a warm-up')
    parser.add_argument('--size', type=int, nargs=2, default=(800, 1066), help='height and width of the image')
    parser.add_argument('--only', choices=('predict', 'train'), help='one half of the comparison')
    parser.add_argument('--out', type=Path, help='write the figures to this json too')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()    # as `train` does; both sides gain from it
    rows = []
    for key in [args.model] if args.model else list(MODELS):
        torch.manual_seed(0)
        image = torch.randn(1, 3, *args.size)
        model = MODELS[key]
        theirs = their_model(model, image)
        ours = our_model(model, theirs)
        if args.only != 'train':
            rows.append(compare(f'{model.title}, prediction', *predictions(model, ours, theirs, image), args.pairs))
        if args.only != 'predict':
            rows.append(compare(f'{model.title}, training step', *training_steps(model, ours, theirs, image),
                                args.pairs))
    print(f'{args.threads} threads, torch {torch.__version__}, transformers {transformers.__version__}, '
          f'{args.size[0]} x {args.size[1]} px\n')
    print(to_markdown(rows))
    if args.out:
        with written_whole(args.out) as temporary:
            temporary.write_text(json.dumps(rows, indent=1) + '\n')


@torch.no_grad()
def their_model(model: Model, image: Tensor) -> Any:
    """With random weights, norms that keep features in bounds, and scores and boxes that differ."""
    options: dict[str, Any] = {'auxiliary_loss': True, 'dropout': 0.0, 'num_labels': 80}
    if model.name == 'DeformableDetr':
        options['class_cost'] = 2
    backbone = transformers.ResNetConfig(out_features=list(model.levels))
    config = getattr(transformers, f'{model.name}Config')(
        use_timm_backbone=False, backbone=None, use_pretrained_backbone=False, backbone_config=backbone, **options)
    out = getattr(transformers, f'{model.name}ForObjectDetection')(config).eval()
    for name, p in out.named_parameters():
        if 'backbone' in name:
            p.requires_grad_('encoder.stages' in name and 'stages.0' not in name)
        elif 'query_position' in name:
            nn.init.normal_(p)
        elif name.startswith(('class_', 'bbox_')) and p.ndim > 1:
            nn.init.normal_(p, 0, p.shape[-1] ** -0.5)

    def settle(module: Any, args: tuple[Tensor]) -> None:
        module.running_mean, module.running_var = args[0].mean((0, 2, 3)), args[0].var((0, 2, 3))

    hooks = [m.register_forward_pre_hook(settle) for m in out.modules() if hasattr(m, 'running_var')]
    out(image)
    for hook in hooks:
        hook.remove()
    return out


def our_model(model: Model, theirs: Any) -> nn.Module:
    cfg = omnidet.load_config(model.config)
    if model.name == 'DeformableDetr':
        cfg.model.bbox_head.loss_cls.loss_weight = 1.0    # as theirs
    ours = omnidet.build_model(cfg)
    for module in ours.modules():
        for name in ('p', 'drop_prob', 'dropout'):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    conversion = convert_checkpoint(theirs.state_dict(), 'transformers')
    assert not conversion.unused
    missing, unexpected = ours.load_state_dict(conversion.state, strict=False)
    assert not unexpected and all(n.endswith('num_batches_tracked') for n in missing), (missing, unexpected)
    learned, their_learned = (sum(p.numel() for p in m.parameters() if p.requires_grad) for m in (ours, theirs))
    assert learned == their_learned, f'{learned} parameters are trained here, {their_learned} there'
    return ours.to(memory_format=torch.channels_last)


def predictions(model: Model, ours: Any, theirs: Any, image: Tensor) -> tuple[Any, Any, Timer, Timer]:
    """Both as their users run them, and the timers of their stages."""
    fused: Any = fuse_conv_bn(ours).eval().requires_grad_(False)
    theirs.eval()
    size = (image.shape[2], image.shape[3])
    meta, x = ImageMeta(size, size), image.contiguous(memory_format=torch.channels_last)
    processor = getattr(transformers, f'{model.name}ImageProcessor')()
    mine, others = timers(model, fused, theirs)

    @torch.no_grad()
    def predict() -> Any:
        return fused.predict(x, [meta])[0]

    @torch.no_grad()
    def their_predict() -> Any:
        options = {'top_k': 100} if model.name == 'DeformableDetr' else {}
        return processor.post_process_object_detection(theirs(image), 0.0, [size], **options)[0]

    a, b = predict().scores, their_predict()['scores'].sort(descending=True).values[:100]
    assert torch.allclose(a, b, atol=1e-3), f'scores differ by up to {(a - b).abs().max():.1e}'
    return predict, their_predict, mine, others


def training_steps(model: Model, ours: Any, theirs: Any, image: Tensor) -> tuple[Any, Any, Timer, Timer]:
    """Loss, backward pass and an optimiser step of both."""
    size = (image.shape[2], image.shape[3])
    centers, sides = 0.25 + torch.rand(8, 2) / 2, 0.05 + torch.rand(8, 2) / 3
    labels = torch.arange(8)
    corners = torch.cat([centers - sides / 2, centers + sides / 2], 1) * torch.tensor([*size[::-1], *size[::-1]])
    targets = Targets.collate([dict(boxes=corners, labels=labels)], size)
    their_targets = [dict(boxes=torch.cat([centers, sides], 1), class_labels=labels)]
    x = image.contiguous(memory_format=torch.channels_last)
    ours.train()
    theirs.train()
    mine, others = timers(model, ours, theirs)

    def losses() -> Tensor:
        return torch.stack([v for k, v in ours.loss(x, targets).items() if 'loss' in k]).sum()

    def their_losses() -> Tensor:
        return theirs(image, labels=their_targets).loss

    with torch.no_grad():
        a, b = float(losses()), float(their_losses())
    assert abs(a / b - 1) < 1e-3, f'the losses are {a} and {b}'

    def step_of(module: nn.Module, total: Callable[[], Tensor]) -> Callable[[], None]:
        optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=1e-8)

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            total().backward()
            optimizer.step()
        return step

    return step_of(ours, losses), step_of(theirs, their_losses), mine, others


def timers(model: Model, ours: Any, theirs: Any) -> tuple[Timer, Timer]:
    inner = theirs.model
    neck = getattr(inner, model.neck)
    return (Timer({'backbone': [ours.backbone], 'neck': [ours.neck], 'encoder': [ours.encoder],
                   'decoder': [ours.decoder]}),
            Timer({'backbone': [inner.backbone], 'neck': list(neck) if isinstance(neck, nn.ModuleList) else [neck],
                   'encoder': [inner.encoder], 'decoder': [inner.decoder]}))


class Timer:
    """Seconds that modules take in their forward passes, by stage; those of one stage do not lie in another's."""

    def __init__(self, stages: Mapping[str, list[nn.Module]]) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.start = 0.0
        for stage, modules in stages.items():
            for module in modules:
                module.register_forward_pre_hook(lambda *_: setattr(self, 'start', time.perf_counter()))
                module.register_forward_hook(lambda *_, stage=stage: self._end(stage))

    def _end(self, stage: str) -> None:
        self.seconds[stage] += time.perf_counter() - self.start


def compare(name: str, ours: Callable[[], Any], theirs: Callable[[], Any], mine: Timer, others: Timer, pairs: int
            ) -> dict[str, Any]:
    """Median seconds of both, the median of the pairs' ratios, and the mean seconds of the stages."""
    seconds = []
    for i in range(pairs + 1):
        if i == 1:
            mine.seconds, others.seconds = dict.fromkeys(STAGES, 0.0), dict.fromkeys(STAGES, 0.0)
        start = time.perf_counter()
        ours()
        half = time.perf_counter()
        theirs()
        if i:
            seconds.append((half - start, time.perf_counter() - half))
    for side, timer in enumerate((mine, others)):
        timer.seconds['the rest'] = sum(pair[side] for pair in seconds) - sum(timer.seconds.values())
    return dict(name=name, ours=statistics.median(o for o, _ in seconds),
                theirs=statistics.median(t for _, t in seconds), ratio=statistics.median(o / t for o, t in seconds),
                stages={k: (mine.seconds[k] / pairs, others.seconds[k] / pairs) for k in STAGES})


def to_markdown(rows: list[dict[str, Any]]) -> str:
    lines = ['| fp32, one image | OmniDet, ms | transformers, ms | ratio |', '|---|---|---|---|']
    for row in rows:
        pairs = [(row['name'], row['ours'], row['theirs'], row['ratio'])]
        pairs += [(f'- {stage}', a, b, a / b if b else 0) for stage, (a, b) in row['stages'].items()]
        lines += [f'| {name} | {1000 * a:.0f} | {1000 * b:.0f} | {ratio:.2f} |' for name, a, b, ratio in pairs]
    return '\n'.join(lines)


if __name__ == '__main__':
    main()
