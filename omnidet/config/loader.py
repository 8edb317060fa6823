"""Reads a config file with all that it inherits, in the three forms that configs are written in."""

from __future__ import annotations

import ast
import io
import os
import re
import tokenize
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omnidet.config.custom_imports import import_wanted
from omnidet.config.documents import parse_json, parse_yaml
from omnidet.config.expressions import BASE, Evaluator, substitute
from omnidet.config.interpreter import FAILURES, Interpreter, base_statement, evaluate, failure
from omnidet.config.merge import combine, own
from omnidet.config.meter import MAX_BYTES, MAX_YAML_BYTES, Meter, Refusal
from omnidet.config.nodes import Config, ConfigDict, Origins, dotted, walk
from omnidet.config.overrides import override, split_options
from omnidet.config.resolve import check_suffix, find_base, find_config, is_file
from omnidet.config.upgrade import KEYS, Change, is_legacy, upgrade
from omnidet.errors import ConfigError, did_you_mean

MAX_BASES = 30      # files that inherit from one another in a row
MAX_FILES = 300     # files in all
_ENVIRONMENT = re.compile(r'''\{\{\s*['"]?\$(\w+)([^{}\n]*)\}\}''')
_ADDRESS = re.compile(r'https?://(?:[^/@]*@)?([^/:?#]*)', re.IGNORECASE)
KNOWN_HOSTS = ('download.pytorch.org', 'download.openmmlab.com', 'github.com', 'huggingface.co',
               'dl.fbaipublicfiles.com')
"""Hosts of published weights: nobody who wrote a config can read there what was asked for."""
_BASE_ITEM = re.compile(r'''\{\{\s*_base_\.([\w.]+)\s*\}\}''')


def load_config(path: str | Path, overrides: Sequence[str] | Mapping[str, Any] | None = None,
                trust: bool = False) -> Config:
    """Read a config file and everything that it inherits.

    Args:
        path: a file (.py, .json, .yaml), or the name of a config of our zoo (`rtmdet/rtmdet_tiny`).
        overrides: what to change then: `['model.neck.out_channels=96', ...]` or `{'model.neck.out_channels': 96}`. Of a
            file of MMDetection 2.x, its own keys may be changed too: `data.samples_per_gpu=4`.
        trust: execute Python files instead of evaluating them as data, and import the modules in `custom_imports`. They
            may then do anything.

    Returns:
        The experiment: dicts with attribute access, lists, tuples, numbers, texts, None. It knows where each value was
        written. A file of MMDetection 2.x is brought into the form of 3.x; `changes` says how.

    Raises:
        ConfigError: there is no such file, it is damaged, or it asks for what a config may not do.
    """
    loader = _Loader(trust)
    file = find_config(path)
    cfg = loader.load(file)
    if loader.environment and not trust:
        _keep_environment(cfg, loader.environment, file)
    changes: tuple[Change, ...] = ()
    if is_legacy(cfg, loader.origins):
        early, overrides = split_options(overrides or (), KEYS)    # of the file as it is: `data.samples_per_gpu=4`
        override(cfg, early, loader.origins, loader.meter)
        changes = upgrade(cfg, loader.origins, file)
    if overrides:
        override(cfg, overrides, loader.origins, loader.meter)
    try:
        loader.meter.walk(cfg)    # files and overrides that are each within the bounds may add up to more
    except Refusal as e:
        raise ConfigError(f'{file}: {e}') from None
    if trust:
        import_wanted(cfg)
    return Config(cfg, str(file), loader.origins.table(cfg), changes)


class _Loader:
    """One call of `load_config`: its budget, the origins of all values, and the files that are being read."""

    def __init__(self, trust: bool) -> None:
        self.trust = trust
        self.meter = Meter()
        self.origins = Origins()
        self.open: list[Path] = []
        self.files = 0
        self.environment: list[str] = []    # the variables that files read
        self.imports: dict[Path, dict[str, Any]] = {}    # the classes that each file imports: `read_base` hands them on

    def load(self, file: Path) -> ConfigDict:
        """The experiment that `file` describes.

        Raises:
            ConfigError: as `load_config`.
        """
        key = file.resolve()
        if key in self.open:
            raise ConfigError(f'{file} inherits from itself: {" -> ".join(p.name for p in [*self.open, key])}')
        if len(self.open) >= MAX_BASES:
            raise ConfigError(f'{file}: more than {MAX_BASES} files inherit from one another')
        self.files += 1
        if self.files > MAX_FILES:
            raise ConfigError(f'{self.open[0]} inherits from more than {MAX_FILES} files')
        self.open.append(key)
        check_suffix(file)
        try:
            cfg = self._python(file) if file.suffix == '.py' else self._document(file)
        except (*FAILURES, OSError) as e:
            raise ConfigError(f'{file}: {failure(e)}') from None
        self.open.pop()
        _warn_if_deprecated(file, cfg.pop('_deprecation_', None))
        return cfg

    def _python(self, file: Path) -> ConfigDict:
        tree = _parse(file, self._with_environment(_read(file), file))
        variables = _variables(file)
        names = self._base_names(file, tree, variables)
        base = self._bases(file, names)
        if self.trust:
            from omnidet.config.trusted import execute
            values, self.imports[file] = execute(tree, file, base, variables, self.origins,
                                                 lambda node: self._read_base(file, node))
        else:
            evaluator = Evaluator(str(file), self.meter, self.origins, base if names else None, variables)
            values = Interpreter(evaluator, lambda node: self._read_base(file, node)).run(tree)
            self.imports[file] = evaluator.imports
        return self._inherit(file, values, base)

    def _inherit(self, file: Path, values: dict[str, Any], base: ConfigDict) -> ConfigDict:
        try:
            child = own(values, self.origins, self.meter)
            combine(child, base, self.origins)
        except Refusal as e:
            raise ConfigError(f'{file}{f":{e.line}" * (e.line > 0)}: {e}') from None
        return base

    def _bases(self, file: Path, names: Sequence[str]) -> ConfigDict:
        """What the files called `names` hold together; none may repeat a key of another."""
        base = ConfigDict()
        first: dict[str, Path] = {}
        for name in names:
            path = self._locate(file, name)
            for key, value in (part := self.load(path)).items():
                if key in base:
                    raise ConfigError(f'{file}: {key!r} is in two of the files that it inherits from: '
                                      f'{first[key]} and {path}')
                dict.__setitem__(base, key, value)
                first[key] = path
            self.origins.inherit(base, part)
        return base

    def _locate(self, file: Path, name: str) -> Path:
        try:
            return check_suffix(find_base(name, file))
        except ConfigError as e:
            raise ConfigError(f'{file}: {BASE}: {e}') from None

    def _base_names(self, file: Path, tree: ast.Module, variables: dict[str, str]) -> list[str]:
        statement = base_statement(tree)
        if statement is None:
            return []
        value = evaluate(Evaluator(str(file), self.meter, self.origins, variables=variables), statement.value)
        return _names(value, f'{file}:{statement.lineno}')

    def _read_base(self, file: Path, node: ast.ImportFrom) -> dict[str, Any]:
        """The names that `from .a.b import x, y` brings inside `with read_base():`."""
        path = _module_file(file, node)
        cfg = self.load(path)
        known = {**self.imports.get(path, {}), **cfg}
        out: dict[str, Any] = {}
        for alias in node.names:
            if alias.name == '*':
                out.update((k, v) for k, v in known.items() if not str(k).startswith('_'))
                self.origins.inherit(out, cfg)
            elif alias.name in known:
                out[alias.asname or alias.name] = known[alias.name]
                if (origin := self.origins.of(cfg, alias.name)) is not None:
                    self.origins.mark(out, alias.asname or alias.name, origin)
            else:
                raise Refusal(f'{path} defines no {alias.name!r}{did_you_mean(alias.name, known)}')
        return out

    def _document(self, file: Path) -> ConfigDict:
        text = substitute(self._with_environment(_read(file), file), _variables(file))
        reads: dict[str, str] = {}

        def stand_in(match: re.Match[str]) -> str:
            reads[token := f'_base_item_{len(reads)}_'] = match[1]
            around = match.string[max(match.start() - 1, 0):match.start()] in ('"', "'")
            return token if around else f'"{token}"'
        text = _BASE_ITEM.sub(stand_in, text)
        parse = parse_json if file.suffix == '.json' else parse_yaml
        values = parse(text, file, self.origins, self.meter)
        base = self._bases(file, _names(values.pop(BASE, []), str(file)))
        return self._inherit(file, self._put_back(values, reads, base, file), base)

    def _with_environment(self, text: str, file: Path) -> str:
        """`text` with `{{$NAME:default}}` replaced by environment variables."""
        def value(match: re.Match[str]) -> str:
            _, colon, default = match[0].strip('{} \t\'"').partition(':')
            found = os.environ.get(match[1])
            if found is not None:
                self.environment.append(match[1])
                return found
            if not colon:
                line = text.count('\n', 0, match.start()) + 1
                raise ConfigError(f'{file}:{line}: the environment variable {match[1]} is not set, and no default is '
                                  'given')
            return default.strip()
        return _ENVIRONMENT.sub(value, text)

    def _put_back(self, value: Any, reads: dict[str, str], base: ConfigDict, file: Path) -> Any:
        if isinstance(value, dict):
            for k, v in value.items():
                value[k] = self._put_back(v, reads, base, file)
        elif isinstance(value, list):
            value[:] = [self._put_back(v, reads, base, file) for v in value]
        elif isinstance(value, str) and value in reads:
            out: Any = base
            for part in reads[value].split('.'):
                try:
                    out = out[int(part)] if isinstance(out, (list, tuple)) else out[part]
                except (KeyError, IndexError, TypeError, ValueError):
                    raise ConfigError(f'{file}: {BASE}.{reads[value]}: there is no {part!r}') from None
            return out
        return value


def _keep_environment(cfg: ConfigDict, names: Sequence[str], file: Path) -> None:
    """Refuse a config that reads environment variables and names a server: a download could carry them there.

    Raises:
        ConfigError: a value is an address on a host that is not one of `KNOWN_HOSTS`.
    """
    for path, value in walk(cfg):
        host = _ADDRESS.search(value) if isinstance(value, str) else None
        if host is not None and host[1].lower() not in KNOWN_HOSTS:
            raise ConfigError(f'{file}: {dotted(path)} is an address on {host[1] or "a host"}, and the config reads '
                              f'the environment variable {names[0]}, which a download could carry there. Name a file '
                              'on this machine instead, or, if you trust its author, say --trust')


def _names(value: Any, where: str) -> list[str]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not all(isinstance(n, str) for n in names):
        raise ConfigError(f'{where}: {BASE} is the path of a file, or a list of paths')
    return list(names)


def _module_file(file: Path, node: ast.ImportFrom) -> Path:
    """The config file that an import names: `from ..a.b import` is `../a/b.py`, `mmdet.configs.a.b` is in the zoo."""
    parts = (node.module or '').split('.')
    if node.level:
        path = Path(os.path.normpath(file.parent.joinpath(*['..'] * (node.level - 1), *parts).with_suffix('.py')))
        if is_file(path):
            return path
        raise Refusal(f'there is no file {path} to inherit from')
    if parts[1:2] == ['configs']:
        parts = parts[2:]
    try:
        return find_config('mmdet::' + '/'.join(parts))
    except ConfigError as e:
        raise Refusal(str(e)) from None    # whoever evaluates the file knows the line


def _read(file: Path) -> str:
    """The text of a file, in the encoding that it declares (UTF-8 where it does not).

    Raises:
        ConfigError: it cannot be read, or is no text.
    """
    try:
        most = MAX_BYTES if file.suffix in ('.py', '.json') else MAX_YAML_BYTES
        with file.open('rb') as f:
            data = f.read(most + 1)
        if len(data) > most:
            raise ConfigError(f'{file} has more than {most} bytes; that is no config')
        encoding = tokenize.detect_encoding(io.BytesIO(data).readline)[0] if file.suffix == '.py' else 'utf-8-sig'
        text = data.decode(encoding)
    except OSError as e:
        raise ConfigError(f'{file} cannot be read: {e.strerror or e}') from None
    except (UnicodeDecodeError, SyntaxError, LookupError) as e:
        raise ConfigError(f'{file} is no text in the encoding that it should have: {e}') from None
    if '\0' in text:
        raise ConfigError(f'{file} is no text: it holds zero bytes')
    return text.replace('\r\n', '\n').replace('\r', '\n')


def _parse(file: Path, text: str) -> ast.Module:
    # `{{ _base_.a.0 }}` is no Python, but `_base_.a[0]` is
    text = _BASE_ITEM.sub(lambda m: '{{_base_.' + re.sub(r'\.(\d+)(?=\.|$)', r'[\1]', m[1]) + '}}', text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')    # about escapes in texts, and the like
            return ast.parse(text, str(file))
    except SyntaxError as e:
        raise ConfigError(f'{file}:{e.lineno or 1}: this is no Python: {e.msg}') from None
    except (ValueError, RecursionError, MemoryError) as e:
        raise ConfigError(f'{file}: this is no Python, or is nested too deep: {e}') from None


def _variables(file: Path) -> dict[str, str]:
    path = file.resolve()
    return {'fileDirname': path.parent.as_posix(), 'fileBasename': path.name, 'fileBasenameNoExtension': path.stem,
            'fileExtname': path.suffix}


def _warn_if_deprecated(file: Path, note: Any) -> None:
    if isinstance(note, Mapping):
        use = f'; use {note["expected"]}' if 'expected' in note else ''
        more = f' (see {note["reference"]})' if 'reference' in note else ''
        warnings.warn(f'{file} is deprecated{use}{more}', stacklevel=2)
