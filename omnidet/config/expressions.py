"""Evaluates the expressions of a config file, and the targets of its assignments."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from typing import Any

from omnidet.config import operations as ops
from omnidet.config.merge import combine, own, set_item, update
from omnidet.config.meter import MAX_BITS, MAX_DEPTH, Meter, Refusal
from omnidet.config.nodes import ConfigDict, Origin, Origins
from omnidet.errors import did_you_mean

BASE = '_base_'


class Evaluator:
    """The names of one file, and what its expressions are worth.

    Args:
        file: its path, for the origins of values.
        meter: what the evaluation may still take.
        origins: is told where everything was written.
        base: what `_base_.x` reads, where the file inherits.
        variables: what `{{ name }}` stands for, in texts and outside of them.
    """

    def __init__(self, file: str, meter: Meter, origins: Origins, base: ConfigDict | None = None,
                 variables: dict[str, str] | None = None) -> None:
        self.file = file
        self.meter = meter
        self.origins = origins
        self.base = base
        self.variables = variables or {}
        self.names: dict[str, Any] = {}
        self.scopes = [self.names]              # of the file, and of the comprehensions around the current expression
        self.imports: dict[str, ops.Symbol] = {}
        self.star_import = False
        self.line = 1
        self._depth = 0

    def eval(self, node: ast.expr) -> Any:
        """The value of `node`.

        Raises:
            Refusal: something in it is not allowed; other exceptions where it fails. `line` is then where.
        """
        self.line = node.lineno
        self.meter.charge()
        evaluate = _EXPRESSIONS.get(type(node))
        if evaluate is None:
            name = _EXPRESSION_NAMES.get(type(node), type(node).__name__.lower())
            raise Refusal(f'{name} is not allowed in a config; --trust executes the file')
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise Refusal(f'expressions are nested more than {MAX_DEPTH} deep')
        value = evaluate(self, node)
        self._depth -= 1
        return value

    def _constant(self, node: ast.Constant) -> Any:
        value = node.value
        if isinstance(value, str):
            self.meter.charge(len(value) // 16)
            return substitute(value, self.variables) if '{{' in value else value
        if isinstance(value, int) and value.bit_length() > MAX_BITS:
            raise Refusal('this number is too large')
        if value is ... or isinstance(value, (bytes, complex)):
            raise Refusal(f'{str(value)[:40]} is neither a number nor a text')
        return value

    def _name(self, node: ast.Name) -> Any:
        for scope in reversed(self.scopes):
            if node.id in scope:
                return scope[node.id]
        if node.id == BASE and self.base is not None:
            return self.base
        if node.id in self.imports:
            return self.imports[node.id]
        if node.id in ('dict', *ops.FUNCTIONS):
            return ops.Symbol(node.id)
        if self.star_import and not node.id.startswith('_'):
            return ops.Symbol(node.id)
        known = [name for scope in self.scopes for name in scope]
        raise Refusal(f'{node.id!r} is not defined{did_you_mean(node.id, known)}')

    def _attribute(self, node: ast.Attribute) -> Any:
        value = self.eval(node.value)
        self.line = node.lineno
        if isinstance(value, ops.Symbol):
            if node.attr.startswith('__'):
                raise Refusal(f'the attribute {node.attr!r} is not allowed')
            return ops.Symbol(f'{value.path}.{node.attr}')
        if not isinstance(value, ConfigDict):
            raise Refusal(f'the attribute {node.attr!r} of a {ops.kind_of(value)} is not allowed')
        if node.attr not in value:
            raise Refusal(f'{_short(node.value)} has no {node.attr!r}{did_you_mean(node.attr, map(str, value))}')
        return value[node.attr]

    def _subscript(self, node: ast.Subscript) -> Any:
        value = self.eval(node.value)
        key = self._index(node.slice)
        self.line = node.lineno
        if not isinstance(value, (dict, list, tuple, str, range)):
            raise Refusal(f'a {ops.kind_of(value)} has no items')
        if isinstance(key, slice):
            self.meter.charge(1 + len(value))
        elif isinstance(value, dict) and ops.hashable(key) not in value:
            raise Refusal(f'{_short(node.value)} has no {key!r}{did_you_mean(str(key), map(str, value))}')
        return value[key]

    def _index(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Slice):
            return slice(*[None if part is None else self.eval(part) for part in (node.lower, node.upper, node.step)])
        return self.eval(node)

    def _items(self, nodes: list[ast.expr]) -> list[Any]:
        out: list[Any] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                out.extend(ops.iterable(self.eval(node.value), self.meter))
            else:
                out.append(self.eval(node))
        return out

    def _list(self, node: ast.List) -> list[Any]:
        return self.origins.born(self._items(node.elts), Origin(self.file, node.lineno))

    def _tuple(self, node: ast.Tuple) -> tuple[Any, ...]:
        return self.origins.born(tuple(self._items(node.elts)), Origin(self.file, node.lineno))

    def _set(self, node: ast.Set) -> Any:
        inner = node.elts[0]
        if len(node.elts) == 1 and isinstance(inner, ast.Set) and len(inner.elts) == 1:
            return self._template(inner.elts[0])
        return {ops.hashable(v) for v in self._items(node.elts)}

    def _template(self, node: ast.expr) -> Any:
        """`{{ name }}`, which Python reads as a set in a set."""
        if isinstance(node, ast.Name) and node.id in self.variables:
            return self.variables[node.id]
        return self.eval(node)

    def _dict(self, node: ast.Dict) -> dict[Any, Any]:
        out: dict[Any, Any] = self.origins.born({}, Origin(self.file, node.lineno))
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                self._spread(out, self.eval(value))
            else:
                name = ops.hashable(self.eval(key))
                out[name] = self.eval(value)
                self.origins.mark(out, name, Origin(self.file, key.lineno))
        return out

    def _spread(self, out: dict[Any, Any], other: Any) -> None:
        if not isinstance(other, dict):
            raise Refusal(f'** needs a dict, not a {ops.kind_of(other)}')
        self.meter.charge(len(other))
        for key, value in other.items():
            set_item(out, key, value, self.origins, other)

    def _call(self, node: ast.Call) -> Any:
        function = node.func
        if isinstance(function, ast.Name) and function.id == 'dict' and 'dict' not in self.names:
            return self._call_dict(node)
        if isinstance(function, ast.Attribute):
            value = self.eval(function.value)
            if not isinstance(value, ops.Symbol):
                return self._call_method(node, value, function.attr)
        elif not isinstance(function, ast.Name):
            raise Refusal('only functions with a name can be called')
        name = ast.unparse(function)
        known = ops.FUNCTIONS.get(name) if name not in self.names and name not in self.imports else None
        if known is None:
            raise Refusal(f'the function {name[:80]!r} is not known to a config, which may call '
                          f'{", ".join(sorted(ops.FUNCTIONS))} and dict; --trust executes the file')
        args, kwargs = self._arguments(node)
        self.line = node.lineno
        return known(self.meter, *args, **kwargs)

    def _call_dict(self, node: ast.Call) -> dict[Any, Any]:
        out: dict[Any, Any] = self.origins.born({}, Origin(self.file, node.lineno))
        for positional in self._items(node.args):
            if isinstance(positional, dict):
                self._spread(out, positional)
            else:
                for pair in ops.iterable(positional, self.meter):
                    key, value = ops.iterable(pair, self.meter)
                    out[ops.hashable(key)] = value
        for keyword in node.keywords:
            value = self.eval(keyword.value)
            if keyword.arg is None:
                self._spread(out, value)
            else:
                out[keyword.arg] = value
                self.origins.mark(out, keyword.arg, Origin(self.file, keyword.lineno))
        return out

    def _arguments(self, node: ast.Call) -> tuple[list[Any], dict[str, Any]]:
        kwargs: dict[str, Any] = self._call_dict(ast.Call(node.func, [], node.keywords, lineno=node.lineno))
        return self._items(node.args), kwargs

    def _call_method(self, node: ast.Call, value: Any, name: str) -> Any:
        args, kwargs = self._arguments(node)
        self.line = node.lineno
        if isinstance(value, dict) and name in ('update', 'merge', 'setdefault'):
            return self._change_dict(value, name, args, kwargs)
        return ops.call_method(value, name, tuple(args), kwargs, self.meter)

    def _change_dict(self, value: dict[Any, Any], name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        if name == 'setdefault':
            key = ops.hashable(args[0])
            if key not in value:
                default = args[1] if len(args) > 1 else None
                if isinstance(value, ConfigDict):
                    default = own(default, self.origins, self.meter)
                set_item(value, key, default, self.origins)
                self.origins.mark(value, key, Origin(self.file, self.line))
            return value[key]
        other: dict[Any, Any] = {}
        for arg in args:
            self._spread(other, arg if isinstance(arg, dict) else dict(arg))
        self._spread(other, kwargs)
        if not isinstance(value, ConfigDict):
            if name == 'merge':
                raise Refusal('the method merge belongs to what was inherited')
            update(value, other, self.origins)
            return None
        other = own(other, self.origins, self.meter)
        if name == 'merge':
            combine(other, value, self.origins)
        else:
            update(value, other, self.origins)
        return None

    def _binary(self, node: ast.BinOp) -> Any:
        a, b = self.eval(node.left), self.eval(node.right)
        self.line = node.lineno
        return ops.binary(node.op, a, b, self.meter)

    def _unary(self, node: ast.UnaryOp) -> Any:
        return ops.UNARY[type(node.op)](self.eval(node.operand))

    def _bool(self, node: ast.BoolOp) -> Any:
        value = None
        for part in node.values:
            value = self.eval(part)
            if bool(value) is isinstance(node.op, ast.Or):
                return value
        return value

    def _compare(self, node: ast.Compare) -> bool:
        left = self.eval(node.left)
        for op, right_node in zip(node.ops, node.comparators, strict=True):
            right = self.eval(right_node)
            for value in (left, right):
                self.meter.walk(value)
            if isinstance(right, range) and not isinstance(left, int):
                self.meter.charge(len(right))    # Python goes through it
            if not ops.COMPARE[type(op)](left, right):
                return False
            left = right
        return True

    def _conditional(self, node: ast.IfExp) -> Any:
        return self.eval(node.body if self.eval(node.test) else node.orelse)

    def _formatted(self, node: ast.JoinedStr) -> str:
        parts = []
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                spec = self._formatted(part.format_spec) if isinstance(part.format_spec, ast.JoinedStr) else ''
                parts.append(ops.formatted(self.eval(part.value), part.conversion, spec, self.meter))
            else:
                parts.append(str(self.eval(part)))
        self.meter.text(sum(map(len, parts)))
        return ''.join(parts)

    def _rounds(self, generators: list[ast.comprehension]) -> Iterator[None]:
        """One step for every time that a comprehension's element is wanted; its names lie in the innermost scope."""
        first, rest = generators[0], generators[1:]
        if first.is_async:
            raise Refusal('async is not allowed')
        for item in list(ops.iterable(self.eval(first.iter), self.meter)):
            self.meter.charge()
            self.assign(first.target, item)
            if all([self.eval(test) for test in first.ifs]):
                if rest:
                    yield from self._rounds(rest)
                else:
                    yield

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp) -> Any:
        self.scopes.append({})
        items = [self.eval(node.elt) for _ in self._rounds(node.generators)]
        self.scopes.pop()
        if isinstance(node, ast.SetComp):
            return {ops.hashable(v) for v in items}
        return self.origins.born(items, Origin(self.file, node.lineno))

    def _dict_comprehension(self, node: ast.DictComp) -> dict[Any, Any]:
        self.scopes.append({})
        out: dict[Any, Any] = self.origins.born({}, Origin(self.file, node.lineno))
        for _ in self._rounds(node.generators):
            key = ops.hashable(self.eval(node.key))
            out[key] = self.eval(node.value)
            self.origins.mark(out, key, Origin(self.file, node.lineno))
        self.scopes.pop()
        return out

    def assign(self, target: ast.expr, value: Any) -> None:
        """`target = value`.

        Raises:
            Refusal: `target` cannot be assigned to.
        """
        if isinstance(target, ast.Name):
            if target.id == BASE:
                raise Refusal(f'{BASE} is assigned once, at the top level of a file')
            self.scopes[-1][target.id] = value
            if len(self.scopes) == 1:
                self.origins.mark(self.names, target.id, Origin(self.file, target.lineno))
        elif isinstance(target, (ast.Tuple, ast.List)):
            self._unpack(target.elts, list(ops.iterable(value, self.meter)))
        elif isinstance(target, (ast.Subscript, ast.Attribute)):
            self._store(self.eval(target.value), target, value)
        else:
            raise Refusal('this cannot be assigned to')

    def _unpack(self, targets: list[ast.expr], values: list[Any]) -> None:
        star = next((i for i, t in enumerate(targets) if isinstance(t, ast.Starred)), None)
        if star is not None:
            end = len(values) - (len(targets) - star - 1)
            if end < star:
                raise Refusal(f'{len(targets) - 1} values or more are needed, {len(values)} are there')
            values = [*values[:star], values[star:end], *values[end:]]
        if len(values) != len(targets):
            raise Refusal(f'{len(targets)} values are needed, {len(values)} are there')
        for target, value in zip(targets, values, strict=True):
            self.assign(target.value if isinstance(target, ast.Starred) else target, value)

    def _store(self, container: Any, target: ast.Subscript | ast.Attribute, value: Any) -> None:
        if isinstance(target, ast.Attribute):
            if not isinstance(container, ConfigDict):
                raise Refusal(f'a {ops.kind_of(container)} has no attribute {target.attr!r} to set')
            key: Any = target.attr
        else:
            key = self._index(target.slice)
        if isinstance(container, ConfigDict):
            value = own(value, self.origins, self.meter)
        if isinstance(container, dict):
            key = ops.hashable(key)
            set_item(container, key, value, self.origins)
            self.origins.mark(container, key, Origin(self.file, self.line))
        elif isinstance(container, list):
            if isinstance(key, slice):
                value = list(ops.iterable(value, self.meter))
            container[key] = value
        else:
            raise Refusal(f'an item of a {ops.kind_of(container)} cannot be set')

    def delete(self, target: ast.expr) -> None:
        """`del target`.

        Raises:
            Refusal: `target` cannot be deleted.
        """
        if isinstance(target, ast.Name):
            if target.id == BASE:
                raise Refusal(f'{BASE} cannot be deleted')
            if target.id not in self.names and target.id not in self.imports:
                raise Refusal(f'there is no {target.id!r} to delete')
            self.names.pop(target.id, None)
        elif isinstance(target, ast.Attribute):
            container = self.eval(target.value)
            if not isinstance(container, ConfigDict):
                raise Refusal(f'a {ops.kind_of(container)} has no attribute {target.attr!r} to delete')
            delattr(container, target.attr)
        elif isinstance(target, ast.Subscript):
            container = self.eval(target.value)
            if not isinstance(container, (dict, list)):
                raise Refusal(f'an item of a {ops.kind_of(container)} cannot be deleted')
            key = self._index(target.slice)
            del container[ops.hashable(key) if isinstance(container, dict) else key]
        else:
            raise Refusal('this cannot be deleted')


_EXPRESSIONS: dict[type, Callable[[Evaluator, Any], Any]] = {
    ast.Constant: Evaluator._constant, ast.Name: Evaluator._name, ast.Attribute: Evaluator._attribute,
    ast.Subscript: Evaluator._subscript, ast.List: Evaluator._list, ast.Tuple: Evaluator._tuple,
    ast.Set: Evaluator._set, ast.Dict: Evaluator._dict, ast.Call: Evaluator._call, ast.BinOp: Evaluator._binary,
    ast.UnaryOp: Evaluator._unary, ast.BoolOp: Evaluator._bool, ast.Compare: Evaluator._compare,
    ast.IfExp: Evaluator._conditional, ast.JoinedStr: Evaluator._formatted, ast.ListComp: Evaluator._comprehension,
    ast.SetComp: Evaluator._comprehension, ast.GeneratorExp: Evaluator._comprehension,
    ast.DictComp: Evaluator._dict_comprehension,
}
_EXPRESSION_NAMES: dict[type, str] = {ast.Lambda: 'a lambda', ast.NamedExpr: 'the operator :=', ast.Await: 'await',
                                      ast.Starred: 'a * here'}
_VARIABLE = re.compile(r'\{\{\s*(\w+)\s*\}\}')


def substitute(text: str, variables: dict[str, str]) -> str:
    """`text` with every `{{ name }}` that `variables` knows replaced by what it stands for."""
    return _VARIABLE.sub(lambda m: variables.get(m[1], m[0]), text)


def _short(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 60 else f'{text[:57]}...'
