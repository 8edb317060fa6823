"""The picture of a training: losses, learning rate and scores over its iterations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omnidet.files import written_whole

MOST_LOSSES = 8
NO_LOSS = {'mode', 'epoch', 'iter', 'lr', 'time', 'data_time', 'memory', 'eta', 'grad_norm'}


def draw_curves(records: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the records of a `log.jsonl` into a PNG.

    Args:
        records: of modes 'train' and 'val'.
        path: of the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    train = [r for r in records if r.get('mode') == 'train']
    val = [r for r in records if r.get('mode') == 'val']
    scores = [k for k in dict.fromkeys(k for r in val for k in r) if k not in NO_LOSS and 'mAP' in k][:4] \
        or [k for k in dict.fromkeys(k for r in val for k in r) if k not in NO_LOSS][:4]
    figure = Figure(figsize=(13, 3.6), layout='constrained')
    FigureCanvasAgg(figure)
    losses, rates, figures = figure.subplots(1, 3)
    names, more = _drawn_losses(train)
    for key in names:
        losses.plot([r['iter'] for r in train if key in r], [r[key] for r in train if key in r],
                    label=key, linewidth=1.8 if key == 'loss' else 1)
    rates.plot([r['iter'] for r in train], [r['lr'] for r in train])
    for key in scores:
        told = [r for r in val if r.get(key, -1) >= 0]    # -1 is COCO's word for nothing to find
        if told:
            figures.plot([r['iter'] for r in told], [r[key] for r in told], marker='o', label=key)
    for axes, title in ((losses, 'loss'), (rates, 'learning rate'), (figures, 'validation')):
        axes.set_title(title)
        axes.set_xlabel('iteration')
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(fontsize=8, title=f'and {more} more in log.jsonl' if axes is losses and more else None,
                        title_fontsize=7)
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=110, format='png')


def _drawn_losses(train: Sequence[dict[str, Any]]) -> tuple[list[str], int]:
    """The names of the losses that are drawn, those of a model's last layer first, and how many there are more."""
    names = sorted(dict.fromkeys(k for r in train for k in r if 'loss' in k), key=lambda k: (k != 'loss', '.' in k))
    return names[:MOST_LOSSES], len(names[MOST_LOSSES:])
