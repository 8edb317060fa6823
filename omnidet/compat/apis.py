"""`mmdet.apis`, and what `mmdet.models` and `mmcv.runner` have for building and loading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from torch import nn

from omnidet.checkpoints import load_checkpoint as read_checkpoint
from omnidet.checkpoints import load_weights
from omnidet.checkpoints import save_checkpoint as write_checkpoint
from omnidet.compat.structures import as_result, data_sample
from omnidet.config import load_config
from omnidet.inference import Detector
from omnidet.models import build_model
from omnidet.registry import Registry, RegistryGroup
from omnidet.visualization import draw

State = Mapping[str, Any]


def init_detector(config: Any, checkpoint: Any = None, palette: Any = None, device: str | None = None,
                  cfg_options: Mapping[str, Any] | None = None) -> Detector:
    """A detector from a config and a checkpoint.

    Args:
        config: a file, a name of the zoo, or a loaded config.
        checkpoint: the weights.
        palette: accepted: `show_result_pyplot` takes one.
        device: 'cpu', 'cuda:0'; the best there is by default.
        cfg_options: changes of the config.
    """
    cfg = config if isinstance(config, Mapping) else load_config(config, cfg_options)
    return Detector(cfg, checkpoint, device)


def inference_detector(model: Detector, imgs: Any, test_pipeline: Any = None, **kwargs: Any) -> Any:
    """What is found in an image, or in each of several, as MMDetection 3.x gives it: `.pred_instances.bboxes`, ...

    Args:
        model: what `init_detector` gave.
        imgs: a path, an array in BGR, or a list of them.
        test_pipeline: accepted: the config's is used.
        kwargs: accepted.
    """
    several = isinstance(imgs, (list, tuple))
    found = [data_sample(p.result, p.meta) for p in model.stream(imgs if several else [imgs]) if p.result is not None]
    return found if several else found[0]


def show_result_pyplot(model: Detector, img: Any, result: Any, score_thr: float = 0.3, title: str = 'result',
                       wait_time: float = 0, palette: Any = None, out_file: Any = None) -> np.ndarray:
    """Draw what was found: into a file, or in a window of matplotlib without one; gives the picture in BGR."""
    from omnidet.compat.images import imread
    picture = draw(imread(img), as_result(result), model.classes, score_thr,
                   palette if isinstance(palette, Sequence) and not isinstance(palette, str) else None)
    if out_file is not None:
        Path(out_file).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(out_file), picture)
        return picture
    from matplotlib import pyplot
    pyplot.figure(title)
    pyplot.imshow(picture[..., ::-1])
    pyplot.axis('off')
    pyplot.show(block=wait_time == 0)
    return picture


def build_detector(cfg: Mapping[str, Any], train_cfg: Any = None, test_cfg: Any = None) -> nn.Module:
    """The model that a config, or its `model`, describes."""
    given = {k: v for k, v in (('train_cfg', train_cfg), ('test_cfg', test_cfg)) if v is not None}
    model = cfg.get('model', cfg)
    return build_model({**model, **given})


def build_from_cfg(cfg: Mapping[str, Any], registry: Registry | RegistryGroup,
                   default_args: Mapping[str, Any] | None = None) -> Any:
    """The part that `cfg` describes, from a registry."""
    return registry.build(cfg, default_args)


def load_checkpoint(model: nn.Module, filename: Any, map_location: Any = None, strict: bool = False,
                    logger: Any = None, revise_keys: Any = ()) -> dict[str, Any]:
    """Read a checkpoint into a model; gives what the file holds."""
    content = read_checkpoint(filename)
    load_weights(model, content['state_dict'], str(filename), strict)
    return content


def load_state_dict(module: nn.Module, state_dict: State, strict: bool = False, logger: Any = None) -> None:
    """Copy tensors into a model where names and shapes agree."""
    load_weights(module, state_dict, 'state_dict', strict)


def load_only(filename: Any, map_location: Any = None, logger: Any = None) -> dict[str, Any]:
    """What a checkpoint holds, on the CPU."""
    return read_checkpoint(filename)


def save_checkpoint(model: nn.Module, filename: Any, optimizer: Any = None, meta: Mapping[str, Any] | None = None,
                    **kwargs: Any) -> None:
    """Write a model, and an optimizer if given."""
    content: dict[str, Any] = {'meta': dict(meta or {}), 'state_dict': model.state_dict()}
    if optimizer is not None:
        content['optimizer'] = optimizer.state_dict()
    write_checkpoint(filename, content)
