"""Files from the net: looked for on this machine first, resumed where a transfer broke, verified, and kept."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import logging
import os
import re
import socket
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch

from omnidet.errors import CheckpointError

log = logging.getLogger('omnidet')

ATTEMPTS = 5
PAUSE = 1.0
"""Seconds before the second attempt; each further pause is twice as long."""
TIMEOUT = 30.0
"""Seconds that a server may be silent."""
CHUNK = 1 << 20
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
"""Answers of a server that may be another one a little later."""
_AWAY = (socket.gaierror, ConnectionRefusedError)


class UnreachableError(CheckpointError):
    """The host cannot be reached from here: no network, no such host, or nobody listens."""


class AbsentError(CheckpointError):
    """The server answers, but does not have the file."""


class _AgainError(Exception):
    """This attempt failed; another may not."""

    def __init__(self, why: str, away: bool = False) -> None:
        super().__init__(why)
        self.away = away    # nothing of the file came, and no answer either


def cache_folder() -> Path:
    """Where downloads are kept: `$OMNIDET_CACHE`, or `omnidet` in the user's cache folder."""
    home = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    return Path(os.environ.get('OMNIDET_CACHE') or Path(home, 'omnidet')).expanduser() / 'checkpoints'


def mirrors() -> list[str]:
    """The places that `$OMNIDET_MIRROR` names, separated by semicolons: folders, and addresses of servers."""
    return [m.strip() for m in os.environ.get('OMNIDET_MIRROR', '').split(';') if m.strip()]


def fetch(url: str, patience: int = ATTEMPTS) -> Path:
    """The file behind `url`, from this machine if it is here, or else downloaded.

    Looked for in this order: the folders of `$OMNIDET_MIRROR` (by the file's name, or under the path that it has on
    its server), the cache, torch hub's folder; then the servers of `$OMNIDET_MIRROR` are asked for the same path, and
    at last the address itself. Where the name carries the beginning of a SHA-256, the file is held against it, wherever
    it is from.

    Args:
        url: an https or http address.
        patience: how often the address itself is asked while nobody answers.

    Returns:
        The path of a whole file.

    Raises:
        UnreachableError: no server can be reached.
        CheckpointError: a server does not have the file (`AbsentError`), or it is not the one that its name says.
    """
    parts = urllib.parse.urlsplit(url)
    steps = [s for s in parts.path.split('/') if s not in ('', '.', '..')]
    if parts.scheme not in ('https', 'http') or not parts.netloc or not steps:
        raise CheckpointError(f'{url}: not the address of a file (https://server/path/file)')
    folders = [Path(m).expanduser() for m in mirrors() if '://' not in m]
    target = cache_folder().joinpath(parts.netloc.rpartition('@')[2].replace(':', '_'), *steps)
    for path in [*(f.joinpath(p) for f in folders for p in (steps[-1], '/'.join(steps))), target,
                 Path(torch.hub.get_dir(), 'checkpoints', steps[-1])]:
        if path.is_file():
            if path != target:    # what was downloaded was verified then
                _verify(str(path), path, path.name)
            return path
    for server in (m for m in mirrors() if '://' in m):
        try:
            return download(f'{server.rstrip("/")}/{"/".join(steps)}', target)
        except CheckpointError as e:
            log.warning('%s; going on without this mirror', e)
    return download(url, target, patience)


def download(url: str, target: Path, patience: int = ATTEMPTS) -> Path:
    """Bring the file behind `url` to `target`, which comes into being whole or not at all.

    A broken transfer goes on where it ended (HTTP Range), in this run or a later one, from a file that ends in
    `.part`. Several processes may ask for the same file: one brings it, the others wait. Where the name carries the
    beginning of a SHA-256 (`resnet50-0676ba61.pth`), the content is held against it.

    Raises:
        UnreachableError: the host cannot be reached.
        CheckpointError: the server does not have the file, sends a web page or another file, breaks off again and
            again, or the disk does not take it.
    """
    part = target.with_name(f'{target.name}.part')
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target.with_name(f'{target.name}.lock')):
            if not target.is_file():    # another process may have brought it
                _persist(url, part, patience)
                try:
                    _verify(url, part, target.name)
                except CheckpointError:
                    part.unlink()
                    raise
                part.replace(target)
                _tag(part).unlink(missing_ok=True)
    except OSError as e:
        full = e.errno in (errno.ENOSPC, errno.EDQUOT)
        raise CheckpointError(f'{target}: {"the disk is full" if full else f"it cannot be written ({e})"}; make room, '
                              'or name another folder in OMNIDET_CACHE') from e
    return target


def expected_hash(name: str) -> str:
    """The beginning of a SHA-256 that a file's name ends with, or an empty string. A date (20211228) is none."""
    found = re.search(r'-([0-9a-f]{8,64})(?:\.\w+)+$', name)
    if not found or re.fullmatch(r'(19|20)\d\d(0[1-9]|1[0-2])([0-2]\d|3[01])', found[1]):
        return ''
    return found[1]


def _persist(url: str, part: Path, patience: int) -> None:
    """Try until the whole file is in `part`."""
    failure, away = _AgainError(''), True
    for attempt in range(ATTEMPTS):
        if away and attempt >= patience:
            break
        if attempt:
            time.sleep(PAUSE * 2 ** (attempt - 1))
        try:
            return _transfer(url, part)
        except _AgainError as e:
            failure, away = e, away and e.away
    if away:
        raise UnreachableError(f'{url}: no answer from there ({failure})')
    raise CheckpointError(f'{url}: the download broke off {ATTEMPTS} times ({failure}); what came is kept, and the '
                          'next run goes on from there')


def _transfer(url: str, part: Path) -> None:
    """One attempt: append what is missing, or begin anew where the server cannot go on or has another file now."""
    from omnidet import __version__
    headers = {'User-Agent': f'omnidet/{__version__}'}
    start, version = _progress_of(url, part)
    if start:
        headers |= {'Range': f'bytes={start}-', 'If-Range': version}
    with _opened(url, headers, part) as answer:
        if answer.status != 206 or not answer.headers.get('Content-Range', '').startswith(f'bytes {start}-'):
            start = 0
        if answer.headers.get_content_type() == 'text/html':
            raise AbsentError(f'{url}: the server sends a web page, not a file of weights')
        version = answer.headers.get('ETag') or answer.headers.get('Last-Modified') or ''
        length = answer.headers.get('Content-Length')
        total = start + int(length) if length else None
        with part.open('ab' if start else 'wb') as out, _progress_bar(part.stem, total) as show:
            _tag(part).write_text(f'{url}\n{"" if version.startswith("W/") else version}', encoding='utf-8')
            got = _copy(answer, out, start, show)
    if total is not None and got < total:
        raise _AgainError(f'{got} of {total} bytes came')


def _copy(answer: Any, out: BinaryIO, got: int, show: Any) -> int:
    """Write the body of `answer`; the number of bytes that there are now."""
    while True:
        try:
            chunk = answer.read(CHUNK)
        except (OSError, http.client.HTTPException) as e:    # the net's, not the disk's
            raise _AgainError(str(e) or type(e).__name__) from e
        if not chunk:
            return got
        out.write(chunk)
        got += len(chunk)
        show(got)


@contextlib.contextmanager
def _opened(url: str, headers: dict[str, str], part: Path) -> Iterator[Any]:
    """The server's answer, when it has the file."""
    try:
        answer = _OPENER.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as e:
        if e.code == 416:    # there is no such range: what lies here is no beginning of the file
            part.unlink(missing_ok=True)
        if e.code == 416 or e.code in _AGAIN:
            raise _AgainError(f'the server answers {e.code} {e.reason}') from e
        raise AbsentError(f'{url}: the server answers {e.code} {e.reason}; name another address or a file on this '
                          'machine') from e
    except (OSError, http.client.HTTPException) as e:
        reason = e.reason if isinstance(e, urllib.error.URLError) else e
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise CheckpointError(f'{url}: the server cannot prove who it is ({reason})') from e
        if isinstance(reason, _AWAY) or 'Tunnel connection failed' in str(reason):
            raise UnreachableError(f'{url}: the host cannot be reached ({reason})') from e
        raise _AgainError(str(reason) or type(reason).__name__, away=True) from e
    with answer:
        yield answer


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to https, and from http to http."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        allowed = ('https',) if req.full_url.startswith('https:') else ('https', 'http')
        if urllib.parse.urlsplit(newurl).scheme not in allowed:
            raise CheckpointError(f'{req.full_url}: the server sends on to {newurl}; allowed is {" or ".join(allowed)}')
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = urllib.request.build_opener(_Redirects)


def _tag(part: Path) -> Path:
    """Beside a part: which address, and which version of its file, it is a part of."""
    return part.with_name(f'{part.name}.tag')


def _progress_of(url: str, part: Path) -> tuple[int, str]:
    """How many bytes of `part` can be kept, and the version of the file that they are from."""
    if not part.is_file() or not _tag(part).is_file():
        return 0, ''
    of, _, version = _tag(part).read_text(encoding='utf-8').partition('\n')
    return (part.stat().st_size, version) if of == url and version else (0, '')


def _verify(source: str, path: Path, name: str) -> None:
    """Hold a file against the SHA-256 that its name promises."""
    wanted = expected_hash(name)
    if not wanted:
        return
    digest = hashlib.sha256()
    with path.open('rb') as f:
        while chunk := f.read(CHUNK):
            digest.update(chunk)
    if not digest.hexdigest().startswith(wanted):
        raise CheckpointError(f'{source}: the file is damaged or another one: its name promises a SHA-256 that begins '
                              f'with {wanted}, it has {digest.hexdigest()[:len(wanted)]}. If it is right, save it '
                              'under another name and name that file')


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold `path` as a lock: no other process of this machine gets past here until the block ends, or this one does."""
    while True:
        with path.open('a') as file:
            _lock(file)
            try:    # whoever held it before may have removed it
                current = os.path.samestat(os.fstat(file.fileno()), path.stat())
            except FileNotFoundError:
                current = False
            if current:
                try:
                    yield
                finally:
                    with contextlib.suppress(OSError):
                        path.unlink()
                return


def _lock(file: Any) -> None:
    try:
        import fcntl
    except ImportError:    # Windows, where a file that is open stays
        return
    with contextlib.suppress(OSError):    # a file system without locks
        fcntl.flock(file, fcntl.LOCK_EX)


@contextlib.contextmanager
def _progress_bar(name: str, total: int | None) -> Iterator[Any]:
    """A function to call with the number of bytes that came: it moves a bar on a terminal, and does nothing else."""
    if not sys.stderr.isatty():
        log.info('downloading %s%s', name, f' ({total / 1e6:.1f} MB)' if total else '')
        yield lambda got: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    with Progress(TextColumn('{task.description}'), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
                  TimeRemainingColumn(), console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(name, total=total)
        yield lambda got: progress.update(task, completed=got)
