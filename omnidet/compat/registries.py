"""The registries that users make themselves, and those of MMDetection that hold functions here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omnidet import registry as ours


class Registry(ours.Registry):
    """A registry of the user's own: `Registry('attention')`.

    Args:
        name: what its parts are called.
        build_func, parent, children, scope, locations: accepted: a part is looked up in this registry alone.
    """

    def __init__(self, name: str, build_func: Any = None, parent: Any = None, children: Any = None, scope: Any = None,
                 locations: Any = ()) -> None:
        super().__init__(name, 'omnidet.compat.registries')
        self.name = name


def _builder(registry: ours.Registry) -> Any:
    def build(cfg: Mapping[str, Any], default_args: Mapping[str, Any] | None = None, **kwargs: Any) -> Any:
        return registry.build(cfg, default_args, **kwargs)
    build.__doc__ = f'The {registry.kind} that `cfg` describes.'
    return build


build_backbone, build_neck = _builder(ours.BACKBONES), _builder(ours.NECKS)
build_loss = _builder(ours.LOSSES)
build_roi_extractor = build_shared_head = _builder(ours.ROI_HEADS)
build_prior_generator = build_anchor_generator = _builder(ours.PRIORS)
build_bbox_coder, build_assigner, build_sampler = (_builder(r) for r in (ours.CODERS, ours.ASSIGNERS, ours.SAMPLERS))
build_iou_calculator, build_match_cost = _builder(ours.IOU_CALCULATORS), _builder(ours.MATCH_COSTS)
build_positional_encoding = _builder(ours.POSITIONAL_ENCODINGS)


def build_head(cfg: Mapping[str, Any], default_args: Mapping[str, Any] | None = None, **kwargs: Any) -> Any:
    """The head that `cfg` describes, of whatever kind."""
    return ours.MODELS.build(cfg, default_args, **kwargs)
