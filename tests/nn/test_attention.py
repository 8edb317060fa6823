"""Attention, feed-forward parts and positional encodings against torch's own and against the papers' equations."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from omnidet.errors import ConfigError
from omnidet.nn.attention import MultiheadAttention
from omnidet.nn.deform_attention import MultiScaleDeformableAttention
from omnidet.nn.ffn import FFN, MLP
from omnidet.nn.positional_encoding import LearnedPositionalEncoding, SinePositionalEncoding, encode_coordinates

C, M = 16, 4


def pair():
    torch.manual_seed(0)
    ours, theirs = MultiheadAttention(C, M), nn.MultiheadAttention(C, M, batch_first=True)
    for p in ours.parameters():
        nn.init.normal_(p, 0, 0.3)
    theirs.load_state_dict(ours.attn.state_dict())    # equal names and shapes
    return ours.eval(), theirs.train()    # torch's other path, which evaluation takes, is not what is compared


def test_self_attention_equals_torch():
    ours, theirs = pair()
    x, pos = torch.randn(2, 5, C), torch.randn(2, 5, C)
    want = x + theirs(x + pos, x + pos, x)[0]
    torch.testing.assert_close(ours(x, query_pos=pos), want)


def test_cross_attention_with_both_masks_equals_torch():
    ours, theirs = pair()
    x, memory, pos, memory_pos = torch.randn(2, 5, C), torch.randn(2, 7, C), torch.randn(2, 5, C), torch.randn(2, 7, C)
    padding = torch.zeros(2, 7, dtype=torch.bool)
    padding[1, 4:] = True
    blocked = torch.rand(5, 7) < 0.3
    blocked[:, 0] = False
    want = x + theirs(x + pos, memory + memory_pos, memory, key_padding_mask=padding, attn_mask=blocked)[0]
    got = ours(x, memory, query_pos=pos, memory_pos=memory_pos, key_padding_mask=padding, attn_mask=blocked)
    torch.testing.assert_close(got, want)
    several = ours(x, memory, query_pos=pos, memory_pos=memory_pos, key_padding_mask=padding,
                   attn_mask=blocked.expand(2, 5, 7))
    torch.testing.assert_close(several, want)


def test_dropout_is_of_weights_and_output_in_training_alone():
    ours = MultiheadAttention(C, M, dropout=0.5)
    assert (ours.attn.dropout, ours.dropout_layer.p, ours.proj_drop.p) == (0.5, 0.5, 0.0)
    x = torch.randn(1, 6, C)
    assert not torch.equal(ours(x), ours(x))
    ours.eval()
    assert torch.equal(ours(x), ours(x))


def test_sequence_first_tensors_are_refused():
    with pytest.raises(ConfigError, match='batch_first'):
        MultiheadAttention(C, M, batch_first=False)


def test_ffn_adds_its_input_to_two_linear_layers():
    ffn = FFN(C, 32).eval()
    assert list(ffn.state_dict()) == ['layers.0.0.weight', 'layers.0.0.bias', 'layers.1.weight', 'layers.1.bias']
    x = torch.randn(3, C)
    want = x + ffn.layers[1](ffn.layers[0][0](x).relu())
    torch.testing.assert_close(ffn(x), want)
    ffn.add_identity = False
    torch.testing.assert_close(ffn(x), want - x)


def test_mlp_has_no_activation_at_its_end():
    mlp = MLP(2, 3, 4, 2)
    nn.init.constant_(mlp.layers[1].bias, -9.0)
    assert mlp(torch.zeros(1, 2)).min() < 0


def test_sine_encoding_is_the_papers_equation():
    padding = torch.zeros(1, 3, 4, dtype=torch.bool)
    padding[:, 2:] = True
    padding[:, :, 3:] = True    # an image of 2 x 3
    got = SinePositionalEncoding(4, temperature=20, normalize=True, offset=-0.5, eps=0.0)(padding)
    assert got.shape == (1, 8, 3, 4)
    for row in range(2):
        for col in range(3):
            # rows and columns count from 1 and have the offset added; what they are divided by has not
            want = [f(v / 20 ** (2 * i / 4)) for v in ((row + 0.5) / 2 * 2 * math.pi, (col + 0.5) / 3 * 2 * math.pi)
                    for i in range(2) for f in (math.sin, math.cos)]
            assert got[0, :, row, col].tolist() == pytest.approx(want, abs=1e-6)


def test_sine_encoding_counts_cells_where_it_is_not_normalised():
    got = SinePositionalEncoding(2)(torch.zeros(1, 2, 2, dtype=torch.bool))
    assert got[0, :, 1, 0].tolist() == pytest.approx([math.sin(2), math.cos(2), math.sin(1), math.cos(1)], abs=1e-6)


def test_padding_does_not_move_the_positions_of_an_image():
    encoding = SinePositionalEncoding(8, normalize=True)
    alone = encoding(torch.zeros(1, 3, 5, dtype=torch.bool))
    padding = torch.ones(1, 6, 7, dtype=torch.bool)
    padding[:, :3, :5] = False
    torch.testing.assert_close(encoding(padding)[..., :3, :5], alone)


def test_learned_encoding_has_columns_before_rows():
    encoding = LearnedPositionalEncoding(3, row_num_embed=4, col_num_embed=6)
    got = encoding(torch.zeros(2, 4, 5, dtype=torch.bool))
    assert got.shape == (2, 6, 4, 5)
    torch.testing.assert_close(got[1, :3, 2, 4], encoding.col_embed.weight[4])
    torch.testing.assert_close(got[1, 3:, 2, 4], encoding.row_embed.weight[2])


def test_coordinates_are_encoded_y_before_x_before_size():
    got = encode_coordinates(torch.tensor([0.1, 0.2, 0.3, 0.4]), num_feats=2)
    want = [f(2 * math.pi * v) for v in (0.2, 0.1, 0.3, 0.4) for f in (math.sin, math.cos)]
    assert got.tolist() == pytest.approx(want, abs=1e-6)


def test_deformable_attention_begins_with_equal_weights_in_all_directions():
    attention = MultiScaleDeformableAttention(C, num_heads=4, num_levels=2, num_points=3)
    offsets = attention.sampling_offsets.bias.view(4, 2, 3, 2)
    directions = [(1, 0), (0, 1), (-1, 0), (0, -1)]
    for head, (x, y) in enumerate(directions):
        for point in range(3):
            torch.testing.assert_close(offsets[head, 1, point], torch.tensor([x, y]) * (point + 1.0))
    assert not attention.sampling_offsets.weight.any() and not attention.attention_weights.weight.any()


def simple_attention():
    """Identity projections, one head, one level, one point without offset."""
    attention = MultiScaleDeformableAttention(2, num_heads=1, num_levels=1, num_points=1, dropout=0.0)
    for layer in (attention.value_proj, attention.output_proj):
        nn.init.eye_(layer.weight)
    nn.init.zeros_(attention.sampling_offsets.bias)
    return attention


def test_deformable_attention_to_a_reference_point_gives_the_value_there():
    attention, memory = simple_attention(), torch.randn(1, 6, 2)
    point = torch.tensor([1.5 / 3, 0.5 / 2]).view(1, 1, 1, 2)
    query = torch.randn(1, 1, 2)
    got = attention(query, memory, reference_points=point, shapes=[(2, 3)])
    torch.testing.assert_close(got, query + memory[:, 1:2])


def test_padded_tokens_count_as_zero():
    attention, memory = simple_attention(), torch.randn(1, 6, 2)
    point = torch.tensor([1.5 / 3, 0.5 / 2]).view(1, 1, 1, 2)
    query, padding = torch.randn(1, 1, 2), torch.tensor([[False, True, False, False, False, False]])
    got = attention(query, memory, key_padding_mask=padding, reference_points=point, shapes=[(2, 3)])
    torch.testing.assert_close(got, query)


def test_offsets_are_cells_from_a_point_and_half_sizes_of_a_box():
    attention, memory = simple_attention(), torch.randn(1, 6, 2)
    attention.sampling_offsets.bias.data.copy_(torch.tensor([1.0, 0.0]))
    query = torch.zeros(1, 1, 2)
    point = torch.tensor([0.5 / 3, 0.5 / 2]).view(1, 1, 1, 2)
    torch.testing.assert_close(attention(query, memory, reference_points=point, shapes=[(2, 3)]), memory[:, 1:2])
    box = torch.tensor([0.5 / 3, 0.5 / 2, 4 / 3, 0.3]).view(1, 1, 1, 4)    # half its width is two cells
    torch.testing.assert_close(attention(query, memory, reference_points=box, shapes=[(2, 3)]), memory[:, 2:3])
