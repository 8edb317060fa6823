"""DETR, Deformable DETR and Mask2Former with ResNet-50 on a CPU beside transformers', with equal weights and work.

    python benchmarks/query.py [--model detr] [--threads 2] [--pairs 5] [--size 800 1066] [--only predict] [--cpu-time]
                               [--out query.json]

Ours are the configs `detr/detr_r50_8xb2-150e_coco`, `transformers/deformable-detr_r50_coco` and
`mask2former/mask2former_r50_8xb2-lsj-50e_coco` as the Detector runs them, theirs the classes of `MODELS` with the
post-processing of their image processors (`pip install transformers scipy`; any version that has them). Weights are
random ones of theirs, converted as `omnidet checkpoint convert` does. Predictions begin at the normalised image, and
end with 100 boxes, or 100 masks of the image's size. A training step is the losses of all decoder layers for an image
with eight objects, the backward pass and an AdamW step; norms of the backbone are frozen, with the DETRs the stem and
the first stage too, and nothing is dropped, so that losses can be held against each other (those over random points
agree within their spread). Both are measured in turns, pair by pair, so that what else the machine does falls on both;
a ratio is the median over the pairs. Below each row stands where the time goes; 'the rest' holds the heads, the losses
and the optimiser.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import transformers
from side_by_side import Timer, arguments, batch_of, compare, report, training_step
from torch import Tensor, nn

import omnidet
from omnidet.checkpoints.peers import convert_checkpoint
from omnidet.inference.fuse import fuse_conv_bn
from omnidet.structures import ImageMeta, Targets

Step = tuple[Callable[[], Any], Callable[[], Any], Timer, Timer]
UNUSED = {'criterion.empty_weight'}    # a constant of the losses


class Model(NamedTuple):
    """A model of both sides: its config here, its class and its image processor there, and which stages it takes."""

    title: str
    config: str
    name: str
    processor: str
    levels: tuple[str, ...]


MODELS = {
    'detr': Model('DETR R50', 'detr/detr_r50_8xb2-150e_coco', 'DetrForObjectDetection', 'DetrImageProcessor',
                  ('stage4',)),
    'deformable_detr': Model('Deformable DETR R50', 'transformers/deformable-detr_r50_coco',
                             'DeformableDetrForObjectDetection', 'DeformableDetrImageProcessor',
                             ('stage2', 'stage3', 'stage4')),
    'mask2former': Model('Mask2Former R50', 'mask2former/mask2former_r50_8xb2-lsj-50e_coco',
                         'Mask2FormerForUniversalSegmentation', 'Mask2FormerImageProcessor',
                         ('stage1', 'stage2', 'stage3', 'stage4')),
}


def main() -> None:
    args = arguments(__doc__, (800, 1066), tuple(MODELS))
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
    report(args, rows, 'fp32, one image', 'transformers', transformers.__version__)


def has_masks(model: Model) -> bool:
    return model.name.startswith('Mask2Former')


@torch.no_grad()
def their_model(model: Model, image: Tensor) -> Any:
    """With random weights, norms that keep features in bounds, and scores, boxes and masks that differ."""
    options: dict[str, Any] = {'num_labels': 80, 'backbone_config': transformers.ResNetConfig(out_features=[
        *model.levels])}
    if not has_masks(model):
        options |= {'auxiliary_loss': True, 'dropout': 0.0, 'use_timm_backbone': False, 'backbone': None,
                    'use_pretrained_backbone': False}
    if model.name.startswith('Deformable'):
        options['class_cost'] = 2
    cls = getattr(transformers, model.name)
    out = cls(cls.config_class(**options)).eval()
    inside = 'pixel_level_module.encoder' if has_masks(model) else 'backbone'
    for name, p in out.named_parameters():
        if inside in name:
            p.requires_grad_('normalization' not in name if has_masks(model) else
                             'encoder.stages' in name and 'stages.0' not in name)
        elif 'query_position' in name or 'queries_' in name or 'level_embed' in name:
            nn.init.normal_(p)
        elif name.startswith(('class_', 'bbox_')) and p.ndim > 1:
            nn.init.normal_(p, 0, p.shape[-1] ** -0.5)

    def settle(module: Any, args: tuple[Tensor]) -> None:
        module.running_mean, module.running_var = args[0].mean((0, 2, 3)), args[0].var((0, 2, 3))

    hooks = [m.register_forward_pre_hook(settle) for m in norms(out)]
    out(image)
    for hook in hooks:
        hook.remove()
    return out


def norms(theirs: nn.Module) -> list[nn.Module]:
    """The backbone's: no others have running statistics."""
    return [m for m in theirs.modules() if hasattr(m, 'running_var')]


def our_model(model: Model, theirs: Any) -> nn.Module:
    cfg = omnidet.load_config(model.config)
    if model.name.startswith('Deformable'):
        cfg.model.bbox_head.loss_cls.loss_weight = 1.0    # as theirs
    ours = omnidet.build_model(cfg)
    for module in ours.modules():
        for name in ('p', 'drop_prob', 'dropout'):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    conversion = convert_checkpoint(theirs.state_dict(), 'transformers')
    assert set(conversion.unused) <= UNUSED, conversion.unused
    missing, unexpected = ours.load_state_dict(conversion.state, strict=False)
    assert not unexpected and all(n.endswith('num_batches_tracked') for n in missing), (missing, unexpected)
    learned, their_learned = (sum(p.numel() for p in m.parameters() if p.requires_grad) for m in (ours, theirs))
    assert learned == their_learned, f'{learned} parameters are trained here, {their_learned} there'
    return ours.to(memory_format=torch.channels_last)


def predictions(model: Model, ours: Any, theirs: Any, image: Tensor) -> Step:
    """Both as their users run them, and the timers of their stages."""
    fused: Any = fuse_conv_bn(ours).eval().requires_grad_(False)
    theirs.eval()
    size = (image.shape[2], image.shape[3])
    meta, x = ImageMeta(size, size), image.contiguous(memory_format=torch.channels_last)
    processor = getattr(transformers, model.processor)()
    mine, others = timers(fused, theirs)

    @torch.no_grad()
    def predict() -> Any:
        result = fused.predict(x, [meta])[0]
        return result.masks if has_masks(model) else result.scores

    @torch.no_grad()
    def their_predict() -> Any:
        if has_masks(model):
            return processor.post_process_instance_segmentation(
                theirs(image), threshold=0.0, target_sizes=[size], return_binary_maps=True)[0]['segmentation']
        options = {'top_k': 100} if model.name.startswith('Deformable') else {}
        found = processor.post_process_object_detection(theirs(image), 0.0, [size], **options)[0]
        return found['scores'].sort(descending=True).values[:100]

    with torch.no_grad():
        if has_masks(model):
            want = theirs(image)
            got = fused.panoptic_head.predict(fused.extract_feat(x))
            pairs = list(zip(got, (want.class_queries_logits, want.masks_queries_logits), strict=True))
            assert predict().shape[1:] == size and their_predict().shape[1:] == size
        else:
            pairs = [(predict(), their_predict())]
    for a, b in pairs:
        apart = float((a - b).norm() / b.norm())    # a mask's pixel near 0.5 may fall on either side, and be looked at
        assert apart < (0.02 if has_masks(model) else 1e-3), f'outputs are {apart:.1e} of their size apart'
    return predict, their_predict, mine, others


def training_steps(model: Model, ours: Any, theirs: Any, image: Tensor) -> Step:
    """Loss, backward pass and an optimiser step of both."""
    size = (image.shape[2], image.shape[3])
    targets, their_targets = objects(model, size)
    x = image.contiguous(memory_format=torch.channels_last)
    ours.train()
    theirs.train()
    for norm in norms(theirs):
        norm.eval()
    mine, others = timers(ours, theirs)

    def losses() -> Tensor:
        return torch.stack([v for k, v in ours.loss(x, targets).items() if 'loss' in k]).sum()

    def their_losses() -> Tensor:
        return theirs(image, **their_targets).loss.sum()    # type: ignore[no-any-return]

    with torch.no_grad():
        a, b = float(losses()), float(their_losses())
    assert abs(a / b - 1) < (0.05 if has_masks(model) else 1e-3), f'the losses are {a} and {b}'

    def adamw(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(parameters, lr=1e-8)

    return (training_step(ours, losses, mine, adamw), training_step(theirs, their_losses, others, adamw), mine, others)


def objects(model: Model, size: tuple[int, int]) -> tuple[Targets, dict[str, Any]]:
    """Eight random boxes, or ellipses in them, for ours and for theirs."""
    centers, sides = 0.25 + torch.rand(8, 2) / 2, 0.05 + torch.rand(8, 2) / 3
    labels = torch.arange(8)
    corners = torch.cat([centers - sides / 2, centers + sides / 2], 1) * torch.tensor([*size[::-1], *size[::-1]])
    item = dict(boxes=corners, labels=labels)
    if not has_masks(model):
        boxes = torch.cat([centers, sides], 1)
        return batch_of(item, size), dict(labels=[dict(boxes=boxes, class_labels=labels)])
    at = torch.stack(torch.meshgrid(*((torch.arange(n) + 0.5) / n for n in size), indexing='ij')[::-1], -1)    # x, y
    masks = (((at - centers[:, None, None]) / sides[:, None, None]).square().sum(-1) < 0.25)    # (8, H, W)
    return batch_of({**item, 'masks': masks}, size), dict(mask_labels=[masks.float()], class_labels=[labels])


def timers(ours: Any, theirs: Any) -> tuple[Timer, Timer]:
    if hasattr(ours, 'panoptic_head'):
        head, level, queries = ours.panoptic_head, theirs.model.pixel_level_module, theirs.model.transformer_module
        return (Timer({'backbone': ours.backbone, 'pixel decoder': head.pixel_decoder,
                       'decoder': head.transformer_decoder}),
                Timer({'backbone': level.encoder, 'pixel decoder': level.decoder, 'decoder': queries.decoder}))
    inner = theirs.model
    neck = inner.input_projection if hasattr(inner, 'input_projection') else list(inner.input_proj)
    return (Timer({'backbone': ours.backbone, 'neck': ours.neck, 'encoder': ours.encoder, 'decoder': ours.decoder}),
            Timer({'backbone': inner.backbone, 'neck': neck, 'encoder': inner.encoder, 'decoder': inner.decoder}))


if __name__ == '__main__':
    main()
