"""Executes a config file as Python, for `--trust`: the file may then do whatever its author wanted."""

from __future__ import annotations

import ast
import importlib.util
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omnidet.compat.finder import install, is_alias
from omnidet.config.expressions import BASE, substitute
from omnidet.config.nodes import ConfigDict, Origin, Origins
from omnidet.config.operations import Symbol
from omnidet.errors import ConfigError

_MMLAB = ('mmdet', 'mmengine', 'mmcv', 'mmpretrain', 'mmcls', 'mmseg', 'mmyolo')


def execute(tree: ast.Module, file: Path, base: ConfigDict, variables: dict[str, str], origins: Origins,
            read_base: Callable[[ast.ImportFrom], dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The values that the file leaves behind, and the classes that it imports or defines.

    Imports from MMDetection's packages, where those are not installed, give the names alone: our parts have the same.
    Modules that the file imports get our counterparts of what they import from those packages.

    Raises:
        ConfigError: the file raises an exception; the message has its line.
    """
    install()
    names: dict[str, Any] = {'__name__': 'config', '__file__': str(file), BASE: base}
    try:
        tree = ast.fix_missing_locations(_Adapted(variables, read_base, names).visit(tree))
        exec(compile(tree, str(file), 'exec'), names)
    except ConfigError:
        raise
    except Exception as e:
        line, trace = 0, e.__traceback__
        while trace is not None:
            line = trace.tb_lineno if trace.tb_frame.f_code.co_filename == str(file) else line
            trace = trace.tb_next
        raise ConfigError(f'{file}:{line}: {type(e).__name__}: {e}') from e
    classes = {k: v for k, v in names.items() if isinstance(v, (type, Symbol))}
    inert = {BASE, *classes, *(k for k, v in names.items() if isinstance(v, (types.ModuleType, types.FunctionType)))}
    values = {k: v for k, v in names.items() if k not in inert and not k.startswith('__')}
    for statement in tree.body:
        for target in getattr(statement, 'targets', ()):
            if isinstance(target, ast.Name) and target.id in values:
                origins.mark(values, target.id, Origin(str(file), statement.lineno))
    return values, classes


class _Adapted(ast.NodeTransformer):
    """The file as Python can run it: `_base_` is read already, `{{ x }}` is x, and missing packages give names."""

    def __init__(self, variables: dict[str, str], read_base: Callable[[ast.ImportFrom], dict[str, Any]],
                 names: dict[str, Any]) -> None:
        self.variables = variables
        self.read_base = read_base
        self.names = names

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:  
        if any(getattr(t, 'id', '') == BASE for t in node.targets):
            return None
        return self.generic_visit(node)

    def visit_Set(self, node: ast.Set) -> ast.AST:  
        inner = node.elts[0]
        if len(node.elts) == 1 and isinstance(inner, ast.Set) and len(inner.elts) == 1:
            name = getattr(inner.elts[0], 'id', None)
            return ast.Constant(self.variables[name]) if name in self.variables else self.generic_visit(inner.elts[0])
        return self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:  
        if isinstance(node.value, str) and '{{' in node.value:
            return ast.copy_location(ast.Constant(substitute(node.value, self.variables)), node)
        return node

    def visit_With(self, node: ast.With) -> ast.AST | list[ast.stmt]:  
        call = node.items[0].context_expr
        if getattr(getattr(call, 'func', call), 'id', '') != 'read_base':
            return self.generic_visit(node)
        for inner in node.body:
            if isinstance(inner, ast.ImportFrom):
                for key, value in self.read_base(inner).items():
                    self.names[key] = value
        return ast.copy_location(ast.Pass(), node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:  
        package = (node.module or '').partition('.')[0]
        if node.level or package not in _MMLAB or _is_installed(package):
            return node
        for alias in node.names:
            if alias.name != 'read_base':
                self.names[alias.asname or alias.name] = Symbol(alias.name)
        return ast.copy_location(ast.Pass(), node)


def _is_installed(package: str) -> bool:
    return not is_alias(package) and importlib.util.find_spec(package) is not None
