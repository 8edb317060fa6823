"""Carries out the statements of a config file. Nothing of it is executed: what is not listed here does not exist."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from omnidet.config import operations as ops
from omnidet.config.expressions import BASE, Evaluator
from omnidet.config.merge import set_item
from omnidet.config.meter import Refusal
from omnidet.errors import ConfigError

FAILURES = (Refusal, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError, MemoryError)


class _LoopEnd(Exception):
    """`break` (leave=True) or `continue` on its way to the loop around it."""

    def __init__(self, leave: bool) -> None:
        self.leave = leave


class Interpreter:
    """The evaluation of one file.

    Args:
        values: holds the file's names and evaluates its expressions.
        read_base: gives the names that an import inside `with read_base():` brings.
    """

    def __init__(self, values: Evaluator, read_base: Callable[[ast.ImportFrom], dict[str, Any]] | None = None) -> None:
        self.values = values
        self.read_base = read_base
        self.base_statement: ast.stmt | None = None

    def run(self, tree: ast.Module) -> dict[str, Any]:
        """Carry out every statement; gives the names that then exist, without imports and names in double underscores.

        Raises:
            ConfigError: something is not allowed, or fails; the message has file, line and reason.
        """
        self.base_statement = base_statement(tree)
        guarded(self.values, self._block, tree.body)
        out = {k: v for k, v in self.values.names.items() if not k.startswith('__')}
        self.values.origins.inherit(out, self.values.names)
        return out

    def _block(self, body: list[ast.stmt]) -> None:
        for statement in body:
            self.values.line = statement.lineno
            self.values.meter.charge()
            carry_out = _STATEMENTS.get(type(statement))
            if carry_out is None:
                name = _STATEMENT_NAMES.get(type(statement), type(statement).__name__.lower())
                raise Refusal(f'{name} is not allowed in a config; --trust executes the file')
            carry_out(self, statement)

    def _inert(self, statement: ast.stmt) -> None:
        pass

    def _expression(self, statement: ast.Expr) -> None:
        self.values.eval(statement.value)

    def _import(self, statement: ast.Import | ast.ImportFrom) -> None:
        module = '' if isinstance(statement, ast.Import) else f'{statement.module or ""}.'
        for alias in statement.names:
            if alias.name == '*':
                self.values.star_import = True
            elif alias.asname or module:
                self.values.imports[alias.asname or alias.name] = ops.Symbol(module + alias.name)
            else:
                top = alias.name.partition('.')[0]
                self.values.imports[top] = ops.Symbol(top)

    def _define(self, statement: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        self.values.imports[statement.name] = ops.Symbol(statement.name)

    def _if(self, statement: ast.If) -> None:
        test = statement.test
        if isinstance(test, ast.Compare) and isinstance(test.left, ast.Name) and test.left.id == '__name__':
            return
        self._block(statement.body if self.values.eval(test) else statement.orelse)

    def _for(self, statement: ast.For) -> None:
        for item in list(ops.iterable(self.values.eval(statement.iter), self.values.meter)):
            self.values.meter.charge()
            self.values.assign(statement.target, item)
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
        function = context.func if isinstance(context, ast.Call) else context
        name = getattr(function, 'id', getattr(function, 'attr', ''))    # read_base, or mmengine.config.read_base
        if len(statement.items) > 1 or name != 'read_base' or self.read_base is None:
            raise Refusal('the only with that a config may have is `with read_base():`')
        for inner in statement.body:
            self.values.line = inner.lineno
            if isinstance(inner, ast.ImportFrom):
                found = self.read_base(inner)
                for key, value in found.items():
                    if isinstance(value, ops.Symbol):
                        self.values.imports[key] = value
                    else:
                        set_item(self.values.names, key, value, self.values.origins, found)
            elif not isinstance(inner, ast.Pass):
                raise Refusal('with read_base(): may hold nothing but `from ... import ...`')

    def _assign(self, statement: ast.Assign) -> None:
        if statement is self.base_statement:
            return    # the loader has read it
        value = self.values.eval(statement.value)
        for target in statement.targets:
            self.values.line = statement.lineno
            self.values.assign(target, value)

    def _annotated(self, statement: ast.AnnAssign) -> None:
        if statement.value is not None:
            self.values.assign(statement.target, self.values.eval(statement.value))

    def _augmented(self, statement: ast.AugAssign) -> None:
        target = statement.target
        old = self.values.eval(target)
        value = self.values.eval(statement.value)
        self.values.line = statement.lineno
        if isinstance(old, list) and isinstance(statement.op, ast.Add):
            old.extend(ops.iterable(value, self.values.meter))
        else:
            self.values.assign(target, ops.binary(statement.op, old, value, self.values.meter))
    def _delete(self, statement: ast.Delete) -> None:
        for target in statement.targets:
            self.values.delete(target)


def base_statement(tree: ast.Module) -> ast.Assign | None:
    """The statement `_base_ = ...` of a file, if it has one: the first at its top level."""
    return next((s for s in tree.body if isinstance(s, ast.Assign) and getattr(s.targets[0], 'id', '') == BASE
                 and len(s.targets) == 1), None)


def evaluate(values: Evaluator, node: ast.expr) -> Any:
    """The value of one expression.

    Raises:
        ConfigError: something is not allowed, or fails; the message has file, line and reason.
    """
    return guarded(values, values.eval, node)


def guarded(values: Evaluator, function: Callable[[Any], Any], argument: Any) -> Any:
    """`function(argument)`, with all that it may end in made a ConfigError at the line that `values` has come to."""
    try:
        return function(argument)
    except FAILURES as e:
        raise ConfigError(f'{values.file}:{values.line}: {failure(e)}') from None
    except _LoopEnd:
        raise ConfigError(f'{values.file}:{values.line}: break and continue belong into a loop') from None


_STATEMENTS: dict[type, Callable[[Interpreter, Any], None]] = {
    ast.Import: Interpreter._import, ast.ImportFrom: Interpreter._import, ast.FunctionDef: Interpreter._define,
    ast.AsyncFunctionDef: Interpreter._define, ast.ClassDef: Interpreter._define, ast.Pass: Interpreter._inert,
    ast.Expr: Interpreter._expression, ast.If: Interpreter._if, ast.For: Interpreter._for, ast.With: Interpreter._with,
    ast.Break: Interpreter._break, ast.Continue: Interpreter._continue, ast.Assign: Interpreter._assign,
    ast.AnnAssign: Interpreter._annotated, ast.AugAssign: Interpreter._augmented, ast.Delete: Interpreter._delete,
}
_STATEMENT_NAMES: dict[type, str] = {ast.While: 'a while loop'}


def failure(e: BaseException) -> str:
    """The reason that a message gives for an exception which the evaluation of a config ended in."""
    if isinstance(e, Refusal):
        return str(e)
    if isinstance(e, (RecursionError, MemoryError)):
        return 'this is nested too deep, or too large'
    if isinstance(e, KeyError):
        return f'there is no {e}'
    return f'{e} ({type(e).__name__})'
