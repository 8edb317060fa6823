"""Swin against timm's, and its shifted windows against a loop over the windows that the unshifted map has."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from omnidet.checkpoints import load_pretrained
from omnidet.checkpoints.swin import convert_swin, resize_table
from omnidet.errors import ConfigError
from omnidet.models.backbones.swin import PatchMerging, SwinTransformer
from omnidet.nn.drop import DropPath, drop_path_rates
from omnidet.nn.window_attention import ShiftWindowMSA, WindowMSA

TINY = dict(embed_dims=16, depths=(2, 2), num_heads=(2, 4), strides=(4, 2), out_indices=(0, 1), window_size=4,
            drop_path_rate=0.0)


def attend_alone(w_msa, pixels, offsets):
    """Attention among a few pixels (S, C) that lie at `offsets` (S, 2) in their window, written out."""
    S, C = pixels.shape
    M = w_msa.num_heads
    side = (math.isqrt(len(w_msa.relative_position_bias_table)) + 1) // 2
    q, k, v = w_msa.qkv(pixels).reshape(S, 3, M, C // M).permute(1, 2, 0, 3)
    out = torch.zeros(M, S, C // M)
    for m in range(M):
        logits = q[m] @ k[m].T / math.sqrt(C // M)
        for i in range(S):
            for j in range(S):
                dy, dx = (offsets[i] - offsets[j]).tolist()
                logits[i, j] += w_msa.relative_position_bias_table[(dy + side - 1) * (2 * side - 1) + dx + side - 1, m]
        out[m] = logits.softmax(-1) @ v[m]
    return w_msa.proj(out.transpose(0, 1).reshape(S, C))


@pytest.mark.parametrize('shift', [0, 1, 2])
@pytest.mark.parametrize('shape', [(4, 8), (8, 4), (4, 4)])
@torch.no_grad()
def test_windows_equal_a_loop_over_regions_of_the_unshifted_map(shape, shift):
    """A grid shifted by s cuts the map at s, s + size, ...: the regions between the cuts see nothing but themselves."""
    torch.manual_seed(0)
    (H, W), size = shape, 4
    layer = ShiftWindowMSA(8, 2, size, shift).eval()
    x, want = torch.randn(2, H, W, 8), torch.zeros(2, H, W, 8)
    rows, columns = ([0, *range(shift or size, n, size), n] for n in (H, W))
    for b in range(2):
        for y1, y2 in itertools.pairwise(rows):
            for x1, x2 in itertools.pairwise(columns):
                at = torch.cartesian_prod(torch.arange(y1, y2), torch.arange(x1, x2))
                part = attend_alone(layer.w_msa, x[b, y1:y2, x1:x2].reshape(-1, 8), at)
                want[b, y1:y2, x1:x2] = part.reshape(y2 - y1, x2 - x1, 8)
    torch.testing.assert_close(layer(x), want, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('shift', [0, 2])
@torch.no_grad()
def test_a_map_of_any_size_is_padded_with_zeros_that_take_part(shift):
    torch.manual_seed(0)
    layer = ShiftWindowMSA(8, 2, 4, shift).eval()
    x = torch.randn(1, 5, 7, 8)
    torch.testing.assert_close(layer(x), layer(F.pad(x, (0, 0, 0, 1, 0, 3)))[:, :5, :7])


def test_the_bias_table_gets_a_gradient_through_shifted_windows():
    layer = ShiftWindowMSA(8, 2, 4, 2)
    layer(torch.randn(2, 8, 8, 8)).square().sum().backward()
    assert (layer.w_msa.relative_position_bias_table.grad.abs().sum(1) > 0).all()


@pytest.mark.parametrize('stride, size', [(2, (6, 4)), (2, (5, 3)), (1, (3, 3)), (3, (7, 6))])
@torch.no_grad()
def test_merging_takes_neighbourhoods_as_unfold_lays_them(stride, size):
    torch.manual_seed(0)
    layer = PatchMerging(3, 5, stride, {'type': 'LN'})
    x = torch.randn(2, *size, 3)
    out = [-(-n // stride) for n in size]
    pad = [max((o - 1) * stride + 2 - n, 0) for o, n in zip(out, size)]
    columns = F.unfold(F.pad(x.permute(0, 3, 1, 2), (0, pad[1], 0, pad[0])), 2, stride=stride)    # (B, 4C, h * w)
    want = layer.reduction(layer.norm(columns.transpose(1, 2))).reshape(2, *out, 5)
    torch.testing.assert_close(layer(x), want)


def timm_swin(**options):
    timm = pytest.importorskip('timm.models.swin_transformer')
    return timm.SwinTransformer(img_size=64, patch_size=4, embed_dim=16, depths=(2, 2), num_heads=(2, 4),
                                num_classes=0, window_size=4, drop_path_rate=0.0, **options).eval()


def published_names(state):
    """The release has the merging of patches at the end of a stage, timm at the beginning of the next."""
    return {k.replace('layers.1.downsample', 'layers.0.downsample'): v for k, v in state.items()}


@pytest.mark.parametrize('names', [published_names, dict])
@torch.no_grad()
def test_features_equal_timms_with_converted_weights(names):
    torch.manual_seed(0)
    theirs = timm_swin()
    for p in theirs.parameters():
        p.copy_(torch.randn_like(p) * 0.2)
    ours = SwinTransformer(**TINY, convert_weights=True).eval()
    state = ours.convert_names(names(theirs.state_dict()))
    report = ours.load_state_dict(state, strict=False)
    assert set(report.missing_keys) == {f'norm{i}.{k}' for i in (0, 1) for k in ('weight', 'bias')}
    assert not report.unexpected_keys
    x = torch.randn(2, 3, 64, 64)
    want = theirs.forward_intermediates(x, indices=[0, 1], intermediates_only=True)
    for got, their, norm in zip(ours(x), want, (ours.norm0, ours.norm1), strict=True):
        their = norm(their.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        torch.testing.assert_close(got, their, atol=1e-4, rtol=1e-4)


def test_a_file_in_the_form_of_the_release_is_read_where_a_config_names_it(tmp_path):
    theirs = timm_swin().state_dict()
    state = {**published_names(theirs), 'head.weight': torch.zeros(10, 32), 'head.bias': torch.zeros(10),
             'layers.0.blocks.1.attn_mask': torch.zeros(16, 16, 16)}
    torch.save({'model': state}, tmp_path / 'swin.pth')
    model = SwinTransformer(**TINY)
    init = {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'swin.pth')}
    report, = load_pretrained(model, {'init_cfg': init})
    assert {n.partition('.')[0] for n in report.missing} == {'norm0', 'norm1'}
    assert not report.unexpected and not report.mismatched
    torch.testing.assert_close(model.stages[1].blocks[1].ffn.layers[1].bias,
                               theirs['layers.1.blocks.1.mlp.fc2.bias'])


def test_tables_of_another_window_are_resized_and_ours_stay():
    theirs = SwinTransformer(**{**TINY, 'window_size': 3}).state_dict()
    ours = SwinTransformer(**TINY)
    state = ours.convert_names(theirs)
    ours.load_state_dict(state)
    name = 'stages.0.blocks.0.attn.w_msa.relative_position_bias_table'
    table = theirs[name].T.reshape(1, 2, 5, 5)
    want = F.interpolate(table, (7, 7), mode='bicubic')[0].permute(1, 2, 0).reshape(49, 2)
    torch.testing.assert_close(state[name], want)
    same = convert_swin(ours.state_dict(), ours.state_dict())
    assert all(torch.equal(same[k], v) for k, v in ours.state_dict().items())


def test_resized_biases_keep_the_offset_zero_and_their_symmetry():
    """The middle of the table is the offset (0, 0) in every window, and mirrored offsets stay mirrored."""
    torch.manual_seed(0)
    field = torch.randn(13, 13, 2)
    got, mirrored = (resize_table(f.reshape(169, 2), 529).reshape(23, 23, 2) for f in (field, field.flip(0)))
    torch.testing.assert_close(got[11, 11], field[6, 6])
    torch.testing.assert_close(got.flip(0), mirrored)


@pytest.mark.parametrize('size', [(32, 32), (33, 47), (5, 70)])
@torch.no_grad()
def test_any_image_size_gives_maps_of_the_strides(size):
    model = SwinTransformer(**TINY, use_abs_pos_embed=True, pretrain_img_size=32).eval()
    maps = model(torch.randn(1, 3, *size))
    assert [m.shape[1] for m in maps] == [16, 32]
    h, w = (-(-n // 4) for n in size)
    assert [m.shape[2:] for m in maps] == [(h, w), (-(-h // 2), -(-w // 2))]


def test_frozen_stages_get_no_gradient_and_drop_nothing():
    model = SwinTransformer(**{**TINY, 'drop_path_rate': 0.5}, drop_rate=0.5, use_abs_pos_embed=True, frozen_stages=1,
                            pretrain_img_size=32).train()
    frozen = {k for k, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {k for k, _ in model.named_parameters()
                      if k.startswith(('patch_embed.', 'stages.0.', 'norm0.', 'absolute_pos_embed'))}
    x = torch.randn(2, 3, 32, 32)
    (a, b), (c, d) = model(x), model(x)
    assert torch.equal(a, c)
    assert not torch.equal(b, d)


def test_recomputing_changes_neither_features_nor_gradients():
    torch.manual_seed(0)
    models = [SwinTransformer(**TINY, with_cp=with_cp).train() for with_cp in (False, True)]
    models[1].load_state_dict(models[0].state_dict())
    x = torch.randn(1, 3, 32, 32)
    for m in models:
        sum(f.square().mean() for f in m(x)).backward()
    for a, b in zip(models[0].parameters(), models[1].parameters()):
        torch.testing.assert_close(a.grad, b.grad)


def test_attention_weights_are_dropped_while_training_alone():
    layer, x = WindowMSA(8, 2, (2, 2), attn_drop_rate=0.5), torch.randn(1, 3, 4, 8)
    assert not torch.equal(layer(x), layer(x))
    assert torch.equal(layer.eval()(x), layer(x))


def test_drop_path_leaves_out_whole_images_and_keeps_the_mean():
    torch.manual_seed(0)
    out = DropPath(0.25).train()(torch.ones(4000, 3))
    assert out.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert (out == out[:, :1]).all()
    assert out.mean().item() == pytest.approx(1, abs=0.05)


def test_rates_of_leaving_out_grow_evenly_over_all_blocks():
    assert drop_path_rates(0.4, [2, 3]) == [[0, pytest.approx(0.1)], [pytest.approx(0.2), pytest.approx(0.3), 0.4]]


@pytest.mark.parametrize('change, message', [
    ({'num_heads': (2, 4, 8)}, 'as many'), ({'strides': (2, 2)}, 'patch_size'), ({'out_indices': (0, 2)}, '0 to 1'),
    ({'frozen_stages': 3}, '-1 to 2'), ({'num_heads': (3, 4)}, 'does not divide')])
def test_what_does_not_fit_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        SwinTransformer(**{**TINY, **change})
