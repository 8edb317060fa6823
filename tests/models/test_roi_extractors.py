"""From maps and boxes to the features of each box, and masks from them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import roi_align

from omnidet.errors import ConfigError
from omnidet.models.roi_heads.extractors.roi_extractor import roi_levels, scale_rois
from omnidet.registry import ROI_HEADS

STRIDES = [4, 8, 16]


def _extractor(**kw):
    return ROI_HEADS.build({'type': 'SingleRoIExtractor', 'out_channels': 3, 'featmap_strides': STRIDES, 'roi_layer': {
        'type': 'RoIAlign', 'output_size': 3, 'sampling_ratio': 2}, **kw})


def _feats(levels=4):
    torch.manual_seed(0)
    return [torch.randn(2, 3, 256 // 2 ** i, 256 // 2 ** i, requires_grad=True) for i in range(2, 2 + levels)]


def _rois(*sides):
    """Boxes of these sides at (5, 7), in images 0 and 1 in turn."""
    return torch.tensor([[i % 2, 5, 7, 5 + s, 7 + s] for i, s in enumerate(sides)]).float()


def test_the_level_doubles_with_the_side():
    sides = torch.tensor([1., 20., 111.9, 112., 223.9, 224., 447., 448., 5000.])
    rois = torch.stack([sides * 0, sides * 0, sides * 0, sides, sides], 1)
    assert roi_levels(rois, 4, 56).tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3]


def test_a_long_box_has_the_level_of_a_square_one_of_its_area():
    assert roi_levels(torch.tensor([[0., 0., 0., 56., 224.], [0., 0., 0., 14., 224.]]), 4, 56).tolist() == [1, 0]


def test_a_box_without_extent_is_on_the_first_level():
    assert roi_levels(torch.tensor([[0., 9., 9., 9., 9.], [0., 9., 9., 5., 12.]]), 4, 56).tolist() == [0, 0]


def test_each_box_is_sampled_from_its_own_level_and_comes_out_in_its_place():
    feats, rois = _feats(), _rois(130, 30, 230, 60, 150)
    got = _extractor()(feats, rois)
    for row, roi, level in zip(got, rois, [1, 0, 2, 0, 1], strict=True):
        want = roi_align(feats[level], roi[None], 3, 1 / STRIDES[level], 2, aligned=True)[0]
        assert torch.allclose(row, want, atol=1e-5)


def test_every_level_has_a_gradient_even_without_boxes():
    feats = _feats()
    _extractor()(feats, _rois(30)).sum().backward()
    assert feats[0].grad.any() and not feats[1].grad.any() and not feats[2].grad.any()


def test_no_boxes_give_no_rows():
    assert _extractor()(_feats(), torch.zeros(0, 5)).shape == (0, 3, 3, 3)
    assert _extractor(featmap_strides=[4])(_feats(), torch.zeros(0, 5)).shape == (0, 3, 3, 3)


def test_boxes_grow_about_their_centres():
    grown = scale_rois(torch.tensor([[1., 10., 20., 30., 60.]]), 1.5)
    assert grown.tolist() == [[1., 5., 10., 35., 70.]]
    feats = _feats()
    assert torch.allclose(_extractor()(feats, _rois(40), roi_scale_factor=1.5),
                          _extractor()(feats, scale_rois(_rois(40), 1.5)))


@pytest.mark.parametrize('aggregation', ['sum', 'concat'])
def test_a_generic_extractor_takes_all_levels(aggregation):
    feats, rois = _feats(), _rois(130, 30)
    generic = _extractor(type='GenericRoIExtractor', aggregation=aggregation)
    every = [roi_align(f, rois, 3, 1 / s, 2, aligned=True) for f, s in zip(feats, STRIDES)]
    want = sum(every) if aggregation == 'sum' else torch.cat(every, 1)
    assert torch.allclose(generic(feats, rois), want, atol=1e-5)


def test_plugins_stand_before_and_after():
    conv = {'type': 'ConvModule', 'in_channels': 3, 'out_channels': 3, 'kernel_size': 1, 'act_cfg': None}
    generic = _extractor(type='GenericRoIExtractor', pre_cfg=conv, post_cfg={
        'type': 'GeneralizedAttention', 'in_channels': 3, 'num_heads': 3, 'position_embedding_dim': 4,
        'attention_type': '0100'})
    with torch.no_grad():
        generic.pre_module.conv.weight.zero_()
        generic.pre_module.conv.bias.fill_(1.0)
    assert {k.split('.')[0] for k in generic.state_dict()} == {'pre_module', 'post_module'}
    generic.post_module = torch.nn.Identity()
    assert torch.equal(generic(_feats(), _rois(30)), torch.full((1, 3, 3, 3), 3.0))    # three levels of ones


def test_another_aggregation_is_told():
    with pytest.raises(ConfigError, match='aggregation'):
        _extractor(type='GenericRoIExtractor', aggregation='mean')


def _mask_head(**kw):
    torch.manual_seed(0)
    return ROI_HEADS.build({'type': 'FCNMaskHead', 'num_convs': 1, 'in_channels': 3, 'conv_out_channels': 4,
                            'num_classes': 5, **kw})


@pytest.mark.parametrize(('kw', 'names', 'size'), [
    ({}, {'convs.0.conv', 'upsample', 'conv_logits'}, 14),
    ({'upsample_cfg': {'type': 'bilinear', 'scale_factor': 2}, 'class_agnostic': True},
     {'convs.0.conv', 'conv_logits'}, 14),
    ({'upsample_cfg': None, 'num_convs': 2, 'norm_cfg': {'type': 'BN'}},
     {'convs.0.conv', 'convs.0.bn', 'convs.1.conv', 'convs.1.bn', 'conv_logits'}, 7),
    ({'num_convs': 0, 'predictor_cfg': {'type': 'NormedConv2d', 'tempearture': 20}}, {'upsample', 'conv_logits'}, 14),
])
def test_mask_heads_have_the_known_names_and_sizes(kw, names, size):
    head = _mask_head(**kw)
    assert {k.rpartition('.')[0] for k in head.state_dict()} == names
    assert head(torch.randn(2, 3, 7, 7)).shape == (2, 1 if head.class_agnostic else 5, size, size)


def test_the_mask_of_the_own_class_is_learned():
    head = _mask_head()
    logits, masks, labels = torch.randn(3, 5, 4, 4, requires_grad=True), (torch.rand(3, 4, 4) > 0.5).float(), \
        torch.tensor([4, 0, 4])
    loss = head.losses(logits, masks, labels)['loss_mask']
    want = F.binary_cross_entropy_with_logits(torch.stack([logits[0, 4], logits[1, 0], logits[2, 4]]), masks)
    assert loss.item() == pytest.approx(want.item(), rel=1e-5)
    assert torch.allclose(head.probabilities(logits, labels)[1], logits[1, 0].sigmoid())
    one = _mask_head(class_agnostic=True)
    assert torch.allclose(one.probabilities(logits[:, :1], labels)[0], logits[0, 0].sigmoid())


def test_without_instances_the_mask_loss_is_0_and_every_parameter_has_a_gradient():
    head = _mask_head()
    loss = head.losses(head(torch.zeros(0, 3, 7, 7)), torch.zeros(0, 14, 14), torch.zeros(0, dtype=torch.long))
    loss['loss_mask'].backward()
    assert loss['loss_mask'] == 0 and all(p.grad is not None for p in head.parameters())


def test_masks_of_another_size_are_told():
    with pytest.raises(ConfigError, match='mask_size'):
        _mask_head().losses(torch.zeros(1, 5, 14, 14), torch.zeros(1, 28, 28), torch.zeros(1, dtype=torch.long))
