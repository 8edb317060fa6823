"""Any model of timm as a backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from omnidet.errors import ConfigError, did_you_mean
from omnidet.nn import initialize
from omnidet.registry import BACKBONES, NORM_LAYERS

Cfg = Mapping[str, Any]
SOURCES = ('pretrained_cfg', 'pretrained_cfg_overlay', 'cache_dir')
"""Arguments by which a config could have timm read any file or address, in timm's way."""


@BACKBONES.register
class TIMMBackbone(nn.Module):
    """A model of timm, the collection of image classifiers (an optional package: `pip install timm`).

    Parameters: timm_model, with timm's own names below it.

    Args:
        model_name: as timm calls it.
        features_only: give one map for each of `out_indices`, instead of the last alone.
        pretrained: begin with timm's weights, read where pretrained weights are asked for.
        checkpoint_path: begin with the weights of this file, read likewise.
        in_channels: channels of the image.
        init_cfg: initial values, in place of timm's own; or `dict(type='Pretrained', checkpoint=...)`.
        out_indices: levels that come out, with `features_only`.
        norm_layer: the kind of norm, as `norm_cfg` would name it; the model's own by default.
        kwargs: what else the model takes, as timm documents it; this part alone cannot list it.

    Raises:
        ConfigError: timm is not installed, or has no such model, or the model does not take an argument.
    """

    def __init__(self, model_name: str, features_only: bool = False, pretrained: bool = False,
                 checkpoint_path: str = '', in_channels: int = 3, init_cfg: Cfg | Sequence[Cfg] | None = None,
                 out_indices: Sequence[int] | None = None, norm_layer: str | None = None, **kwargs: Any) -> None:
        super().__init__()
        try:
            import timm
        except ImportError as e:
            raise ConfigError('TIMMBackbone needs a package that is not here: pip install timm') from e
        if not timm.is_model(model_name.partition('.')[0]):
            near = did_you_mean(model_name, timm.list_models())
            raise ConfigError(f'TIMMBackbone: timm {timm.__version__} has no model {model_name!r}{near}')
        if taken := [k for k in SOURCES if k in kwargs]:
            raise ConfigError(f'TIMMBackbone: {taken[0]}: where timm reads weights from is not for a config to say; '
                              "init_cfg=dict(type='Pretrained', checkpoint=...) names a file")
        self.model_name = model_name
        self._options = {**kwargs, 'features_only': features_only, 'in_chans': in_channels}
        if out_indices is not None:
            self._options['out_indices'] = tuple(out_indices)
        if norm_layer is not None:
            self._options['norm_layer'] = NORM_LAYERS.get(norm_layer)
        self.timm_model = self._make(pretrained=False)
        initialize(self, init_cfg)

    def _make(self, pretrained: bool) -> nn.Module:
        import timm
        try:
            model = timm.create_model(self.model_name, pretrained=pretrained, **self._options)
        except TypeError as e:
            raise ConfigError(f'TIMMBackbone: {self.model_name} does not take these arguments: {e}') from e
        if hasattr(model, 'reset_classifier'):
            model.reset_classifier(0, '')    # neither classes nor their pooling
        return model

    def pretrained_state(self) -> dict[str, Tensor]:
        """timm's weights for this model and these arguments, downloaded by timm where they are not here."""
        return self._make(pretrained=True).state_dict()

    def convert_names(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`state` with timm's names put below `timm_model`."""
        if any(k.startswith('timm_model.') for k in state):
            return dict(state)
        return {f'timm_model.{k}': v for k, v in state.items()}

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, in_channels, H, W) -> one map for each of `out_indices`, or the last one."""
        out = self.timm_model(x)
        return tuple(out) if isinstance(out, (list, tuple)) else (out,)
