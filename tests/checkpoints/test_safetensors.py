"""The safetensors format: files laid out by hand, files of its own library, and damaged ones."""

from __future__ import annotations

import json

import pytest
import torch

from omnidet.checkpoints import load_checkpoint
from omnidet.checkpoints.safetensors import DTYPES, read_safetensors, write_safetensors
from omnidet.errors import CheckpointError


def _file(path, header, data=b''):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, 'little') + text + data)
    return path


def test_bytes_after_the_header_are_read_by_type_and_shape(tmp_path):
    header = {'__metadata__': {'a': 'b'}, 'x': {'dtype': 'I16', 'shape': [2, 1], 'data_offsets': [1, 5]},
              'y': {'dtype': 'U8', 'shape': [], 'data_offsets': [0, 1]}}
    state, metadata = read_safetensors(_file(tmp_path / 'a.safetensors', header, b'\x07\x01\x00\xff\xff'))
    assert state['x'].dtype == torch.int16 and state['x'].tolist() == [[1], [-1]]
    assert state['y'].tolist() == 7 and metadata == {'a': 'b'}


def _tensors():
    state = {f'{name}.w': (torch.randn(3, 5) * 9).to(dtype) for name, dtype in DTYPES.items()}
    return state | {'empty': torch.zeros(0, 3), 'one': torch.tensor(3.5), 'odd': torch.tensor([True]),
                    'after_odd': torch.randn(4)}


def _same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.flatten().view(torch.uint8),
                                                                     b.flatten().view(torch.uint8))


def test_what_is_written_is_read(tmp_path):
    state = _tensors()
    write_safetensors(tmp_path / 'a.safetensors', {**state, 'turned': torch.arange(6.).view(2, 3).t()}, {'a': 'b'})
    got, metadata = read_safetensors(tmp_path / 'a.safetensors')
    assert got.pop('turned').tolist() == [[0, 3], [1, 4], [2, 5]]
    assert got.keys() == state.keys() and all(_same(got[k], state[k]) for k in state)
    assert metadata == {'format': 'pt', 'a': 'b'}


def test_files_pass_between_us_and_the_formats_own_library(tmp_path):
    library = pytest.importorskip('safetensors.torch')
    state = _tensors()
    write_safetensors(tmp_path / 'a.safetensors', state)
    library.save_file(state, tmp_path / 'b.safetensors')
    theirs, ours = library.load_file(tmp_path / 'a.safetensors'), read_safetensors(tmp_path / 'b.safetensors')[0]
    assert all(_same(theirs[k], state[k]) and _same(ours[k], state[k]) for k in state)


@pytest.mark.parametrize(('header', 'data', 'message'), [
    ({'x': {'dtype': 'F32', 'shape': [2], 'data_offsets': [0, 8]}}, b'1234', 'ends at byte 8 of 4'),
    ({'x': {'dtype': 'F32', 'shape': [2], 'data_offsets': [0, 4]}}, b'1234', 'has 4 bytes'),
    ({'x': {'dtype': 'F32', 'shape': [-1], 'data_offsets': [4, 0]}}, b'1234', r'shape \[-1\]'),
    ({'x': {'dtype': 'F32', 'shape': [1.0], 'data_offsets': [0, 4]}}, b'1234', 'shape'),
    ({'x': {'dtype': 'P9', 'shape': [1], 'data_offsets': [0, 4]}}, b'1234', "type 'P9'"),
    ({'x': {'dtype': 'F32', 'shape': [1]}}, b'1234', 'data_offsets'),
    ({'x': [1]}, b'', 'damaged'), ([1], b'', 'damaged'), (b'{"x"', b'', 'damaged'), (b'[' * 100000, b'', 'damaged')])
def test_damaged_files_are_told(tmp_path, header, data, message):
    with pytest.raises(CheckpointError, match=message):
        read_safetensors(_file(tmp_path / 'a.safetensors', header, data))


def test_truncated_files_are_told(tmp_path):
    write_safetensors(tmp_path / 'a.safetensors', {'w': torch.ones(5)})
    whole = (tmp_path / 'a.safetensors').read_bytes()
    for size in range(1, len(whole)):
        (tmp_path / 'b.safetensors').write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match='again'):
            read_safetensors(tmp_path / 'b.safetensors')


def test_it_is_a_checkpoint_like_others(tmp_path):
    write_safetensors(tmp_path / 'a.safetensors', {'w': torch.ones(2)},
                      {'omnidet': json.dumps({'dataset_meta': {'classes': ['cat']}})})
    content = load_checkpoint(tmp_path / 'a.safetensors')
    assert content['state_dict']['w'].tolist() == [1, 1]
    assert content['meta']['dataset_meta'] == {'classes': ['cat']}
