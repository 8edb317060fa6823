from __future__ import annotations

import pytest
import torch
import torchvision

from omnidet.ops.deform_roi_pool import deform_roi_pool
from omnidet.registry import ROI_LAYERS

FEAT = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
ROIS = torch.tensor([[0, 4.0, 6.0, 40.0, 50.0], [1, 0.0, 0.0, 63.0, 63.0]])


def test_roi_align_and_roi_pool_are_those_of_torchvision():
    align = ROI_LAYERS.build(dict(type='RoIAlign', output_size=7, sampling_ratio=2, use_torchvision=True),
                             spatial_scale=0.25)
    pool = ROI_LAYERS.build(dict(type='RoIPool', output_size=(3, 5)), spatial_scale=0.25)
    torch.testing.assert_close(align(FEAT, ROIS), torchvision.ops.roi_align(FEAT, ROIS, 7, 0.25, 2, True))
    assert torch.equal(pool(FEAT, ROIS), torchvision.ops.roi_pool(FEAT, ROIS, (3, 5), 0.25))


def test_deformable_pooling_begins_at_rest():
    plain = torchvision.ops.roi_align(FEAT, ROIS, 3, 0.25, 0, True)
    for name, factor in (('DeformRoIPoolPack', 1.0), ('ModulatedDeformRoIPoolPack', 0.5)):
        layer = ROI_LAYERS.build(dict(type=name, output_size=3, output_channels=4), spatial_scale=0.25)
        torch.testing.assert_close(layer(FEAT, ROIS), factor * plain)


def test_predicted_offsets_and_factors_are_applied():
    layer = ROI_LAYERS.build(dict(type='ModulatedDeformRoIPoolPack', output_size=2, output_channels=4,
                                  deform_fc_channels=8, spatial_scale=0.25, gamma=0.5))
    offsets, logits = torch.tensor([1.0, 0, 0, 0, 0, 0, 0, -1.0]), torch.tensor([0.0, 1, 2, 3])
    with torch.no_grad():
        layer.offset_fc[4].bias.copy_(offsets)    # (x then y) of the bins, row by row
        layer.mask_fc[2].bias.copy_(logits)
    expected = deform_roi_pool(FEAT, ROIS, offsets.view(1, 2, 2, 2).expand(2, -1, -1, -1), 2, 0.25, gamma=0.5)
    torch.testing.assert_close(layer(FEAT, ROIS), expected * logits.sigmoid().view(1, 1, 2, 2))


@pytest.mark.parametrize('name', ['RoIAlign', 'RoIPool', 'DeformRoIPoolPack', 'ModulatedDeformRoIPoolPack'])
def test_every_layer_takes_no_regions_and_has_shapes_without_data(name):
    channels = {'output_channels': 4} if 'Deform' in name else {}
    layer = ROI_LAYERS.build(dict(type=name, output_size=(2, 3), **channels))
    assert layer(FEAT, torch.zeros(0, 5)).shape == (0, 4, 2, 3)
    assert layer.to('meta')(FEAT.to('meta'), ROIS.to('meta')).shape == (2, 4, 2, 3)
