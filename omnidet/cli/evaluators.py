"""`--eval bbox segm --eval-options classwise=True --format-only`: what a test computes, written into its config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omnidet.errors import ConfigError, did_you_mean

METRICS: Mapping[str, tuple[str, ...]] = {
    'CocoMetric': ('bbox', 'segm', 'proposal', 'proposal_fast'),
    'VOCMetric': ('mAP', 'recall'),
    'CocoPanopticMetric': ('PQ',),
    'CityScapesMetric': ('cityscapes',),
}
"""The names that `--eval` takes, by the evaluator that computes them; one of another class takes any."""

OPTIONS: Mapping[str, str] = {'jsonfile_prefix': 'outfile_prefix', 'txtfile_prefix': 'outfile_prefix',
                              'iou_thr': 'iou_thrs'}
"""Names that MMDetection 2.x gave to what evaluators call otherwise."""

WITHOUT_EFFECT = ('logger', 'nproc', 'metric')
"""Options of MMDetection 2.x that an evaluation does without; `--eval` says the metric."""


def set_metrics(cfg: Any, split: str, names: Sequence[str]) -> None:
    """Make the evaluators of `cfg` compute what `--eval` names and nothing else, in place.

    Args:
        cfg: a whole config.
        split: 'test' or 'val'.
        names: such as bbox, segm, proposal, mAP, PQ.

    Raises:
        ConfigError: none of the config's evaluators computes one of them.
    """
    evaluators = evaluators_of(cfg, split)
    takes = {id(e): METRICS.get(_kind(e)) for e in evaluators}
    known = [name for e in evaluators for name in takes[id(e)] or ()]
    by_lower = {name.lower(): name for name in known}
    asked = [by_lower.get(name.lower(), name) for name in names]
    if any(takes[id(e)] is None for e in evaluators):    # one of the user's own, which may know any name
        known += [name for name in asked if name not in known]
    for name in asked:
        if name not in known:
            kinds = ', '.join(_kind(e) for e in evaluators) or 'none'
            raise ConfigError(f'--eval {name}: the config does not compute that{did_you_mean(name, known)}; its '
                              f'{split}_evaluator ({kinds}) computes {", ".join(known) or "nothing"}. Another '
                              f'evaluator is set by --cfg-options {split}_evaluator.type=NAME')
    chosen = []
    for evaluator in evaluators:
        mine = [n for n in asked if n in (takes[id(evaluator)] or asked)]
        if mine:
            one = dict(evaluator)
            if _kind(evaluator) not in ('CocoPanopticMetric', 'CityScapesMetric'):    # these have one metric each
                one['metric'] = mine[0] if _kind(evaluator) == 'VOCMetric' else mine
            chosen.append({k: v for k, v in one.items() if k != 'format_only'})
    cfg[f'{split}_evaluator'] = chosen


def set_options(cfg: Any, split: str, options: Sequence[str]) -> None:
    """Give the evaluators of `cfg` the options of `--eval-options`, in place: each to those that take it.

    Args:
        cfg: a whole config.
        split: 'test' or 'val'.
        options: `key=value` texts.

    Raises:
        ConfigError: an option that no evaluator has.
    """
    import inspect

    from omnidet.registry import METRICS as CLASSES
    evaluators = [dict(e) for e in evaluators_of(cfg, split)]
    takes = [inspect.signature(CLASSES.get(e['type']) if isinstance(e['type'], str) else e['type']).parameters
             for e in evaluators]
    for name, value in parse_options(options).items():
        key = OPTIONS.get(name, name)
        if key in WITHOUT_EFFECT:
            continue
        able = [e for e, parameters in zip(evaluators, takes, strict=True) if key in parameters]
        if not able:
            known = sorted({p for parameters in takes for p in parameters})
            raise ConfigError(f'--eval-options {name}: the {split}_evaluator has no such option'
                              + (did_you_mean(key, known) or f'; it takes {", ".join(known)}'))
        for evaluator in able:
            evaluator[key] = value
    cfg[f'{split}_evaluator'] = evaluators


def parse_options(options: Sequence[str]) -> dict[str, Any]:
    """`key=value` texts as a dict, with values as `--cfg-options` reads them.

    Raises:
        ConfigError: one of them cannot be read.
    """
    from omnidet.config.meter import Meter
    from omnidet.config.nodes import ConfigDict, Origins
    from omnidet.config.overrides import SOURCE, override
    out = ConfigDict()
    try:
        override(out, options, Origins(), Meter())
    except ConfigError as e:
        raise ConfigError(str(e).replace(SOURCE, '--eval-options')) from None
    return dict(out)


def set_format_only(cfg: Any, split: str, prefix: Path) -> None:
    """Make the evaluators of `cfg` write results to `prefix`.*.json and measure nothing, in place.

    Raises:
        ConfigError: none of the evaluators can.
    """
    evaluators = [dict(e) for e in evaluators_of(cfg, split)]
    able = [e for e in evaluators if _kind(e) in ('CocoMetric', 'CocoPanopticMetric', 'CityScapesMetric')]
    if not able:
        raise ConfigError(f'--format-only: {", ".join(map(_kind, evaluators)) or "no evaluator"} writes no results; '
                          '--out results.pkl writes those of any model')
    for evaluator in able:
        evaluator['format_only'] = True
        evaluator.setdefault('outfile_prefix', None)
        evaluator['outfile_prefix'] = evaluator['outfile_prefix'] or str(prefix)
    cfg[f'{split}_evaluator'] = able


def add_dump(cfg: Any, split: str, path: Path, tell: bool = True) -> None:
    """Make `cfg` write the results of every image to a pickle, and say where, in place."""
    dump = {'type': 'DumpDetResults', 'out_file_path': str(path), **({} if tell else {'tell': False})}
    cfg[f'{split}_evaluator'] = [*map(dict, evaluators_of(cfg, split)), dump]


def evaluators_of(cfg: Mapping[str, Any], split: str) -> list[Mapping[str, Any]]:
    """The evaluators of a split, each a dict; none where the config has none."""
    evaluator = cfg.get(f'{split}_evaluator')
    return [] if not evaluator else [evaluator] if isinstance(evaluator, Mapping) else list(evaluator)


def _kind(evaluator: Mapping[str, Any]) -> str:
    kind = evaluator.get('type')
    return kind.rpartition('.')[2] if isinstance(kind, str) else getattr(kind, '__name__', str(kind))
