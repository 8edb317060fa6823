import pytest
import torch

from omnidet.data import build_preprocessor, collate
from omnidet.errors import ConfigError
from omnidet.structures import ImageMeta, Sample


def sample(h, w, value=100, **target):
    image = torch.full((3, h, w), value, dtype=torch.uint8)
    image[0] = 10
    target = dict(boxes=torch.tensor([[0.0, 0.0, 4.0, 4.0]]), labels=torch.tensor([1]), **target)
    return Sample(image, target, ImageMeta(img_shape=(h, w), ori_shape=(h, w)))


def test_values_are_normalised_and_padding_holds_its_value():
    pre = build_preprocessor(dict(type='DetDataPreprocessor', mean=[10, 20, 30], std=[1, 2, 5], pad_size_divisor=32,
                                  pad_value=7))
    out = pre(collate([sample(40, 20), sample(10, 50)]))
    assert out.images.shape == (2, 3, 64, 64) and out.images.dtype == torch.float32
    assert out.images[0, :, 5, 5].tolist() == [0, 40, 14]
    assert (out.images[0, :, 40:] == 7).all() and (out.images[0, :, :, 20:] == 7).all()
    assert (out.images[1, :, :10, :50] != 7).all() and (out.images[1, :, 10:] == 7).all()
    assert [m.pad_shape for m in out.metas] == [(64, 64)] * 2 and out.metas[0].img_shape == (40, 20)


def test_channels_are_swapped_before_the_mean_is_taken():
    pre = build_preprocessor(dict(mean=[0, 0, 10], std=[1, 1, 1], bgr_to_rgb=True))
    assert pre(collate([sample(4, 4)])).images[0, :, 0, 0].tolist() == [100, 100, 0]


def test_without_mean_values_become_float_only():
    assert build_preprocessor(None)(collate([sample(4, 4)])).images[0, :, 0, 0].tolist() == [10, 100, 100]


def test_masks_and_semantic_maps_grow_with_the_batch():
    pre = build_preprocessor(dict(type='DetDataPreprocessor', pad_size_divisor=16, pad_mask=True, pad_seg=True))
    out = pre(collate([sample(10, 12, masks=torch.ones(1, 10, 12, dtype=torch.bool), sem_seg=torch.zeros(10, 12))]))
    assert out.targets.masks.shape == (1, 2, 16, 16) and out.targets.masks.area().tolist() == [[120, 0]]
    assert out.targets.sem_seg.shape == (1, 16, 16) and (out.targets.sem_seg == 255).sum() == 256 - 120


def test_it_has_no_entries_in_a_state_dict_and_moves_with_the_model():
    pre = build_preprocessor(dict(mean=[1, 2, 3], std=[1, 1, 1]))
    assert not pre.state_dict() and pre.to(torch.float64).mean.dtype == torch.float64


def test_a_wrapped_preprocessor_gives_the_inner_one():
    inner = dict(mean=[1, 1, 1], std=[1, 1, 1])
    pre = build_preprocessor(dict(type='MultiBranchDataPreprocessor', data_preprocessor=inner))
    assert pre.mean.flatten().tolist() == [1, 1, 1]


def test_batches_are_padded_to_a_fixed_size_in_training_only():
    pre = build_preprocessor(dict(batch_augments=[dict(type='BatchFixedSizePad', size=(20, 30), img_pad_value=3)]))
    out = pre(collate([sample(10, 12)]))
    assert out.images.shape[2:] == out.metas[0].pad_shape == (20, 30) and (out.images[0, :, 10:] == 3).all()
    assert pre.eval()(collate([sample(10, 12)])).images.shape[2:] == (10, 12)


def test_random_sizes_change_every_interval_and_take_the_boxes_along():
    augment = dict(type='BatchSyncRandomResize', random_size_range=(32, 128), interval=2, size_divisor=32)
    pre = build_preprocessor(dict(batch_augments=[augment]))
    outs = [pre(collate([sample(64, 64)])) for _ in range(20)]
    sizes = [o.images.shape[2] for o in outs]
    assert sizes[:2] == [64, 64] and sizes[0::2] == sizes[1::2]
    assert set(sizes) <= {32, 64, 96, 128} and len(set(sizes)) > 2
    for out, size in zip(outs, sizes, strict=True):
        assert out.targets.boxes[0, 0].tolist() == [0, 0, size / 16, size / 16]
        assert out.targets.sizes.tolist() == [[size, size]] and out.metas[0].img_shape == (size, size)
    again = build_preprocessor(dict(batch_augments=[augment]))
    again.set_progress(0, 12)
    assert again(collate([sample(64, 64)])).images.shape[2] == sizes[12]


@pytest.mark.parametrize('size, scale, shape, padded', [
    ((40, 60), (100, 80), (67, 100), (96, 128)),     # the longer side is the limit
    ((40, 40), (80, 100), (80, 80), (96, 96)),       # the shorter one is
])
def test_batches_are_resized_to_a_shorter_and_a_longer_side(size, scale, shape, padded):
    pre = build_preprocessor(dict(batch_augments=[dict(type='BatchResize', scale=scale, pad_value=7)]))
    out = pre(collate([sample(*size)]))
    assert out.images.shape[2:] == padded and out.metas[0].pad_shape == padded and out.metas[0].img_shape == shape
    assert out.targets.boxes[0, 0].tolist() == pytest.approx(
        [0, 0, shape[1] / size[1] * 4, shape[0] / size[0] * 4])
    assert (out.images[:, :, shape[0]:] == 7).all() and (out.images[:, :, :, shape[1]:] == 7).all()
    assert out.targets.sizes.tolist() == [list(shape)]
    assert pre.eval()(collate([sample(*size)])).images.shape[2:] == size


@pytest.mark.parametrize('cfg', [dict(mean=[1, 2, 3]), dict(mean=[1, 2], std=[1, 2]),
                                 dict(bgr_to_rgb=True, rgb_to_bgr=True), dict(maen=[1])])
def test_nonsense_is_refused(cfg):
    with pytest.raises(ConfigError):
        build_preprocessor(cfg)
