"""Checkpoints: what they may hold, what is refused, and how names meet a model's."""

from __future__ import annotations

import argparse
import collections
import datetime
import io
import os
import pathlib
import pickle
import sys
import types
import zipfile
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from omnidet.checkpoints import LoadReport, load_checkpoint, load_weights, save_checkpoint, unpickle
from omnidet.errors import CheckpointError, TrainingError

FORMATS = [{}, {'_use_new_zipfile_serialization': False}]


@pytest.fixture
def foreign(monkeypatch):
    """Modules named as MMEngine's, with classes whose pickles look like the real ones."""
    def add(module: str, cls: type) -> type:
        parts = module.split('.')
        for i in range(len(parts)):
            name = '.'.join(parts[:i + 1])
            if name not in sys.modules:
                monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        cls.__module__, cls.__qualname__ = module, cls.__name__
        monkeypatch.setattr(sys.modules[module], cls.__name__, cls, raising=False)
        return cls
    return add


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


class Net(nn.Module):
    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.stem = nn.Linear(2, 2)
        self.norm = nn.BatchNorm1d(2)
        self.bbox_head = nn.Module()
        self.bbox_head.num_classes = num_classes
        self.bbox_head.fc_cls = nn.Linear(2, num_classes + 1)


@pytest.mark.parametrize('options', FORMATS)
def test_what_is_saved_is_read(tmp_path, options):
    state = collections.OrderedDict(w=torch.randn(3), half=torch.ones(2).bfloat16(), n=torch.tensor(4),
                                    p=nn.Parameter(torch.ones(2)))
    state._metadata = {'': {'version': 2}}    # type: ignore[attr-defined]
    torch.save({'state_dict': state, 'meta': {'epoch': 3}}, tmp_path / 'a.pth', **options)
    got = load_checkpoint(tmp_path / 'a.pth')
    assert got['meta']['epoch'] == 3
    assert all(torch.equal(got['state_dict'][k], v) for k, v in state.items())


@pytest.mark.parametrize('options', [*FORMATS, {'pickle_protocol': 4}])
def test_harmless_classes_of_old_files_become_data(tmp_path, foreign, options):
    class HistoryBuffer:
        def __init__(self) -> None:
            self._log_history = np.array([1.0, 2.0])
            self._statistics_methods = {'mean': HistoryBuffer.mean}

        def mean(self) -> None: ...

    class ConfigDict(dict): ...

    foreign('mmengine.logging.history_buffer', HistoryBuffer)
    HistoryBuffer.mean.__module__, HistoryBuffer.mean.__qualname__ = HistoryBuffer.__module__, 'HistoryBuffer.mean'
    foreign('mmengine.config.config', ConfigDict)
    meta = {'lr': np.float64(0.1), 'n': np.int64(3), 'big': np.array([1, 2], dtype='>i4'), 'words': np.array(['x']),
            'cfg': ConfigDict(a=ConfigDict(b=1)), 'when': datetime.datetime(2020, 1, 2),
            'path': pathlib.PurePosixPath('a/b'), 'found': collections.defaultdict(list, a=[1]),
            'args': argparse.Namespace(x=1), 'set': {1, 2}}
    torch.save({'state_dict': {'w': torch.ones(1)}, 'meta': meta, 'message_hub': {'loss': HistoryBuffer()}},
               tmp_path / 'a.pth', **options)
    got = load_checkpoint(tmp_path / 'a.pth')
    seen = got['meta']
    assert (seen['lr'], seen['n'], seen['path'], seen['set']) == (0.1, 3, 'a/b', {1, 2})
    assert seen['big'].tolist() == [1, 2] and seen['words'].tolist() == ['x']
    assert seen['cfg'] == {'a': {'b': 1}} and seen['found'] == {'a': [1]} and seen['args'].x == 1
    assert type(seen['cfg']) is not ConfigDict
    buffer = got['message_hub']['loss']
    assert type(buffer) is not HistoryBuffer and buffer._log_history.tolist() == [1.0, 2.0]


@pytest.mark.parametrize('options', [*FORMATS, {'pickle_protocol': 5}])
def test_what_mmcv_and_mmengine_put_into_files_becomes_data(tmp_path, foreign, options):
    """Classes whose pickles are like the real ones; addict's dicts give themselves as their state."""
    class Dict(dict):
        def __getstate__(self): return self
        def __setstate__(self, state): self.update(state)

    class ConfigDict(Dict): ...

    class Config:
        def __getstate__(self): return ({'model': ConfigDict(type='A')}, 'a.py', 'model = dict()')
        def __setstate__(self, state): ...

    class LazyConfigDict(dict):
        def __reduce_ex__(self, protocol): return LazyConfigDict, (dict(self),), None, None, None

    class LogBuffer:
        def __init__(self): self.val_history = collections.OrderedDict(loss=[1.0])

    foreign('addict.addict', Dict), foreign('mmcv.utils.config', ConfigDict), foreign('mmcv.utils.config', Config)
    foreign('mmcv.runner.log_buffer', LogBuffer), foreign('mmengine.config.config', LazyConfigDict)
    LazyConfigDict.__name__ = LazyConfigDict.__qualname__ = 'ConfigDict'
    sys.modules['mmengine.config.config'].ConfigDict = LazyConfigDict
    weight = nn.Parameter(torch.ones(2))
    weight.note = 'an attribute of a parameter'
    tensor = torch.ones(3)
    tensor.note = 'an attribute of a tensor'
    runtime = {'seed': np.int64(3), 'best_score': np.float32(0.5), 'flag': np.bool_(True), 'word': np.str_('x'),
               'when': datetime.timedelta(hours=2), 'day': datetime.date(2022, 1, 2),
               'utc': datetime.datetime(2022, 1, 2, tzinfo=datetime.timezone.utc), 'raw': b'', 'more': bytearray(b'ab'),
               'size': torch.Size([2, 3]), 'dtype': torch.float16, 'device': torch.device('cpu'), 'slice': slice(1, 2),
               'range': range(3), 'layout': torch.strided, 'counts': collections.Counter('aab'),
               'history': np.arange(6.).reshape(2, 3).T, 'ordered': collections.OrderedDict(a=1)}
    if 'generator' not in options and hasattr(torch.Generator, '__reduce__') and torch.__version__ >= '2.5':
        runtime['generator_state'] = torch.Generator().get_state()
    content = {'state_dict': collections.OrderedDict(w=weight, t=tensor), 'message_hub': {'runtime_info': runtime},
               'meta': {'cfg': Config(), 'a': Dict(x=Dict(y=1)), 'b': ConfigDict(z=ConfigDict(q=(2,))),
                        'c': LazyConfigDict(k=[LazyConfigDict(v=3)]), 'log': LogBuffer(),
                        'names': types.SimpleNamespace(x=1), 'random': np.random.RandomState(0)}}
    torch.save(content, tmp_path / 'a.pth', **options)
    got = load_checkpoint(tmp_path / 'a.pth')
    assert got['state_dict']['w'].tolist() == [1, 1] and isinstance(got['state_dict']['w'], nn.Parameter)
    assert type(got['state_dict']['t']) is torch.Tensor and got['state_dict']['t'].tolist() == [1, 1, 1]
    meta, seen = got['meta'], got['message_hub']['runtime_info']
    assert meta['cfg'].model == {'type': 'A'} and meta['a'] == {'x': {'y': 1}} and meta['b'] == {'z': {'q': (2,)}}
    assert meta['c'] == {'k': [{'v': 3}]} and meta['log'].val_history['loss'] == [1.0] and meta['names'].x == 1
    foreigners = (Dict, ConfigDict, Config, LazyConfigDict, LogBuffer)
    assert not any(isinstance(v, foreigners) for v in meta.values())
    for key in runtime.keys() - {'range', 'history', 'more', 'generator_state'}:
        assert seen[key] == runtime[key], key
    assert bytes(seen['more']) == b'ab' and seen['range'].args[1] == 3
    assert seen['history'].tolist() == [[0, 3], [1, 4], [2, 5]]


@pytest.mark.parametrize('core', ['numpy.core', 'numpy._core'])
def test_arrays_of_numpy_1_and_2_are_read(core):
    here = 'numpy._core' if hasattr(np, '_core') else 'numpy.core'
    value = [np.arange(4, dtype='<f4').reshape(2, 2), np.float64(0.5), np.array(['ab']), np.array(3)]
    got = unpickle.load(io.BytesIO(pickle.dumps(value, 2).replace(here.encode(), core.encode())))
    assert got[0].tolist() == [[0, 1], [2, 3]] and got[1] == 0.5 and got[2].tolist() == ['ab'] and got[3].item() == 3


@pytest.mark.parametrize('call', ['bytes', 'bytearray', 'range'])
def test_no_memory_is_taken_for_a_number(call):
    payload = b'\x80\x02c__builtin__\n' + call.encode() + b'\n\x8a\x06\x00\x00\x00\x00\x00\x40\x85R.'
    try:
        got = unpickle.load(io.BytesIO(payload))
    except TypeError:
        return
    assert isinstance(got, unpickle.Inert)


@pytest.mark.parametrize('options', FORMATS)
def test_a_bomb_is_refused_by_name_and_does_not_go_off(tmp_path, options):
    mark = tmp_path / 'mark'
    for bomb in (Bomb(os.system, f'touch {mark}'), Bomb(eval, f'open({str(mark)!r}, "w")'),
                 [{'deep': (Bomb(os.mkdir, str(mark)),)}]):
        torch.save({'state_dict': {'w': torch.ones(1)}, 'x': bomb}, tmp_path / 'a.pth', **options)
        with pytest.raises(CheckpointError, match=r'a\.pth.*(system|eval|mkdir).*--trust'):
            load_checkpoint(tmp_path / 'a.pth')
        assert not mark.exists()


def test_trust_reads_what_is_refused_otherwise(tmp_path):
    torch.save({'state_dict': {'w': torch.ones(1)}, 'x': Bomb(os.fspath, 'a')}, tmp_path / 'a.pth')
    assert load_checkpoint(tmp_path / 'a.pth', trust=True)['x'] == 'a'


def test_attributes_are_not_set_on_functions_and_classes(tmp_path):
    payload = (b'\x80\x02ctorch._utils\n_rebuild_tensor_v2\n' b'N}X\x0c\x00\x00\x00__defaults__)s\x86b.')
    before = torch._utils._rebuild_tensor_v2.__defaults__
    with pytest.raises(pickle.UnpicklingError):
        unpickle.load(io.BytesIO(payload))
    assert torch._utils._rebuild_tensor_v2.__defaults__ == before


@pytest.mark.parametrize('options', FORMATS)
def test_a_truncated_file_is_damaged(tmp_path, options):
    torch.save({'state_dict': {'w': torch.randn(1000)}}, tmp_path / 'a.pth', **options)
    whole = (tmp_path / 'a.pth').read_bytes()
    for size in (20, 200, len(whole) // 2, len(whole) - 20):
        (tmp_path / 'b.pth').write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=r'b\.pth'):
            load_checkpoint(tmp_path / 'b.pth')


@pytest.mark.parametrize(('content', 'word'), [
    (b'', 'empty'), (b'<!DOCTYPE html><html>404</html>', 'web page'), (b'\n <html>', 'web page'),
    (b'version https://git-lfs.github.com/spec/v1\noid', 'git lfs pull'), (b'{"a": 1}', 'not a file that torch'),
    (b'PK\x03\x04abc', 'not complete'), (pickle.dumps({'w': 1}), 'damaged')])
def test_what_is_no_checkpoint_is_told_apart(tmp_path, content, word):
    (tmp_path / 'a.pth').write_bytes(content)
    with pytest.raises(CheckpointError, match=word):
        load_checkpoint(tmp_path / 'a.pth')


def test_missing_files_foreign_zips_and_files_without_weights(tmp_path):
    with pytest.raises(CheckpointError, match='cannot be read'):
        load_checkpoint(tmp_path / 'none.pth')
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as z:
        z.writestr('x.txt', 'x')
    with pytest.raises(CheckpointError, match='not one of torch'):
        load_checkpoint(tmp_path / 'a.zip')
    torch.save({'epoch': 1, 'name': 'x'}, tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='no weights in it; its keys are epoch, name'):
        load_checkpoint(tmp_path / 'a.pth')
    torch.save([1], tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='list'):
        load_checkpoint(tmp_path / 'a.pth')


def test_a_claim_of_more_memory_than_there_is_is_an_error(tmp_path):
    torch.save({'state_dict': {'w': torch.ones(4)}}, tmp_path / 'a.pth')
    with zipfile.ZipFile(tmp_path / 'a.pth') as z:
        files = {n: z.read(n) for n in z.namelist()}
    data = next(n for n in files if n.endswith('data.pkl'))
    assert files[data].count(b'K\x04') == 2    # the storage's length and the tensor's
    files[data] = files[data].replace(b'K\x04', b'\x8a\x06\x00\x00\x00\x00\x00\x40')
    with zipfile.ZipFile(tmp_path / 'b.pth', 'w') as z:
        for name, content in files.items():
            z.writestr(name, content)
    with pytest.raises(CheckpointError, match=r'b\.pth'):
        load_checkpoint(tmp_path / 'b.pth')


@pytest.mark.parametrize('wrap', [lambda s: s, lambda s: {'model': s}, lambda s: {'state_dict': s, 'epoch': 1}])
def test_layouts_of_several_projects(tmp_path, wrap):
    torch.save(wrap({'w': torch.ones(1)}), tmp_path / 'a.pth')
    got = load_checkpoint(tmp_path / 'a.pth')
    assert list(got['state_dict']) == ['w'] and 'meta' in got


def test_classes_of_both_series_are_found(tmp_path):
    for meta in ({'CLASSES': ('a', 'b')}, {'dataset_meta': {'CLASSES': ('a', 'b')}},
                 {'dataset_meta': {'classes': ('a', 'b')}}):
        torch.save({'state_dict': {'w': torch.ones(1)}, 'meta': meta}, tmp_path / 'a.pth')
        assert load_checkpoint(tmp_path / 'a.pth')['meta']['dataset_meta']['classes'] == ('a', 'b')


def test_weights_are_copied_and_the_report_is_complete():
    source, target = Net(), Net()
    report = load_weights(target, source.state_dict(), 'a.pth', strict=True)
    assert report.complete and report.matched == 9 and 'a.pth: 9 tensors' in str(report)
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), target.parameters(), strict=True))


@pytest.mark.parametrize('prefix', ['module.', '_orig_mod.', 'model.'])
def test_prefixes_of_wrappers_are_taken_off(prefix):
    state = {prefix + k: v for k, v in Net().state_dict().items()}
    assert load_weights(Net(), state, 'a.pth').complete


def test_the_second_set_of_weights_of_2x_is_ignored_or_used():
    source, other = Net(), Net()
    flat = {'ema_' + k.replace('.', '_'): v for k, v in other.state_dict().items()}
    target = Net()
    report = load_weights(target, {**source.state_dict(), **flat}, 'a.pth')
    assert report.complete and not report.unexpected and torch.equal(target.stem.weight, source.stem.weight)
    assert load_weights(target, flat, 'a.pth').complete and torch.equal(target.stem.weight, other.stem.weight)


def test_another_number_of_classes_is_said_in_words():
    target = Net(3)
    before = target.bbox_head.fc_cls.weight.clone()
    report = load_weights(target, {**Net(80).state_dict(), 'extra': torch.ones(1)}, 'a.pth')
    assert 'made for 80 classes, the model has 3' in str(report)
    assert set(report.mismatched) == {'bbox_head.fc_cls.weight', 'bbox_head.fc_cls.bias'}
    assert report.unexpected == ['extra'] and torch.equal(before, target.bbox_head.fc_cls.weight)
    with pytest.raises(CheckpointError, match='80 classes'):
        load_weights(Net(3), Net(80).state_dict(), 'a.pth', strict=True)


def test_nothing_in_common_is_an_error_that_shows_both_sides():
    with pytest.raises(CheckpointError, match=r"not one of its 1 tensors.*'conv1.weight'.*'stem.weight'"):
        load_weights(Net(), {'conv1.weight': torch.ones(1)}, 'a.pth')
    assert isinstance(load_weights(Net(), Net().state_dict(), 'a.pth'), LoadReport)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / 'a.pth'
    save_checkpoint(path, {'state_dict': {'w': torch.ones(1)}})

    def full(obj: Any, f: Any) -> None:
        f.write(b'half of it')
        raise OSError(28, 'No space left on device')
    monkeypatch.setattr(torch, 'save', full)
    with pytest.raises(TrainingError, match='disk is full'):
        save_checkpoint(path, {'state_dict': {'w': torch.zeros(1)}})
    monkeypatch.undo()
    assert load_checkpoint(path)['state_dict']['w'] == 1
    assert [p.name for p in tmp_path.iterdir()] == ['a.pth']


@pytest.mark.skipif(not pathlib.Path('/dev/full').exists(), reason='needs /dev/full')
def test_a_really_full_disk_is_told(tmp_path, monkeypatch):
    import contextlib

    from omnidet.checkpoints import checkpoint

    @contextlib.contextmanager
    def on_full_disk(path):
        yield pathlib.Path('/dev/full')
    monkeypatch.setattr(checkpoint, 'written_whole', on_full_disk)
    with pytest.raises(TrainingError, match='disk is full'):
        save_checkpoint(tmp_path / 'a.pth', {'state_dict': {'w': torch.ones(100000)}})
