"""What all detectors share: their backbone and neck."""

from __future__ import annotations

import torch

from omnidet.models.detectors.base import BaseDetector

BACKBONE = {'type': 'ResNet', 'depth': 18, 'base_channels': 4, 'out_indices': (1, 2)}
FPN = {'type': 'FPN', 'in_channels': [8, 16], 'out_channels': 6, 'num_outs': 2}


def test_a_list_of_necks_is_a_chain():
    second = {'type': 'FPN', 'in_channels': [6, 6], 'out_channels': 3, 'num_outs': 3}
    detector = BaseDetector(BACKBONE, [FPN, second])
    images = torch.rand(1, 3, 64, 64)

    feats = detector.extract_feat(images)

    by_hand = detector.neck[1](detector.neck[0](detector.backbone(images)))
    assert [f.shape[1:] for f in feats] == [(3, 8, 8), (3, 4, 4), (3, 2, 2)]
    torch.testing.assert_close(feats, by_hand)
    assert 'neck.1.lateral_convs.0.conv.weight' in detector.state_dict()
