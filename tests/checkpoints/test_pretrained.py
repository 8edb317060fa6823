"""Pretrained weights: where they are looked for, how they are downloaded, and what a part does with them."""

from __future__ import annotations

import hashlib
import http.server
import io
import logging
import multiprocessing
import threading
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from omnidet.checkpoints import download, load_checkpoint, load_pretrained, sources
from omnidet.checkpoints.download import UnreachableError, expected_hash, fetch
from omnidet.checkpoints.sources import OPENMMLAB, address_of, locate, scheme_of
from omnidet.errors import CheckpointError
from omnidet.models.backbones.mobilenet_v2 import MobileNetV2
from omnidet.models.backbones.vgg import VGG
from omnidet.registry import BACKBONES

NOBODY = 'http://127.0.0.1:9'    # the discard port: nobody listens


@dataclass
class Server:
    """What a server has, how it misbehaves, and what it was asked."""

    url: str = ''
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    cut: list[int] = field(default_factory=list)      # bytes after which an answer breaks off, one answer each
    errors: list[int] = field(default_factory=list)   # statuses to answer with before anything else
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    kind: str = 'application/octet-stream'
    redirect: str = ''

    def tag(self, path: str) -> str:
        return f'"{hashlib.md5(self.files[path]).hexdigest()}"'


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        has: Server = self.server.has    # type: ignore[attr-defined]
        wanted = self.headers.get('Range')
        has.asked.append((self.path, wanted))
        if has.errors:
            return self.send_error(has.errors.pop(0))
        if has.redirect:
            self.send_response(302)
            self.send_header('Location', has.redirect)
            self.send_header('Content-Length', '0')
            return self.end_headers()
        if self.path not in has.files:
            return self.send_error(404)
        body, start = has.files[self.path], 0
        if wanted and has.ranges and self.headers.get('If-Range') == has.tag(self.path):
            start = int(wanted.removeprefix('bytes=').removesuffix('-'))
            if start >= len(body):
                return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header('Content-Range', f'bytes {start}-{len(body) - 1}/{len(body)}')
        self.send_header('ETag', has.tag(self.path))
        self.send_header('Content-Type', has.kind)
        self.send_header('Content-Length', str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start:][:has.cut.pop(0) if has.cut else None])
        return None

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as s:
        s.has = Server(f'http://127.0.0.1:{s.server_address[1]}')    # type: ignore[attr-defined]
        thread = threading.Thread(target=s.serve_forever, kwargs={'poll_interval': 0.01}, daemon=True)
        thread.start()
        yield s.has    # type: ignore[attr-defined]
        s.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('OMNIDET_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    monkeypatch.setenv('no_proxy', '*')
    monkeypatch.delenv('OMNIDET_MIRROR', raising=False)
    monkeypatch.setattr(download, 'PAUSE', 0)


def named(body: bytes, stem: str = 'net') -> str:
    return f'/a/{stem}-{hashlib.sha256(body).hexdigest()[:8]}.pth'


def saved(state: dict[str, torch.Tensor]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def leftovers(tmp_path: Path) -> list[str]:
    return sorted(p.name for p in (tmp_path / 'cache').rglob('*') if p.is_file())


# downloading

def test_a_file_is_downloaded_once_and_verified(server, tmp_path):
    body = bytes(range(256)) * 40
    path = named(body)
    server.files[path] = body
    first, second = fetch(server.url + path), fetch(server.url + path)
    assert first == second and first.read_bytes() == body
    assert len(server.asked) == 1
    assert leftovers(tmp_path) == [path.rpartition('/')[2]]


def test_a_broken_transfer_goes_on_where_it_ended(server, tmp_path):
    body = bytes(range(256)) * 400
    path = named(body)
    server.files[path], server.cut = body, [1000, 50000]
    assert fetch(server.url + path).read_bytes() == body
    assert [r for _, r in server.asked] == [None, 'bytes=1000-', 'bytes=51000-']
    assert leftovers(tmp_path) == [path.rpartition('/')[2]]


def test_a_transfer_that_always_breaks_is_an_error_and_the_next_run_goes_on(server, tmp_path):
    body = b'0123456789' * 100
    server.files['/net.pth'], server.cut = body, [100] * download.ATTEMPTS
    with pytest.raises(CheckpointError, match=r'/net\.pth: the download broke off 5 times \(500 of 1000') as e:
        fetch(f'{server.url}/net.pth')
    assert not isinstance(e.value, UnreachableError)
    assert 'net.pth' not in leftovers(tmp_path) and 'net.pth.part' in leftovers(tmp_path)
    assert fetch(f'{server.url}/net.pth').read_bytes() == body
    assert server.asked[-1] == ('/net.pth', 'bytes=500-')


def test_a_file_that_changed_in_between_is_begun_anew(server):
    server.files['/net.pth'], server.cut = b'a' * 1000, [300] * download.ATTEMPTS
    with pytest.raises(CheckpointError):
        server.cut = [300] + [0] * (download.ATTEMPTS - 1)
        fetch(f'{server.url}/net.pth')
    server.files['/net.pth'] = b'b' * 1000
    assert fetch(f'{server.url}/net.pth').read_bytes() == b'b' * 1000


def test_a_server_without_ranges_sends_the_whole_file_again(server):
    body = bytes(range(256)) * 40
    server.files['/net.pth'], server.cut, server.ranges = body, [777], False
    assert fetch(f'{server.url}/net.pth').read_bytes() == body


def test_a_part_longer_than_the_file_is_thrown_away(server):
    body = b'right' * 100
    server.files['/net.pth'] = body
    target = download.cache_folder() / '127.0.0.1_1' / 'net.pth'
    target.parent.mkdir(parents=True)
    target.with_name('net.pth.part').write_bytes(b'x' * 900)
    target.with_name('net.pth.part.tag').write_text(f'{server.url}/net.pth\n{server.tag("/net.pth")}')
    assert download.download(f'{server.url}/net.pth', target).read_bytes() == body
    assert [r for _, r in server.asked] == ['bytes=900-', None]


def test_another_content_than_the_name_promises_is_refused_and_not_kept(server, tmp_path):
    server.files['/net-0123abcd.pth'] = b'something else'
    with pytest.raises(CheckpointError, match=rf'{server.url}/net-0123abcd\.pth.*begins with 0123abcd'):
        fetch(f'{server.url}/net-0123abcd.pth')
    assert not [n for n in leftovers(tmp_path) if n.endswith(('.pth', '.part'))]


def test_a_missing_file_is_an_error_that_names_the_address(server, tmp_path):
    with pytest.raises(CheckpointError, match=rf'{server.url}/none\.pth: the server answers 404') as e:
        fetch(f'{server.url}/none.pth')
    assert not isinstance(e.value, UnreachableError)
    assert len(server.asked) == 1 and leftovers(tmp_path) == []


def test_a_busy_server_is_asked_again(server):
    server.files['/net.pth'], server.errors = b'abc', [503, 429, 500]
    assert fetch(f'{server.url}/net.pth').read_bytes() == b'abc'
    server.errors = [503] * download.ATTEMPTS
    with pytest.raises(CheckpointError, match='503') as e:
        fetch(f'{server.url}/other.pth')
    assert not isinstance(e.value, UnreachableError)


def test_a_web_page_is_no_file(server):
    server.files['/net.pth'], server.kind = b'<html>log in</html>', 'text/html; charset=utf-8'
    with pytest.raises(CheckpointError, match='web page'):
        fetch(f'{server.url}/net.pth')


@pytest.mark.parametrize('to', ['file:///etc/hostname', 'ftp://example.com/net.pth'])
def test_a_server_cannot_send_on_to_other_places(server, to):
    server.redirect = to
    with pytest.raises(CheckpointError, match=r'sends on to|not allowed'):
        fetch(f'{server.url}/net.pth')
    assert len(server.asked) == 1


def test_a_server_cannot_send_on_from_https_to_http():
    request = urllib.request.Request('https://example.com/net.pth')
    with pytest.raises(CheckpointError, match='allowed is https'):
        download._Redirects().redirect_request(request, None, 302, '', {}, 'http://example.com/net.pth')
    to = 'https://example.org/net.pth'
    assert download._Redirects().redirect_request(request, None, 302, '', {}, to).full_url == to


def test_a_host_that_nobody_answers_at_is_unreachable(tmp_path):
    with pytest.raises(UnreachableError, match='cannot be reached'):
        fetch(f'{NOBODY}/net.pth')
    assert leftovers(tmp_path) == []


def test_a_silent_host_is_unreachable(monkeypatch, tmp_path):
    import socket
    monkeypatch.setattr(download, 'TIMEOUT', 0.05)
    with socket.create_server(('127.0.0.1', 0)) as s, pytest.raises(UnreachableError, match='no answer'):
        fetch(f'http://127.0.0.1:{s.getsockname()[1]}/net.pth')


def test_a_cache_that_cannot_be_written_is_told(server, tmp_path, monkeypatch):
    server.files['/net.pth'] = b'abc'
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('OMNIDET_CACHE', str(tmp_path / 'file'))
    with pytest.raises(CheckpointError, match='OMNIDET_CACHE'):
        fetch(f'{server.url}/net.pth')


def fetch_in_process(url: str, out: str) -> None:
    Path(out).write_bytes(fetch(url).read_bytes())


def test_processes_that_want_the_same_file_download_it_once(server, tmp_path):
    body = bytes(range(256)) * 4000
    path = named(body)
    server.files[path] = body
    threads = [threading.Thread(target=fetch_in_process, args=(server.url + path, str(tmp_path / f'{i}')))
               for i in range(3)]
    process = multiprocessing.get_context('spawn').Process(
        target=fetch_in_process, args=(server.url + path, str(tmp_path / '3')))
    process.start()
    for t in threads:
        t.start()
    for t in [*threads, process]:
        t.join(50)
    assert all((tmp_path / f'{i}').read_bytes() == body for i in range(4))
    assert len(server.asked) == 1
    assert leftovers(tmp_path) == [path.rpartition('/')[2]]


def test_equal_names_on_two_paths_are_two_files(server):
    server.files |= {'/a/net.pth': b'a', '/b/net.pth': b'b'}
    assert fetch(f'{server.url}/a/net.pth').read_bytes() == b'a'
    assert fetch(f'{server.url}/b/net.pth').read_bytes() == b'b'


# where files are looked for

@pytest.mark.parametrize('place', ['mirror/net.pth', 'mirror/a/net.pth', 'torch/hub/checkpoints/net.pth',
                                   'cache/checkpoints/127.0.0.1_9/a/net.pth'])
def test_a_file_on_this_machine_is_not_downloaded(tmp_path, monkeypatch, place):
    monkeypatch.setenv('OMNIDET_MIRROR', str(tmp_path / 'mirror'))
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    path.write_bytes(b'here')
    assert fetch(f'{NOBODY}/a/net.pth') == path


@pytest.mark.parametrize('place', ['mirror', 'torch/hub/checkpoints'])
def test_a_file_on_this_machine_is_held_against_its_name_too(tmp_path, monkeypatch, place):
    monkeypatch.setenv('OMNIDET_MIRROR', str(tmp_path / 'mirror'))
    right = named(b'right').rpartition('/')[2]
    (tmp_path / place).mkdir(parents=True)
    path = tmp_path / place / right
    path.write_bytes(b'right')
    assert fetch(f'{NOBODY}/a/{right}') == path
    path.write_bytes(b'wrong')
    with pytest.raises(CheckpointError, match=rf'{right}: the file is damaged or another one') as e:
        fetch(f'{NOBODY}/a/{right}')
    assert not isinstance(e.value, UnreachableError) and path.read_bytes() == b'wrong'


# OpenMMLab's server, which is gone

FASTER = 'faster_rcnn/faster_rcnn_r50_fpn_1x_coco/faster_rcnn_r50_fpn_1x_coco_20200130'


@pytest.fixture
def gone(monkeypatch, server):
    """Their host as one that nobody answers at; it notes how often it was asked."""
    asked: list[str] = []
    original = download._transfer

    def transfer(url: str, part: Path) -> None:
        if url.startswith(sources.OPENMMLAB_HOST):
            asked.append(url)
            raise download._AgainError('timed out', away=True)
        original(url, part)
    monkeypatch.setattr(download, '_transfer', transfer)
    return asked


@pytest.mark.parametrize('host', ['https://download.openmmlab.com/', 'http://download.openmmlab.com/',
                                  'HTTPS://Download.OpenMMLab.com/', 'https://s3.ap-northeast-2.amazonaws.com/open-mmlab/',
                                  'https://open-mmlab.s3.ap-northeast-2.amazonaws.com/',
                                  'https://open-mmlab.oss-cn-beijing.aliyuncs.com/'])
def test_their_files_are_found_in_a_folder_by_name_and_on_a_mirror_by_path(tmp_path, monkeypatch, gone, server, host):
    body = saved({'w': torch.ones(2)})
    name = f'{FASTER}-{hashlib.sha256(body).hexdigest()[:8]}.pth'
    (tmp_path / 'mine').mkdir()
    path = tmp_path / 'mine' / name.rpartition('/')[2]
    path.write_bytes(body)
    monkeypatch.setenv('OMNIDET_MIRROR', str(tmp_path / 'mine'))
    assert locate(f'{host}mmdetection/v2.0/{name}') == path
    assert load_checkpoint(f'{host}mmdetection/v2.0/{name}')['state_dict']['w'].tolist() == [1, 1]
    path.unlink()
    server.files[f'/all/mmdetection/v2.0/{name}'] = body
    monkeypatch.setenv('OMNIDET_MIRROR', f'{server.url}/all')
    assert locate(f'{host}mmdetection/v2.0/{name}').read_bytes() == body
    assert gone == []


def test_a_file_of_theirs_that_is_nowhere_is_told_with_the_ways_to_supply_it(gone):
    url = f'https://download.openmmlab.com/mmdetection/v2.0/{FASTER}-047c8118.pth'
    with pytest.raises(UnreachableError) as e:
        load_checkpoint(url)
    name = f'{FASTER}-047c8118.pth'
    for words in (url, f'{name.rpartition("/")[2]} (its SHA-256 begins with 047c8118)', 'OMNIDET_MIRROR=FOLDER',
                  f'a server that has mmdetection/v2.0/{name}', 'the file itself'):
        assert words in str(e.value)
    assert gone == [url]    # asked once: waiting for a host that is gone helps nobody


@pytest.mark.parametrize('answer', ['404', 'page'])
def test_a_stranger_at_their_address_is_no_server_of_files(monkeypatch, server, answer):
    """Someone may have taken the name: an answer without the file is as good as none."""
    monkeypatch.setattr(sources, 'OPENMMLAB_HOST', f'{server.url}/')
    monkeypatch.setitem(sources.OPENMMLAB, 'net', 'net.pth')
    if answer == 'page':
        server.files['/net.pth'], server.kind = b'<html>', 'text/html'
    with pytest.raises(UnreachableError, match='three ways'):
        locate('open-mmlab://net')


def test_names_of_their_classifiers_lead_to_their_server(gone):
    assert (address_of('mmcls://mobilenet_v2') == address_of('mmpretrain://mobilenet_v2') ==
            f'{sources.OPENMMLAB_HOST}mmclassification/v0/mobilenet_v2/mobilenet_v2_batch256_imagenet_20200708-3b2dc3af.pth')
    assert all(expected_hash(path) for path in sources.MMCLS.values())
    with pytest.raises(CheckpointError, match="did you mean 'resnet50'"):
        address_of('mmcls://resnet5')


def test_a_part_whose_weights_are_gone_says_so_once(gone, caplog):
    net = Part(inner=True)
    before = net.backbone.stem.weight.clone()
    assert load_pretrained(net, {'backbone': pretrained('open-mmlab://detectron2/resnet50_caffe')}) == []
    assert torch.equal(net.backbone.stem.weight, before)
    assert caplog.text.count('OMNIDET_MIRROR=FOLDER') == 1 and 'random weights!' in caplog.text
    assert 'resnet50_msra-5891d200.pth' in caplog.text


def test_mirrors_are_asked_before_the_address_itself(server, monkeypatch, caplog):
    server.files['/mirrored/a/net.pth'] = b'from the mirror'
    monkeypatch.setenv('OMNIDET_MIRROR', f'{NOBODY}; {server.url}/mirrored/')
    assert fetch('https://example.invalid/a/net.pth').read_bytes() == b'from the mirror'
    assert 'without this mirror' in caplog.text


def test_a_mirror_without_the_file_is_passed_over(server, monkeypatch):
    server.files['/a/net.pth'] = b'from home'
    monkeypatch.setenv('OMNIDET_MIRROR', f'{server.url}/mirrored')
    assert fetch(f'{server.url}/a/net.pth').read_bytes() == b'from home'


@pytest.mark.parametrize('name, found', [
    ('resnet50-0676ba61.pth', '0676ba61'), ('swav-ABCDEF01.pth', ''), ('net-20211228.pth', ''),
    ('net_0676ba61.pth', ''), ('a_20200130-047c8118.pth', '047c8118'),
    ('net-0676ba6.pth', ''), ('net-11ad3fa6.pth.tar', '11ad3fa6')])
def test_a_hash_is_told_from_a_date(name, found):
    assert expected_hash(name) == found


def test_names_lead_to_published_addresses():
    assert address_of('torchvision://resnet50') == 'https://download.pytorch.org/models/resnet50-0676ba61.pth'
    assert address_of('torchvision://resnet50.IMAGENET1K_V2') == 'https://download.pytorch.org/models/resnet50-11ad3fa6.pth'
    assert address_of('modelzoo://vgg16') == 'https://download.pytorch.org/models/vgg16-397923af.pth'
    assert (address_of('open-mmlab://detectron2/resnet50_caffe')
            == 'https://download.openmmlab.com/pretrain/third_party/resnet50_msra-5891d200.pth')
    assert address_of('https://a.b/c.pth') == 'https://a.b/c.pth'
    assert all(expected_hash(path) for path in OPENMMLAB.values())


@pytest.mark.parametrize('source, message', [
    ('torchvision://resnet5', 'resnet50'), ('torchvision://resnet50.v9', 'imagenet1k_v1'),
    ('open-mmlab://resnet50_cafe', "did you mean 'resnet50_caffe'"), ('s3://bucket/net.pth', 'allowed are a path'),
    ('ftp://a/net.pth', 'allowed are a path')])
def test_unknown_names_and_schemes_are_refused(source, message):
    with pytest.raises(CheckpointError, match=message):
        address_of(source)


def test_a_checkpoint_may_be_an_address(server):
    server.files['/net.pth'] = saved({'w': torch.ones(2)})
    assert load_checkpoint(f'{server.url}/net.pth')['state_dict']['w'].tolist() == [1, 1]
    with pytest.raises(UnreachableError):
        load_checkpoint(f'{NOBODY}/other.pth')
    with pytest.raises(CheckpointError, match='timm keeps weights for its own'):
        load_checkpoint('timm://resnet10t')


def test_a_path_has_no_scheme():
    assert scheme_of('weights/net.pth') == '' and scheme_of('FILE:///net.pth') == 'file'


# what a part does with them

class Part(nn.Module):
    def __init__(self, inner: bool = False) -> None:
        super().__init__()
        self.stem = nn.Linear(2, 2)
        if inner:
            self.backbone, self.heads = Part(), nn.ModuleList([Part(), Part()])


def filled(module: nn.Module, value: float) -> dict[str, torch.Tensor]:
    return {k: torch.full_like(v, value) for k, v in module.state_dict().items()}


def pretrained(path: object, **more: str) -> dict[str, object]:
    return {'init_cfg': {'type': 'Pretrained', 'checkpoint': str(path), **more}}


def test_parts_are_read_from_local_files(tmp_path):
    state = {f'backbone.{k}': v for k, v in filled(Part(), 3).items()} | {'backbones.x': torch.zeros(1)}
    torch.save({'state_dict': state}, tmp_path / 'a.pth')
    for cfg in (pretrained(tmp_path / 'a.pth', prefix='backbone.'), pretrained(tmp_path / 'a.pth', prefix='backbone'),
                pretrained((tmp_path / 'a.pth').as_uri(), prefix='backbone')):
        net = Part(inner=True)
        report, = load_pretrained(net, {'backbone': cfg})
        assert report.complete and report.matched == 2 and (net.backbone.stem.weight == 3).all()
        assert not (net.stem.weight == 3).any()
    with pytest.raises(CheckpointError, match=r"no names that begin with 'neck\.'"):
        load_pretrained(net, {'backbone': pretrained(tmp_path / 'a.pth', prefix='neck')})
    with pytest.raises(CheckpointError, match=r'model\.backbone\.init_cfg=None'):
        load_pretrained(net, {'backbone': pretrained(tmp_path / 'none.pth')})


@pytest.mark.parametrize('cfg', [
    {'init_cfg': [{'type': 'Normal', 'layer': 'Linear'}, {'type': 'PretrainedInit', 'checkpoint': 'a.pth'}]},
    {'init_cfg': {'checkpoint': 'a.pth'}}, {'pretrained': 'a.pth'}])
def test_every_spelling_of_pretrained_is_read(tmp_path, monkeypatch, cfg):
    monkeypatch.chdir(tmp_path)
    net = Part()
    torch.save(filled(net, 5), 'a.pth')
    assert len(load_pretrained(net, cfg)) == 1 and (net.stem.weight == 5).all()


def test_parts_in_lists_are_found(tmp_path):
    net = Part(inner=True)
    torch.save(filled(net.heads[1], 7), tmp_path / 'a.pth')
    assert len(load_pretrained(net, {'heads': [{}, pretrained(tmp_path / 'a.pth')]})) == 1
    assert (net.heads[1].stem.weight == 7).all() and not (net.heads[0].stem.weight == 7).any()


def test_the_weights_of_the_whole_win_over_those_of_a_part(tmp_path):
    net = Part(inner=True)
    whole = filled(net, 1)
    torch.save(filled(net.backbone, 2), tmp_path / 'part.pth')
    torch.save({k: v for k, v in whole.items() if k != 'backbone.stem.bias'}, tmp_path / 'whole.pth')
    load_pretrained(net, pretrained(tmp_path / 'whole.pth') | {'backbone': pretrained(tmp_path / 'part.pth')})
    assert (net.backbone.stem.weight == 1).all() and (net.backbone.stem.bias == 2).all()
    # where nothing is left for the part, its weights are not even looked for
    torch.save(whole, tmp_path / 'whole.pth')
    load_pretrained(net, pretrained(tmp_path / 'whole.pth') | {'backbone': pretrained(tmp_path / 'none.pth')})
    assert (net.backbone.stem.bias == 1).all()


def test_a_part_whose_host_is_away_begins_anew_with_a_warning(caplog):
    net = Part(inner=True)
    before = net.backbone.stem.weight.clone()
    assert load_pretrained(net, {'backbone': pretrained(f'{NOBODY}/net.pth')}) == []
    assert torch.equal(net.backbone.stem.weight, before)
    assert 'random weights' in caplog.text and 'model.backbone.init_cfg.checkpoint=FILE' in caplog.text
    assert 'OMNIDET_MIRROR' in caplog.text


def test_a_damaged_download_is_an_error(server):
    server.files['/net.pth'] = saved(filled(Part(), 1))[:-30]
    with pytest.raises(CheckpointError, match='not complete'):
        load_pretrained(Part(), pretrained(f'{server.url}/net.pth'))


def test_weights_of_a_server_reach_the_part(server):
    body = saved(filled(Part(), 4))
    server.files[named(body)] = body
    net = Part()
    assert load_pretrained(net, pretrained(server.url + named(body)))[0].matched == 2
    assert (net.stem.weight == 4).all()


# backbones and torchvision's names

def mirrored(tmp_path, monkeypatch, source: str, state: dict[str, torch.Tensor]) -> None:
    """Put `state` where a mirror's folder has the file that `source` names."""
    torch.save(state, tmp_path / address_of(source).rpartition('/')[2])
    monkeypatch.setenv('OMNIDET_MIRROR', str(tmp_path))
    monkeypatch.setattr(download, '_verify', lambda *args: None)    # random weights have another SHA-256


def untrained(model: nn.Module) -> nn.Module:
    """`model` with batch norms that are not the identity."""
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.running_var, 0.5, 2)
            nn.init.normal_(m.running_mean, 0, 0.2)
            nn.init.uniform_(m.weight, 0.5, 1.5)
    return model.eval()


def test_mobilenet_v2_computes_what_torchvisions_does_from_its_file(tmp_path, monkeypatch):
    theirs = untrained(torchvision.models.mobilenet_v2())
    mirrored(tmp_path, monkeypatch, 'torchvision://mobilenet_v2', theirs.state_dict())
    mine = MobileNetV2(out_indices=(2, 7)).eval()
    report, = load_pretrained(mine, pretrained('torchvision://mobilenet_v2'))
    assert report.complete and not report.unexpected and not report.mismatched
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(mine(x)[0], theirs.features[:7](x))
        torch.testing.assert_close(mine(x)[1], theirs.features(x))


@pytest.mark.parametrize('name, depth, with_bn', [('vgg11', 11, False), ('vgg13_bn', 13, True), ('vgg16', 16, False)])
def test_vgg_computes_what_torchvisions_does_from_its_file(tmp_path, monkeypatch, name, depth, with_bn):
    with torch.device('meta'):    # without its classifier of 120 million numbers
        theirs = torchvision.models.get_model(name)
    theirs = untrained(theirs.features.to_empty(device='cpu').apply(
        lambda m: m.reset_parameters() if hasattr(m, 'reset_parameters') else None))
    state = {f'features.{k}': v for k, v in theirs.state_dict().items()}
    mirrored(tmp_path, monkeypatch, f'torchvision://{name}', state | {'classifier.0.bias': torch.zeros(4096)})
    mine = VGG(depth, with_bn).eval()
    report, = load_pretrained(mine, pretrained(f'torchvision://{name}'))
    assert report.complete and report.unexpected == ['classifier.0.bias']
    x = torch.randn(1, 3, 64, 32)
    with torch.no_grad():
        torch.testing.assert_close(mine(x)[-1], theirs(x))


@pytest.mark.parametrize('depth', [18, 50])
def test_nothing_of_torchvisions_resnet_is_lost(tmp_path, monkeypatch, depth):
    theirs = torchvision.models.get_model(f'resnet{depth}')
    source = f'torchvision://resnet{depth}'
    mirrored(tmp_path, monkeypatch, source, theirs.state_dict())
    mine = BACKBONES.build({'type': 'ResNet', 'depth': depth})
    report, = load_pretrained(mine, pretrained(source))
    assert report.complete and report.unexpected == ['fc.weight', 'fc.bias'] and not report.mismatched
    assert report.matched == len(theirs.state_dict()) - 2 == len(mine.state_dict())
    x = torch.randn(1, 3, 64, 64)
    mine.eval(), theirs.eval()
    with torch.no_grad():
        last = theirs.layer1(theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x)))))
        for layer, out in zip((None, theirs.layer2, theirs.layer3, theirs.layer4), mine(x)):
            last = last if layer is None else layer(last)
            torch.testing.assert_close(out, last)


def test_timms_own_weights_are_asked_of_timm(tmp_path, monkeypatch, caplog):
    timm = pytest.importorskip('timm')
    cfg = {'type': 'TIMMBackbone', 'model_name': 'resnet10t', 'features_only': True, 'pretrained': True,
           'out_indices': (1, 2)}
    net = BACKBONES.build(cfg)
    make, asked = timm.create_model, []

    def create_model(name: str, pretrained: bool = False, **options: object) -> nn.Module:
        model = make(name, **options)
        asked.append((name, pretrained))
        if pretrained:
            model.load_state_dict(filled(model, 2))
        return model
    monkeypatch.setattr(timm, 'create_model', create_model)
    report, = load_pretrained(net, cfg)
    assert report.complete and not report.unexpected and asked == [('resnet10t', True)]
    assert all((p == 2).all() for p in net.parameters())

    def fail(error: Exception) -> object:
        def create_model(*args: object, **options: object) -> nn.Module:
            raise error
        return create_model
    monkeypatch.setattr(timm, 'create_model', fail(ConnectionError('no route')))
    assert load_pretrained(net, cfg) == [] and 'random weights' in caplog.text
    monkeypatch.setattr(timm, 'create_model', fail(RuntimeError('no pretrained weights exist')))
    with pytest.raises(CheckpointError, match='timm://resnet10t: no pretrained weights exist'):
        load_pretrained(net, cfg)
    torch.save(filled(net.timm_model, 6), tmp_path / 'a.pth')    # a file in timm's names
    assert load_pretrained(net, {'checkpoint_path': str(tmp_path / 'a.pth')})[0].complete
    assert all((p == 6).all() for p in net.parameters())


def test_the_report_of_a_part_is_logged(tmp_path, caplog):
    torch.save({'stem.weight': torch.zeros(2, 2), 'fc.weight': torch.zeros(1)}, tmp_path / 'a.pth')
    with caplog.at_level(logging.INFO, 'omnidet'):
        load_pretrained(Part(), pretrained(tmp_path / 'a.pth'))
    assert '1 tensors loaded' in caplog.text and 'stem.bias' in caplog.text and 'fc.weight' in caplog.text
