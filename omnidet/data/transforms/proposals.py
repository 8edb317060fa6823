"""Boxes that a model is handed with an image (Fast R-CNN, arXiv:1504.08083)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from omnidet.data.transforms.base import BaseTransform, Compose, Results
from omnidet.errors import ConfigError, DatasetError
from omnidet.registry import TRANSFORMS

NOT_PROPOSALS = ('gt_bboxes', 'gt_bboxes_labels', 'gt_ignore_flags', 'gt_masks', 'gt_seg_map')


@TRANSFORMS.register
class LoadProposals(BaseTransform):
    """Take the image's proposals, which the data set reads from its `proposal_file`, best first.

    Args:
        num_max_proposals: keep the best so many; all by default.
    """

    def __init__(self, num_max_proposals: int | None = None) -> None:
        self.num_max_proposals = num_max_proposals

    def transform(self, results: Results) -> Results:
        if results.get('proposals') is None:
            raise DatasetError(f'{results.get("img_path")}: LoadProposals finds no proposals; set proposal_file of the '
                               'data set, a file with boxes for each of its images')
        boxes = np.asarray(results['proposals'], np.float32).reshape(-1, 4)[:self.num_max_proposals]
        results['proposals'] = boxes if len(boxes) else np.zeros((1, 4), np.float32)
        if results.get('proposals_scores') is not None:
            scores = np.asarray(results['proposals_scores'], np.float32)[:self.num_max_proposals]
            results['proposals_scores'] = scores if len(boxes) else np.zeros(1, np.float32)
        return results


@TRANSFORMS.register
class ProposalBroadcaster(BaseTransform):
    """Run transforms so that proposals go where the image goes: resized, flipped and cropped with it.

    Args:
        transforms: what to run. What it draws must not depend on the boxes.
    """

    def __init__(self, transforms: Sequence[Any] = ()) -> None:
        self.pipeline = Compose(transforms)

    def transform(self, results: Results) -> Results | None:
        if results.get('proposals') is None:
            raise ConfigError('ProposalBroadcaster: there are no proposals; LoadProposals comes before it')
        state = random.getstate(), np.random.get_state()
        shape = results['img'].shape[:2]
        # a second walk over a picture without colours, with the proposals as its boxes and the same random numbers
        like = {k: v for k, v in results.items() if k not in NOT_PROPOSALS}
        like.update(img=np.zeros(shape, np.uint8), gt_bboxes=results.pop('proposals'))
        like['gt_bboxes_labels'] = np.arange(len(like['gt_bboxes']))    # which of them are left
        out = self.pipeline(results)
        if out is None:
            return None
        after = random.getstate(), np.random.get_state()
        random.setstate(state[0])
        np.random.set_state(state[1])
        moved = self.pipeline(like)
        random.setstate(after[0])
        np.random.set_state(after[1])
        if moved is None or any(_plain(moved.get(k)) != _plain(out.get(k)) for k in ('img_shape', 'flip_direction')):
            raise ConfigError('ProposalBroadcaster.transforms: what a transform draws depends on the boxes, so the '
                              'proposals cannot follow the image; move it out')
        out['proposals'] = moved['gt_bboxes']
        if out.get('proposals_scores') is not None:
            out['proposals_scores'] = out['proposals_scores'][moved['gt_bboxes_labels']]
        return out


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, (tuple, list)) else value
