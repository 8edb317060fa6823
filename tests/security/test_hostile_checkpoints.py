"""Checkpoints that are made to do harm, or are damaged: each is refused by name and soon, and nothing of it has run."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import struct
import tarfile
import time
import tracemalloc
import zipfile
from pathlib import Path

import pytest
import torch

from omnidet.checkpoints import load_checkpoint
from omnidet.checkpoints.inspection import inspect_checkpoint
from omnidet.errors import CheckpointError

MARK, REDUCE, STOP = b'(', b'R', b'.'


def word(text: str) -> bytes:
    data = text.encode()
    return b'X' + struct.pack('<I', len(data)) + data


def number(n: int) -> bytes:
    if -2 ** 31 <= n < 2 ** 31:
        return b'J' + struct.pack('<i', n)
    data = n.to_bytes(n.bit_length() // 8 + 1, 'little', signed=True)
    return b'\x8b' + struct.pack('<i', len(data)) + data


def name(module: str, attribute: str) -> bytes:
    return f'c{module}\n{attribute}\n'.encode()


def stack_name(module: str, attribute: str) -> bytes:
    return word(module) + word(attribute) + b'\x93'


def tuple_of(*items: bytes) -> bytes:
    return MARK + b''.join(items) + b't'


def tensor(numel: int = 4, offset: int = 0, size: tuple[int, ...] = (4,), stride: tuple[int, ...] = (1,),
           key: str = '0', kind: bytes = name('torch', 'FloatStorage')) -> bytes:
    """A call of torch's own function that makes a tensor of the memory `key`."""
    storage = tuple_of(word('storage'), kind, word(key), word('cpu'), number(numel)) + b'Q'
    return name('torch._utils', '_rebuild_tensor_v2') + tuple_of(
        storage, number(offset), tuple_of(*map(number, size)), tuple_of(*map(number, stride)), b'\x89',
        name('collections', 'OrderedDict') + b')R') + REDUCE


def checkpoint(extra: bytes = b'N', weight: bytes | None = None) -> bytes:
    """The pickle of {'state_dict': {'w': weight}, 'meta': extra}."""
    return (b'\x80\x02}(' + word('state_dict') + b'}' + word('w') + (weight or tensor()) + b's'
            + word('meta') + extra + b'u.')


def write(path: Path, pickled: bytes, records: dict[str, bytes] | None = None, folder: str = 'archive',
          packing: int = zipfile.ZIP_STORED) -> Path:
    """A file as torch.save makes it, around a pickle."""
    members = {'data.pkl': pickled, 'byteorder': b'little', 'version': b'3\n'}
    members |= {f'data/{k}': v for k, v in (records or {'0': struct.pack('<4f', 1, 2, 3, 4)}).items()}
    with zipfile.ZipFile(path, 'w', packing) as z:
        for member, data in members.items():
            z.writestr(f'{folder}/{member}', data)
    return path


def refused(path: Path, words: str = '.', seconds: float = 10, megabytes: float = 100) -> str:
    """The message with which a file is refused, by `load_checkpoint`; `inspect_checkpoint` must end too."""
    tracemalloc.start()
    start = time.process_time()
    with pytest.raises(CheckpointError, match=words) as refusal:
        load_checkpoint(path)
    try:
        inspect_checkpoint(path)
    except CheckpointError as e:
        assert path.name in str(e)
    assert time.process_time() - start < seconds
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < megabytes * 1e6
    assert path.name in str(refusal.value) and len(str(refusal.value)) < 2000
    return str(refusal.value)


def test_the_files_of_this_corpus_are_read_where_nothing_is_wrong(tmp_path):
    path = write(tmp_path / 'a.pth', checkpoint())
    assert load_checkpoint(path)['state_dict']['w'].tolist() == [1, 2, 3, 4]
    assert torch.load(path, weights_only=True)['state_dict']['w'].tolist() == [1, 2, 3, 4]


def calls(function: str, argument: bytes) -> dict[str, bytes]:
    """Every way in which a pickle can call `module.function(argument)`."""
    module, _, attribute = function.rpartition('.')
    plain, stacked = name(module, attribute), stack_name(module, attribute)
    return {
        'GLOBAL REDUCE': plain + tuple_of(argument) + REDUCE,
        'STACK_GLOBAL REDUCE': stacked + tuple_of(argument) + REDUCE,
        'INST': MARK + argument + f'i{module}\n{attribute}\n'.encode(),
        'OBJ': MARK + plain + argument + b'o',
        'NEWOBJ': plain + tuple_of(argument) + b'\x81',
        'NEWOBJ_EX': plain + tuple_of(argument) + b'}\x92',
        'getattr': name('builtins', 'getattr') + tuple_of(name(module, '__dict__'), word(attribute)) + REDUCE
        + tuple_of(argument) + REDUCE,
        'dotted': stack_name(module.partition('.')[0], f'{module}.{attribute}') + tuple_of(argument) + REDUCE,
        'BUILD': plain + b'}' + word('__setstate__') + argument + b'sb',
        'as the class of a tensor': tensor(kind=plain),
        'as a hook': name('torch._utils', '_rebuild_tensor_v2') + tuple_of(
            tuple_of(word('storage'), name('torch', 'FloatStorage'), word('0'), word('cpu'), number(4)) + b'Q',
            number(0), tuple_of(number(4)), tuple_of(number(1)), b'\x89', plain + tuple_of(argument) + REDUCE) + REDUCE,
        'through functools': name('functools', 'partial') + tuple_of(plain, argument) + REDUCE + b')R',
        'through a constructor': name('collections',
                                      'Counter') + tuple_of(plain + tuple_of(argument) + REDUCE) + REDUCE,
        'through copyreg': name('copyreg', '_reconstructor') + tuple_of(plain, name('builtins', 'object'),
                                                                        b'N') + REDUCE,
        'an extension': b'\x82\x01' + tuple_of(argument) + REDUCE,
    }


FUNCTIONS = ('os.mkdir', 'posix.mkdir', 'builtins.open', 'pathlib.Path.touch', 'torch.utils.collect_env.run',
             'omnidet.config.load_config', 'pickle.loads', 'numpy.core._multiarray_umath.load', 'torch.load',
             'torch.storage._load_from_bytes', 'torch.hub.load_state_dict_from_url', '__main__.f', 'nowhere.f')


@pytest.mark.parametrize('function', FUNCTIONS)
def test_no_way_to_call_something_is_open(tmp_path, function):
    canary = tmp_path / 'canary'
    for way, payload in calls(function, word(str(canary))).items():
        path = write(tmp_path / f'{way}.pth', checkpoint(payload))
        refused(path)
        legacy = tmp_path / f'{way}-legacy.pth'
        legacy.write_bytes(b''.join(pickle.dumps(p, 2) for p in (0x1950a86a20f9469cfc6c, 1001,
                                                                 {})) + checkpoint(payload))
        refused(legacy)
        assert not canary.exists() and sorted(p.suffix for p in tmp_path.iterdir()) == ['.pth'] * len(
            list(tmp_path.iterdir())), way


def doubled(start: bytes, step: bytes, times: int = 60) -> bytes:
    """`start`, put into the memo and onto the stack twice again and again by `step`."""
    out = start
    for i in range(times):
        out += b'r' + struct.pack('<I', 1000 + i) + b'0' + step.replace(b'%', b'j' + struct.pack('<I', 1000 + i))
    return out


TOWER = doubled(b')', b'%%\x86')
BOMBS = {
    'tuples as a key': b'}' + TOWER + b'Ns',
    'tuples as keys': b'}(' + TOWER + b'Nu',
    'tuples in a dict of old protocols': MARK + TOWER + b'Nd',
    'tuples in a set': b'\x8f(' + TOWER + b'\x90',
    'tuples in a frozenset': MARK + TOWER + b'\x91',
    'tuples in a call of set': name('builtins', 'set') + tuple_of(b'](' + TOWER + b'e') + REDUCE,
    'tuples in a call of frozenset': name('builtins', 'frozenset') + tuple_of(b'](' + TOWER + b'e') + b'\x81',
    'tuples in a call of OrderedDict': name('collections', 'OrderedDict') + tuple_of(b'](](' + TOWER + b'Nee') + REDUCE,
    'tuples in a Counter': name('collections', 'Counter') + tuple_of(b'](' + TOWER + b'e') + REDUCE,
    'tuples made by calls': b'}' + doubled(b')', name('builtins', 'tuple') + b'](%%e\x85R') + b'Ns',
    'deep tuple as a key': b'}' + b')' + b'\x85' * 50_000 + b'Ns',
    'tuples': TOWER,
    'lists': doubled(b']', b'](%%e'),
    'dicts': doubled(b'}', b'}(' + word('a') + b'%' + word('b') + b'%u'),
    'objects': doubled(b'N', name('argparse', 'Namespace') + b')\x81}(' + word('a') + b'%' + word('b') + b'%ub'),
    'text of lists': name('builtins', 'str') + tuple_of(doubled(b']', b'](%%e')) + REDUCE,
    'a path that doubles': doubled(word('a' * 99), name('pathlib', 'Path') + b'%%\x86R'),
    'a method that doubles': doubled(word('a' * 99), name('builtins', 'getattr') + b'%%\x86R'),
    'a list in itself': b']q\x7fh\x7fa',
    'a dict in itself': b'}q\x7f' + word('a') + b'h\x7fs',
    'an object in itself': name('argparse', 'Namespace') + b')\x81q\x7f}' + word('a') + b'h\x7fsb',
    'deep lists': b']' * 50_000 + b'a' * 49_999,
    'colliding keys': b'}(' + b''.join(number(i * (2 ** 61 - 1)) + b'N' for i in range(20_000)) + b'u',
    'colliding items': b'\x8f(' + b''.join(number(i * (2 ** 61 - 1)) for i in range(20_000)) + b'\x90',
    'colliding tuples': b'}(' + b''.join(
        tuple_of(*(number(-1 - (i >> bit & 1)) for bit in range(13))) + b'N' for i in range(2 ** 13)) + b'u',
    'a storage without content': name('torch', 'FloatStorage') + tuple_of(number(10 ** 10)) + REDUCE,
    'an untyped storage': name('torch.storage', 'UntypedStorage') + tuple_of(number(10 ** 10)) + REDUCE,
    'bytes of a number': name('builtins', 'bytes') + tuple_of(number(10 ** 11)) + REDUCE,
    'a byte array that is claimed': b'\x96' + struct.pack('<Q', 10 ** 11) + b'abc',
    'bytes that are claimed': b'\x8e' + struct.pack('<Q', 10 ** 11) + b'abc',
    'a text that is claimed': b'\x8d' + struct.pack('<Q', 10 ** 11) + b'abc',
    'a number that is claimed': b'\x8b' + struct.pack('<i', 2 ** 31 - 1) + b'abc',
    'a negative length': b'\x8b' + struct.pack('<i', -5) + b'abc',
    'a frame that is claimed': b'\x95' + struct.pack('<Q', 10 ** 11) + b'abc',
    'a number of many digits': b'L' + b'9' * 100_000 + b'L\n',
    'nothing on the stack': b'0000000', 'no mark': b't', 'an unknown operation': b'\xff', 'no such memo': b'h\xee',
    'a wrong protocol': b'\x80\x63', 'no end': b'(' * 1000,
}


@pytest.mark.parametrize('case', BOMBS)
def test_what_would_take_too_much_is_refused_soon(tmp_path, case):
    refused(write(tmp_path / 'a.pth', checkpoint(BOMBS[case])))
    legacy = tmp_path / 'b.pth'
    legacy.write_bytes(b''.join(pickle.dumps(p, 2) for p in (0x1950a86a20f9469cfc6c, 1001, {}))
                       + checkpoint(BOMBS[case]) + pickle.dumps([], 2))
    refused(legacy)


TENSORS = {
    'claims more than its memory': tensor(numel=1000, size=(1000,)),
    'claims a little more': tensor(numel=5, size=(5,)),
    'is larger than its memory': tensor(size=(5,)),
    'is huge': tensor(size=(2 ** 40, 2 ** 40), stride=(0, 0)),
    'repeats its memory': tensor(size=(10 ** 6,), stride=(0,)),
    'begins outside': tensor(offset=100), 'begins before': tensor(offset=-4),
    'has a negative stride': tensor(stride=(-1,)), 'has a negative size': tensor(size=(-4,)),
    'has a large stride': tensor(stride=(2 ** 40,)), 'overflows': tensor(offset=2 ** 62, size=(2 ** 62,)),
    'has too few strides': tensor(size=(2, 2)), 'has no memory': tensor(key='7'),
    'has no type': tensor(kind=b'N'), 'has a text for a type': tensor(kind=word('FloatStorage')),
    'claims a negative memory': tensor(numel=-4), 'is of no elements': tensor(numel=0),
    'names a path': tensor(key='../../../../etc/passwd'), 'names an absolute path': tensor(key='/etc/passwd'),
    'is a text': word('w'), 'is nothing': b'N', 'is a dict': b'}', 'is a number': number(3),
}


@pytest.mark.parametrize('case', TENSORS)
def test_a_tensor_that_cannot_be_is_refused(tmp_path, case):
    refused(write(tmp_path / 'a.pth', checkpoint(weight=TENSORS[case])))


def test_a_small_file_cannot_be_many_large_tensors(tmp_path):
    weights = b''.join(word(f'w{i}') + tensor(numel=50_000, size=(50_000,)) for i in range(300))
    path = write(tmp_path / 'a.pth', b'\x80\x02}(' + weights + b'u.', {'0': bytes(200_000)})
    refused(path, 'made to do harm')


LAYOUTS = {
    'a list': [1, 2], 'nothing': None, 'a number': 3, 'a text': 'abc', 'an empty dict': {},
    'no tensors': {'state_dict': {}},
    'a state that is a list': {'state_dict': [torch.ones(1)]}, 'a state that is a number': {'state_dict': 3},
    'a state of texts': {'state_dict': {'w': 'x'}},
    'nested states': {'state_dict': {'state_dict': {'w': torch.ones(1)}}},
}


@pytest.mark.parametrize('case', LAYOUTS)
def test_what_holds_no_weights_is_refused(tmp_path, case):
    torch.save(LAYOUTS[case], tmp_path / 'a.pth')
    refused(tmp_path / 'a.pth')


@pytest.mark.parametrize('key',
                         ['meta', 'dataset_meta', 'CLASSES', 'classes', 'epoch', 'iter', 'cfg', 'config',
                          'mmdet_version',
                                 'optimizer', 'param_groups', 'state', 'ema_state_dict', 'message_hub', 3])
@pytest.mark.parametrize('value',
                         [None, -1, 2.5, 'x', b'y', [], [[1]], {}, {1: {}}, (), {'a': [torch.ones(2)]}, 10 ** 30])
def test_wrong_types_around_the_weights_do_not_stop_what_reads_them(tmp_path, key, value):
    """The weights are there, so they are read; whatever else is wrong must not end in a crash."""
    content = {'state_dict': {'w': torch.ones(3)}, 'meta': {'epoch': 1}, 'optimizer': {'state': {}, 'param_groups': []}}
    where = content['optimizer'] if key in ('param_groups', 'state') else content['meta'] if key not in (
        'meta', 'optimizer', 'ema_state_dict', 'message_hub', 3) else content
    where[key] = value
    if key == 'classes':
        content['meta'] = {'dataset_meta': {'classes': value}}
    torch.save(content, tmp_path / 'a.pth')
    assert load_checkpoint(tmp_path / 'a.pth')['state_dict']['w'].tolist() == [1, 1, 1]
    assert inspect_checkpoint(tmp_path / 'a.pth').parameters == 3


def whole(path: Path, zipped: bool = True) -> bytes:
    torch.save({'state_dict': {'w': torch.arange(9.), 'v': torch.ones(2, 3)},
                'meta': {'epoch': 3, 'CLASSES': ('a', 'b')}},
               path, _use_new_zipfile_serialization=zipped)
    return path.read_bytes()


@pytest.mark.parametrize('zipped', [True, False])
def test_a_file_that_is_cut_anywhere_is_refused(tmp_path, zipped):
    data = whole(tmp_path / 'a.pth', zipped)
    for size in range(0, len(data) - 1, 7):
        path = tmp_path / 'cut.pth'
        path.write_bytes(data[:size])
        with pytest.raises(CheckpointError, match=r'cut\.pth'):
            load_checkpoint(path)


@pytest.mark.parametrize('zipped', [True, False])
def test_bytes_that_were_changed_are_refused_or_do_no_harm(tmp_path, zipped):
    data = whole(tmp_path / 'a.pth', zipped)
    chance = random.Random(3)
    for _ in range(400):
        changed = bytearray(data)
        for _ in range(chance.randint(1, 4)):
            changed[chance.randrange(len(data))] = chance.randrange(256)
        path = tmp_path / 'changed.pth'
        path.write_bytes(changed)
        for read in (load_checkpoint, inspect_checkpoint):
            try:
                read(path)
            except CheckpointError as e:
                assert 'changed.pth' in str(e)


def test_zip_bombs_are_refused_unopened(tmp_path):
    path = write(tmp_path / 'packed.pth', checkpoint(word('a' * 50_000_000)), packing=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 200_000
    refused(path, 'would unpack to', megabytes=20)
    data = bytearray(write(tmp_path / 'b.pth', checkpoint()).read_bytes())
    at = data.index(b'PK\x01\x02') + 24    # the unpacked size of the first member, in the directory
    data[at:at + 4] = struct.pack('<I', 2 ** 32 - 2)
    (tmp_path / 'b.pth').write_bytes(data)
    refused(tmp_path / 'b.pth', 'would unpack to')


@pytest.mark.parametrize('folder',
                         ['../../../tmp', '/tmp', '..', 'C:\\tmp', 'a' * 5000,
                          '\udce4'.encode('utf-8', 'replace').decode()])
def test_names_in_a_zip_file_lead_nowhere(tmp_path, folder):
    path = write(tmp_path / 'a.pth', checkpoint(), folder=folder)
    before = sorted(tmp_path.rglob('*'))
    try:
        load_checkpoint(path)
    except CheckpointError as e:
        assert 'a.pth' in str(e)
    assert sorted(tmp_path.rglob('*')) == before


def test_other_containers_are_told_apart(tmp_path):
    with tarfile.open(tmp_path / 'a.pth', 'w') as t:
        entry = tarfile.TarInfo('pickle')
        entry.size = 3
        t.addfile(entry, io.BytesIO(b'abc'))
    refused(tmp_path / 'a.pth', r'a\.pth: ')
    for head in (b'\x89PNG\r\n\x1a\n', b'\x1f\x8b\x08', b'\x7fELF', b'GIF89a', b'\x93NUMPY', b'#!/bin/sh\n', b'\x80',
                 b'\x80\x02',
                 b'\x80\x05.', b'\x00' * 1000, b'PK\x05\x06' + bytes(18), b'PK\x03\x04' * 100):
        (tmp_path / 'b.pth').write_bytes(head)
        refused(tmp_path / 'b.pth', r'b\.pth: ')


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / 'fifo.pth')
    (tmp_path / 'folder.pth').mkdir()
    (tmp_path / 'loop.pth').symlink_to(tmp_path / 'loop.pth')
    for name in ('fifo.pth', 'folder.pth', 'loop.pth', 'none.pth', 'a\0b.pth', 'a' * 5000):
        with pytest.raises(CheckpointError):
            load_checkpoint(tmp_path / name)
    for device in ('/dev/zero', '/dev/null', '/dev/stdin', '/proc/self/mem'):
        if Path(device).exists():
            with pytest.raises(CheckpointError, match=device):
                load_checkpoint(device)


def safetensors(path: Path, header: object, data: bytes = bytes(16), length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack('<Q', len(text) if length is None else length) + text + data)
    return path


def entry(shape: object = (4,), offsets: object = (0, 16), dtype: object = 'F32') -> dict[str, object]:
    return {'dtype': dtype, 'shape': shape, 'data_offsets': offsets}


HEADERS = {
    'no dict': [1], 'a text': 'abc', 'nothing': None, 'an entry that is a list': {'w': [1]}, 'no entries': {},
    'an entry that is nothing': {'w': None}, 'a field too many': {'w': {**entry(), 'x': 1}},
    'no dtype': {'w': {'shape': [1]}},
    'a dtype that is a list': {'w': entry(dtype=['F32'])}, 'an unknown dtype': {'w': entry(dtype='OBJ')},
    'a shape that is a number': {'w': entry(4)}, 'a shape that is a text': {'w': entry('4')},
    'a shape of texts': {'w': entry(['4'])}, 'a shape of lists': {'w': entry([[4]])},
    'a negative shape': {'w': entry([-4])},
    'a fraction': {'w': entry([4.0])}, 'a truth': {'w': entry([True, 4])},
    'a huge shape': {'w': entry([2 ** 62, 2 ** 62])},
    'a shape that is zero and huge': {'w': entry([0, 2 ** 62, 2 ** 62], [0, 0])},
    'many dimensions': {'w': entry([1] * 10_000 + [4])}, 'numbers of many digits': {'w': entry([10 ** 4000] * 100)},
    'offsets beyond the file': {'w': entry([400], [0, 1600])}, 'offsets the wrong way': {'w': entry([4], [16, 0])},
    'negative offsets': {'w': entry([4], [-16, 0])}, 'one offset': {'w': entry([4], [0])},
    'three offsets': {'w': entry([4], [0, 16, 16])},
    'offsets that are texts': {'w': entry([4], ['0', '16'])},
    'tensors on one another': {'w': entry(), 'v': entry([2], [4, 12])},
    'one place twice': {f'w{i}': entry() for i in range(9)},
    'metadata that is a list': {'__metadata__': [1], 'w': entry()},
    'metadata alone': {'__metadata__': {'a': 'b'}}, 'deep json': b'{"w":' * 5000, 'deep lists': b'[' * 100_000,
    'a number of many digits': b'{"w":' + b'9' * 100_000 + b'}', 'not utf-8': b'{"\xff": 1}',
    'two keys': b'{"w": 1, "w": 2}',
    'nan': b'{"w": NaN}', 'zeros': bytes(64), 'cut': b'{"w": {"dtype": "F32", "shape"',
}


@pytest.mark.parametrize('case', HEADERS)
def test_safetensors_with_a_wrong_header_are_refused(tmp_path, case):
    refused(safetensors(tmp_path / 'a.safetensors', HEADERS[case]))


@pytest.mark.parametrize('length', [0, 1, 10 ** 6, 10 ** 9, 2 ** 63, 2 ** 64 - 1])
def test_safetensors_with_a_wrong_length_are_refused(tmp_path, length):
    refused(safetensors(tmp_path / 'a.safetensors', {'w': entry()}, length=length), 'header')


@pytest.mark.parametrize('meta',
                         ['[1]', '3', '"x"', '{"dataset_meta": 3}', '{"dataset_meta": {"classes": 3}}', '[' * 100_000,
                          '{', 'null'])
def test_safetensors_with_wrong_meta_data_are_read(tmp_path, meta):
    path = safetensors(tmp_path / 'a.safetensors', {'__metadata__': {'omnidet': meta}, 'w': entry()})
    assert load_checkpoint(path)['state_dict']['w'].tolist() == [0, 0, 0, 0]
    assert inspect_checkpoint(path).parameters == 4
