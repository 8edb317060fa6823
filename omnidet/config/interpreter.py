"""Evaluates a config file's syntax tree. Nothing of the file is executed: what is not listed here does not exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from typing import Any

from omnidet.config import operations as ops
from omnidet.config.merge import combine, own, set_item, update
from omnidet.config.meter import MAX_DEPTH, Meter, Refusal
from omnidet.config.nodes import ConfigDict, Origin, Origins
from omnidet.errors import ConfigError, did_you_mean

FAILURES = (Refusal, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError, MemoryError)
BASE = '_base_'


class _LoopEnd(Exception):
    """`break` (leave=True) or `continue` on its way to the loop around it."""

    def __init__(self, leave: bool) -> None:
        self.leave = leave


class Interpreter:
    """The evaluation of one file.

    Args:
        file: its path, for messages and origins.
        meter: what the evaluation may still take.
        origins: is told where everything was written.
        base: what `_base_.x` reads, where the file inherits.
        variables: what `{{ name }}` stands for, in texts and outside of them.
        read_base: gives the names that an import inside `with read_base():` brings.
    """

    def __init__(self, file: str, meter: Meter, origins: Origins, base: ConfigDict | None = None,
                 variables: dict[str, str] | None = None,
                 read_base: Callable[[ast.ImportFrom], dict[str, Any]] | None = None) -> None:
        self.file = file
        self.meter = meter
        self.origins = origins
        self.base = base
        self.variables = variables or {}
        self.read_base = read_base
        self.names: dict[str, Any] = {}
        self.scopes = [self.names]              # of the file, and of the comprehensions around the current expression
        self.imports: dict[str, ops.Symbol] = {}
        self.star_import = False
        self.line = 1
        self.depth = 0

    def run(self, tree: ast.Module) -> dict[str, Any]:
        """Carry out every statement; gives the names that then exist, without imports and names in double underscores.

        Raises:
            ConfigError: something is not allowed, or fails; the message has file, line and reason.
        """
        self._guard(self._block, tree.body)
        return {k: v for k, v in self.names.items() if not k.startswith('__')}

    def evaluate(self, node: ast.expr) -> Any:
        """The value of one expression.

        Raises:
            ConfigError: as `run`.
        """
        return self._guard(self._eval, node)

    def _guard(self, function: Callable[[Any], Any], argument: Any) -> Any:
        try:
            return function(argument)
        except FAILURES as e:
            raise ConfigError(f'{self.file}:{self.line}: {failure(e)}') from None
        except _LoopEnd:
            raise ConfigError(f'{self.file}:{self.line}: break and continue belong into a loop') from None

    @property
    def _here(self) -> Origin:
        return Origin(self.file, self.line)

    # ------------------------------------------------------------------------------------------------- statements

    def _block(self, body: list[ast.stmt]) -> None:
        for statement in body:
            self.line = statement.lineno
            self.meter.charge()
            carry_out = _STATEMENTS.get(type(statement))
            if carry_out is None:
                raise Refusal(f'{_STATEMENT_NAMES.get(type(statement), type(statement).__name__.lower())} is not allowed '
                              'in a config; --trust executes the file')
            carry_out(self, statement)

    def _inert(self, statement: ast.stmt) -> None:
        pass

    def _expression(self, statement: ast.Expr) -> None:
        self._eval(statement.value)

    def _import(self, statement: ast.Import | ast.ImportFrom) -> None:
        module = '' if isinstance(statement, ast.Import) else f'{statement.module or ""}.'
        for alias in statement.names:
            if alias.name == '*':
                self.star_import = True
            elif alias.asname or module:
                self.imports[alias.asname or alias.name] = ops.Symbol(module + alias.name)
            else:
                top = alias.name.partition('.')[0]
                self.imports[top] = ops.Symbol(top)

    def _define(self, statement: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        self.imports[statement.name] = ops.Symbol(statement.name)

    def _if(self, statement: ast.If) -> None:
        test = statement.test
        if isinstance(test, ast.Compare) and isinstance(test.left, ast.Name) and test.left.id == '__name__':
            return
        self._block(statement.body if self._eval(test) else statement.orelse)

    def _for(self, statement: ast.For) -> None:
        for item in list(ops.iterable(self._eval(statement.iter), self.meter)):
            self.meter.charge()
            self._assign_to(statement.target, item)
            try:
                self._block(statement.body)
            except _LoopEnd as end:
                if end.leave:
                    return
        self._block(statement.orelse)

    def _break(self, statement: ast.Break) -> None:
        raise _LoopEnd(leave=True)

    def _continue(self, statement: ast.Continue) -> None:
        raise _LoopEnd(leave=False)

    def _with(self, statement: ast.With) -> None:
        context = statement.items[0].context_expr
        name = context.func if isinstance(context, ast.Call) else None
        if len(statement.items) > 1 or not isinstance(name, (ast.Name, ast.Attribute)) or self.read_base is None or (
                name.id if isinstance(name, ast.Name) else name.attr) != 'read_base':
            raise Refusal('the only with that a config may have is `with read_base():`')
        for inner in statement.body:
            self.line = inner.lineno
            if isinstance(inner, ast.ImportFrom):
                for name, value in self.read_base(inner).items():
                    (self.imports if isinstance(value, ops.Symbol) else self.names)[name] = value
            elif not isinstance(inner, ast.Pass):
                raise Refusal('with read_base(): may hold nothing but `from ... import ...`')

    def _assign(self, statement: ast.Assign) -> None:
        if [t.id for t in statement.targets if isinstance(t, ast.Name)] == [BASE]:
            return    # the loader has read it
        value = self._eval(statement.value)
        for target in statement.targets:
            self.line = statement.lineno
            self._assign_to(target, value)

    def _annotated(self, statement: ast.AnnAssign) -> None:
        if statement.value is not None:
            self._assign_to(statement.target, self._eval(statement.value))

    def _augmented(self, statement: ast.AugAssign) -> None:
        target = statement.target
        old = self._eval(target)
        value = self._eval(statement.value)
        self.line = statement.lineno
        if isinstance(old, list) and isinstance(statement.op, ast.Add):
            old.extend(ops.iterable(value, self.meter))
        else:
            self._assign_to(target, ops.binary(statement.op, old, value, self.meter))

    def _assign_to(self, target: ast.expr, value: Any) -> None:
        if isinstance(target, ast.Name):
            if target.id == BASE:
                raise Refusal(f'{BASE} must be assigned at the top of the file, as a text or a list of texts')
            self.scopes[-1][target.id] = value
            if len(self.scopes) == 1:
                self.origins.mark(self.names, target.id, Origin(self.file, target.lineno))
        elif isinstance(target, (ast.Tuple, ast.List)):
            self._unpack(target.elts, list(ops.iterable(value, self.meter)))
        elif isinstance(target, (ast.Subscript, ast.Attribute)):
            self._store(self._eval(target.value), target, value)
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
        for target, value in zip(targets, values):
            self._assign_to(target.value if isinstance(target, ast.Starred) else target, value)

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
            key = ops.hashable(key, self.meter)
            set_item(container, key, value, self.origins)
            self.origins.mark(container, key, self._here)
        elif isinstance(container, list):
            if isinstance(key, slice):
                value = list(ops.iterable(value, self.meter))
            container[key] = value
        else:
            raise Refusal(f'an item of a {ops.kind_of(container)} cannot be set')

    def _delete(self, statement: ast.Delete) -> None:
        for target in statement.targets:
            if isinstance(target, ast.Name):
                if target.id == BASE:
                    raise Refusal(f'{BASE} cannot be deleted')
                if target.id not in self.names and target.id not in self.imports:
                    raise Refusal(f'there is no {target.id!r} to delete')
                self.names.pop(target.id, None)
            elif isinstance(target, ast.Attribute):
                container = self._eval(target.value)
                if not isinstance(container, ConfigDict):
                    raise Refusal(f'a {ops.kind_of(container)} has no attribute {target.attr!r} to delete')
                delattr(container, target.attr)
            elif isinstance(target, ast.Subscript):
                container = self._eval(target.value)
                if not isinstance(container, (dict, list)):
                    raise Refusal(f'an item of a {ops.kind_of(container)} cannot be deleted')
                del container[ops.hashable(self._index(target.slice), self.meter)]
            else:
                raise Refusal('this cannot be deleted')

    # ------------------------------------------------------------------------------------------------ expressions

    def _eval(self, node: ast.expr) -> Any:
        self.line = node.lineno
        self.meter.charge()
        evaluate = _EXPRESSIONS.get(type(node))
        if evaluate is None:
            raise Refusal(f'{_EXPRESSION_NAMES.get(type(node), type(node).__name__.lower())} is not allowed in a config; '
                          '--trust executes the file')
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Refusal(f'expressions are nested more than {MAX_DEPTH} deep')
        value = evaluate(self, node)
        self.depth -= 1
        return value

    def _constant(self, node: ast.Constant) -> Any:
        value = node.value
        if isinstance(value, str):
            self.meter.charge(len(value) // 16)
            return substitute(value, self.variables) if '{{' in value else value
        if isinstance(value, int) and value.bit_length() > 4096:
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
        value = self._eval(node.value)
        self.line = node.lineno
        if isinstance(value, ops.Symbol):
            if node.attr.startswith('__'):
                raise Refusal(f'the attribute {node.attr!r} is not allowed')
            return ops.Symbol(f'{value.path}.{node.attr}')
        if not isinstance(value, ConfigDict):
            raise Refusal(f'the attribute {node.attr!r} of a {ops.kind_of(value)} is not allowed')
        if node.attr not in value:
            raise Refusal(f'{ast.unparse(node.value)} has no {node.attr!r}{did_you_mean(node.attr, map(str, value))}')
        return value[node.attr]

    def _subscript(self, node: ast.Subscript) -> Any:
        value = self._eval(node.value)
        key = self._index(node.slice)
        self.line = node.lineno
        if not isinstance(value, (dict, list, tuple, str, range)):
            raise Refusal(f'a {ops.kind_of(value)} has no items')
        if isinstance(key, slice):
            self.meter.charge(1 + len(value) // 4)
        elif isinstance(value, dict) and ops.hashable(key, self.meter) not in value:
            raise Refusal(f'{_short(node.value)} has no {key!r}{did_you_mean(str(key), map(str, value))}')
        return value[key]

    def _index(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Slice):
            return slice(*[None if part is None else self._eval(part) for part in (node.lower, node.upper, node.step)])
        return self._eval(node)

    def _items(self, nodes: list[ast.expr]) -> list[Any]:
        out: list[Any] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                out.extend(ops.iterable(self._eval(node.value), self.meter))
            else:
                out.append(self._eval(node))
        return out

    def _list(self, node: ast.List) -> list[Any]:
        return self.origins.born(self._items(node.elts), Origin(self.file, node.lineno))

    def _tuple(self, node: ast.Tuple) -> tuple[Any, ...]:
        return self.origins.born(tuple(self._items(node.elts)), Origin(self.file, node.lineno))

    def _set(self, node: ast.Set) -> Any:
        inner = node.elts[0]
        if len(node.elts) == 1 and isinstance(inner, ast.Set) and len(inner.elts) == 1:
            return self._template(inner.elts[0])
        return {ops.hashable(v, self.meter) for v in self._items(node.elts)}

    def _template(self, node: ast.expr) -> Any:
        """`{{ name }}`, which Python reads as a set in a set."""
        if isinstance(node, ast.Name) and node.id in self.variables:
            return self.variables[node.id]
        return self._eval(node)

    def _dict(self, node: ast.Dict) -> dict[Any, Any]:
        out: dict[Any, Any] = self.origins.born({}, Origin(self.file, node.lineno))
        for key, value in zip(node.keys, node.values):
            if key is None:
                self._spread(out, self._eval(value))
            else:
                name = ops.hashable(self._eval(key), self.meter)
                out[name] = self._eval(value)
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
            value = self._eval(function.value)
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
                    out[ops.hashable(key, self.meter)] = value
        for keyword in node.keywords:
            value = self._eval(keyword.value)
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
        if isinstance(value, dict) and name in ('update', 'merge', 'setdefault') or isinstance(value, ConfigDict):
            return self._change_dict(value, name, args, kwargs)
        return ops.call_method(value, name, tuple(args), kwargs, self.meter)

    def _change_dict(self, value: dict[Any, Any], name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        if name not in ('update', 'merge', 'setdefault'):
            return ops.call_method(value, name, tuple(args), kwargs, self.meter)
        if name == 'setdefault':
            key = ops.hashable(args[0], self.meter)
            if key not in value:
                default = args[1] if len(args) > 1 else None
                set_item(value, key, own(default, self.origins, self.meter) if isinstance(value, ConfigDict) else default,
                         self.origins)
                self.origins.mark(value, key, self._here)
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
        a, b = self._eval(node.left), self._eval(node.right)
        self.line = node.lineno
        return ops.binary(node.op, a, b, self.meter)

    def _unary(self, node: ast.UnaryOp) -> Any:
        return ops.UNARY[type(node.op)](self._eval(node.operand))

    def _bool(self, node: ast.BoolOp) -> Any:
        value = None
        for part in node.values:
            value = self._eval(part)
            if bool(value) is isinstance(node.op, ast.Or):
                return value
        return value

    def _compare(self, node: ast.Compare) -> bool:
        left = self._eval(node.left)
        for op, right_node in zip(node.ops, node.comparators):
            right = self._eval(right_node)
            for value in (left, right):
                if isinstance(value, (dict, list, tuple, set)):
                    self.meter.walk(value)
            if not ops.COMPARE[type(op)](left, right):
                return False
            left = right
        return True

    def _conditional(self, node: ast.IfExp) -> Any:
        return self._eval(node.body if self._eval(node.test) else node.orelse)

    def _formatted(self, node: ast.JoinedStr) -> str:
        parts = []
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                spec = self._formatted(part.format_spec) if isinstance(part.format_spec, ast.JoinedStr) else ''
                parts.append(ops.formatted(self._eval(part.value), part.conversion, spec, self.meter))
            else:
                parts.append(str(self._eval(part)))
        self.meter.text(sum(map(len, parts)))
        return ''.join(parts)

    def _rounds(self, generators: list[ast.comprehension]) -> Iterator[None]:
        """One step for every time that a comprehension's element is wanted; its names lie in the innermost scope."""
        first, rest = generators[0], generators[1:]
        if first.is_async:
            raise Refusal('async is not allowed')
        for item in list(ops.iterable(self._eval(first.iter), self.meter)):
            self.meter.charge()
            self._assign_to(first.target, item)
            if all([self._eval(test) for test in first.ifs]):
                if rest:
                    yield from self._rounds(rest)
                else:
                    yield

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp) -> Any:
        self.scopes.append({})
        items = [self._eval(node.elt) for _ in self._rounds(node.generators)]
        self.scopes.pop()
        if isinstance(node, ast.SetComp):
            return {ops.hashable(v, self.meter) for v in items}
        return self.origins.born(items, Origin(self.file, node.lineno))

    def _dict_comprehension(self, node: ast.DictComp) -> dict[Any, Any]:
        self.scopes.append({})
        out: dict[Any, Any] = self.origins.born({}, Origin(self.file, node.lineno))
        for _ in self._rounds(node.generators):
            key = ops.hashable(self._eval(node.key), self.meter)
            out[key] = self._eval(node.value)
            self.origins.mark(out, key, Origin(self.file, node.lineno))
        self.scopes.pop()
        return out


_STATEMENTS: dict[type, Callable[[Interpreter, Any], None]] = {
    ast.Import: Interpreter._import, ast.ImportFrom: Interpreter._import, ast.FunctionDef: Interpreter._define,
    ast.AsyncFunctionDef: Interpreter._define, ast.ClassDef: Interpreter._define, ast.Pass: Interpreter._inert,
    ast.Expr: Interpreter._expression, ast.If: Interpreter._if, ast.For: Interpreter._for, ast.With: Interpreter._with,
    ast.Break: Interpreter._break, ast.Continue: Interpreter._continue, ast.Assign: Interpreter._assign,
    ast.AnnAssign: Interpreter._annotated, ast.AugAssign: Interpreter._augmented, ast.Delete: Interpreter._delete,
}
_EXPRESSIONS: dict[type, Callable[[Interpreter, Any], Any]] = {
    ast.Constant: Interpreter._constant, ast.Name: Interpreter._name, ast.Attribute: Interpreter._attribute,
    ast.Subscript: Interpreter._subscript, ast.List: Interpreter._list, ast.Tuple: Interpreter._tuple,
    ast.Set: Interpreter._set, ast.Dict: Interpreter._dict, ast.Call: Interpreter._call, ast.BinOp: Interpreter._binary,
    ast.UnaryOp: Interpreter._unary, ast.BoolOp: Interpreter._bool, ast.Compare: Interpreter._compare,
    ast.IfExp: Interpreter._conditional, ast.JoinedStr: Interpreter._formatted, ast.ListComp: Interpreter._comprehension,
    ast.SetComp: Interpreter._comprehension, ast.GeneratorExp: Interpreter._comprehension,
    ast.DictComp: Interpreter._dict_comprehension,
}
_STATEMENT_NAMES: dict[type, str] = {ast.While: 'a while loop', ast.Try: 'try', ast.Raise: 'raise', ast.Return: 'return'}
_EXPRESSION_NAMES: dict[type, str] = {ast.Lambda: 'a lambda', ast.NamedExpr: 'the operator :=', ast.Await: 'await',
                                      ast.Starred: 'a * here'}
_VARIABLE = re.compile(r'\{\{\s*(\w+)\s*\}\}')


def substitute(text: str, variables: dict[str, str]) -> str:
    """`text` with every `{{ name }}` that `variables` knows replaced by what it stands for."""
    return _VARIABLE.sub(lambda m: variables.get(m[1], m[0]), text)


def _short(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 60 else f'{text[:57]}...'


def failure(e: BaseException) -> str:
    """The reason that a message gives for an exception which the evaluation of a config ended in."""
    if isinstance(e, Refusal):
        return str(e)
    if isinstance(e, (RecursionError, MemoryError)):
        return 'this is nested too deep, or too large'
    if isinstance(e, KeyError):
        return f'there is no {e}'
    return f'{e} ({type(e).__name__})'
