"""The operators, methods and functions that a config may use, each bounded before it is carried out."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from omnidet.config.meter import MAX_BITS, Meter, Refusal
from omnidet.config.nodes import ConfigDict

MAX_WIDTH = 1000        # of a number in a format, such as f'{x:>1000}'
MAX_TEMPLATE = 2000     # characters of a text before %, or of a format


class Symbol:
    """A class, function or module that a file imports: it is only a name, and becomes its last part in the result."""

    __slots__ = ('path',)

    def __init__(self, path: str) -> None:
        self.path = path

    def __repr__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        return self.path.rpartition('.')[2]


BINARY: dict[type, tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Add: ('+', operator.add), ast.Sub: ('-', operator.sub), ast.Mult: ('*', operator.mul),
    ast.Div: ('/', operator.truediv), ast.FloorDiv: ('//', operator.floordiv), ast.Mod: ('%', operator.mod),
    ast.Pow: ('**', operator.pow), ast.BitOr: ('|', operator.or_), ast.BitAnd: ('&', operator.and_),
    ast.BitXor: ('^', operator.xor), ast.LShift: ('<<', operator.lshift), ast.RShift: ('>>', operator.rshift),
}
UNARY: dict[type, Callable[[Any], Any]] = {
    ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Not: operator.not_, ast.Invert: operator.invert,
}
COMPARE: dict[type, Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.Is: operator.is_, ast.IsNot: operator.is_not,
    ast.In: lambda a, b: a in b, ast.NotIn: lambda a, b: a not in b,
}

# Methods that a file may call: they read or change plain data and have no way out of it.
METHODS: dict[type, frozenset[str]] = {
    dict: frozenset({'get', 'pop', 'update', 'keys', 'values', 'items', 'setdefault', 'copy', 'clear', 'merge'}),
    list: frozenset({'append', 'extend', 'insert', 'pop', 'remove', 'index', 'count', 'reverse', 'sort', 'copy',
                     'clear'}),
    tuple: frozenset({'index', 'count'}),
    str: frozenset({'format', 'join', 'split', 'rsplit', 'replace', 'lower', 'upper', 'title', 'capitalize', 'strip',
                    'lstrip', 'rstrip', 'startswith', 'endswith', 'find', 'rfind', 'count', 'index', 'splitlines',
                    'partition', 'rpartition', 'isdigit', 'removeprefix', 'removesuffix'}),
    set: frozenset({'add', 'discard', 'remove', 'union', 'intersection', 'difference', 'issubset', 'issuperset'}),
}


def methods_of(value: Any) -> frozenset[str]:
    """The methods that a file may call on `value`."""
    return next((names for kind, names in METHODS.items() if isinstance(value, kind)), frozenset())


def binary(op: ast.operator, a: Any, b: Any, meter: Meter) -> Any:
    """`a op b`.

    Raises:
        Refusal: the operands are no plain data, or the result would be too large.
    """
    sign, function = BINARY.get(type(op), ('@', None))
    if function is None:
        raise Refusal(f'the operator {sign} is not allowed')
    for value in (a, b):
        if isinstance(value, Symbol):
            raise Refusal(f'{value.name} is imported, so it is only a name here; {sign} cannot be applied to it')
    _bound(sign, a, b, meter)
    value = function(a, b)
    if isinstance(value, complex):
        raise Refusal('the result is a complex number')
    return value


def _bound(sign: str, a: Any, b: Any, meter: Meter) -> None:
    if isinstance(a, int) and isinstance(b, int):
        bits = {'*': a.bit_length() + b.bit_length(), '<<': a.bit_length() + max(b, 0),
                '**': a.bit_length() * max(b, 1)}.get(sign, 0)
        if bits > MAX_BITS:
            raise Refusal(f'{sign} makes a number of about {bits} bits; {MAX_BITS} are allowed')
    elif sign == '*':
        many, times = (a, b) if isinstance(b, int) else (b, a)
        if isinstance(many, str):
            meter.text(len(many) * max(times, 0))
        elif isinstance(many, (list, tuple)):
            meter.charge(len(many) * max(times, 0))
    elif sign == '+' and isinstance(a, str) and isinstance(b, str):
        meter.text(len(a) + len(b))
    elif sign == '%' and isinstance(a, str):
        _percent(a, b, meter)
    elif isinstance(a, (list, tuple, dict, set)) and isinstance(b, (list, tuple, dict, set)):
        meter.charge(len(a) + len(b))


def _percent(text: str, values: Any, meter: Meter) -> None:
    if len(text) > MAX_TEMPLATE:
        raise Refusal(f'a format of {len(text)} characters is not allowed')
    for flags in re.findall(r'%(?:\([^)]*\))?([^a-zA-Z%]*)', text):
        check_format(flags)
    items = values if isinstance(values, tuple) else list(values.values()) if isinstance(values, dict) else [values]
    directives = text.count('%')
    meter.text(len(text) + directives * MAX_WIDTH // 100 + directives * sum(printed(v, meter) for v in items))


def check_format(spec: str) -> None:
    """Refuse a format with a width or precision that would make a huge text."""
    if '*' in spec and not spec.startswith(('*<', '*>', '*^')):
        raise Refusal('a width of * in a format is not allowed')
    if len(spec) > MAX_TEMPLATE or any(len(n) > 4 or int(n) > MAX_WIDTH for n in re.findall(r'\d+', spec)):
        raise Refusal(f'a format asks for a width of more than {MAX_WIDTH}: {spec[:40]!r}')


def printed(value: Any, meter: Meter) -> int:
    """An upper bound of how long `value` is as text; charges what printing it takes."""
    if isinstance(value, str):
        return len(value)
    if value is None or isinstance(value, (int, float)):
        return 400 + (value.bit_length() if isinstance(value, int) else 0)
    if isinstance(value, Symbol):
        raise Refusal(f'{value.name} is imported, so it is only a name here; it cannot be made part of a text')
    before = meter.left
    meter.walk(value)
    return (before - meter.left) * 64


def formatted(value: Any, conversion: int, spec: str, meter: Meter) -> str:
    """`f'{value!conversion:spec}'`."""
    check_format(spec)
    meter.text(printed(value, meter))
    if conversion in (ord('r'), ord('a')):
        value = repr(value) if conversion == ord('r') else ascii(value)
    elif conversion == ord('s') or not isinstance(value, (int, float)):
        value = str(value)
    return format(value, spec)


def _str_format(text: str, args: tuple[Any, ...], kwargs: dict[str, Any], meter: Meter) -> str:
    """`text.format(...)` with plain field names only: `{0.__class__}` and `{0[x]}` are refused."""
    import string
    out, count = [], 0
    for literal, field, spec, conversion in string.Formatter().parse(text):
        out.append(literal)
        if field is None:
            continue
        if not re.fullmatch(r'\w*', field) or '{' in (spec or ''):
            raise Refusal(f'a format may name its fields, not reach into them: {{{field}}}')
        value: Any
        if field == '' or field.isdecimal():
            index = count if field == '' else int(field[:9])
            value, count = args[index], count + 1
        else:
            value = kwargs[field]
        out.append(formatted(value, ord(conversion) if conversion else -1, spec or '', meter))
    meter.text(sum(map(len, out)))
    return ''.join(out)


def call_method(value: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], meter: Meter) -> Any:
    """`value.name(*args, **kwargs)` for the methods of plain data; views become lists.

    Raises:
        Refusal: there is no such method, or it is not allowed.
    """
    if name not in methods_of(value):
        raise Refusal(f'the method {name!r} of a {kind_of(value)} is not allowed')
    if isinstance(value, str):
        return _call_str(value, name, args, kwargs, meter)
    meter.charge(1 + len(value))
    if name in ('remove', 'index', 'count', 'sort'):
        if kwargs.keys() - {'reverse'}:
            raise Refusal(f'{name} takes no function here')
        meter.walk(value)
    if isinstance(value, set) or name in ('remove', 'index', 'count'):
        for arg in args:
            meter.walk(arg)
    if isinstance(value, set):
        args = tuple(_set(meter, a) if isinstance(a, (list, tuple, range)) else hashable(a) for a in args)
    elif isinstance(value, dict):
        args = tuple(hashable(a) if i == 0 else a for i, a in enumerate(args))
    for arg in (*args, *kwargs.values()):
        if isinstance(arg, (list, tuple, dict, set, range, str)):
            meter.charge(len(arg))
    if name in ('keys', 'values', 'items'):
        return list(getattr(value, name)(*args, **kwargs))
    if name == 'copy' and isinstance(value, ConfigDict):
        return ConfigDict(value)
    return getattr(value, name)(*args, **kwargs)


def _call_str(text: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], meter: Meter) -> Any:
    if name == 'format':
        return _str_format(text, args, kwargs, meter)
    if name == 'join':
        items = list(iterable(args[0], meter))
        meter.text(sum(len(i) for i in items if isinstance(i, str)) + len(text) * len(items))
        args = (items,)
    elif name == 'replace':
        meter.text(len(text) + (text.count(args[0]) if args[0] else len(text) + 1) * len(args[1]))
    elif name in ('split', 'rsplit', 'splitlines'):
        meter.charge(len(text))
    else:
        meter.text(len(text))
    return getattr(text, name)(*args, **kwargs)


def hashable(key: Any) -> Any:
    """`key`, if it may be the key of a dict: a text or a number.

    Others are refused, as are numbers so large that many of them can be made to collide, which takes for ever.
    """
    if isinstance(key, Symbol):
        return key.name
    if (key is not None and not isinstance(key, (str, int, float))) or (isinstance(key, int) and key.bit_length() > 60):
        raise Refusal(f'a {kind_of(key)} like this cannot be a key of a dict or an item of a set')
    return key


def iterable(value: Any, meter: Meter) -> Any:
    """`value`, if a file may loop over it; its length is charged."""
    if not isinstance(value, (list, tuple, dict, str, range, set, frozenset)):
        raise Refusal(f'a {kind_of(value)} cannot be iterated over')
    meter.charge(len(value))
    return value


def kind_of(value: Any) -> str:
    """What a message calls the kind of `value`."""
    if isinstance(value, Symbol):
        return f'name ({value.name})'
    return 'dict' if isinstance(value, dict) else type(value).__name__


def _range(meter: Meter, *args: int) -> range:
    out = range(*args)
    len(out)    # more than a machine word is refused by Python itself
    return out


def _items(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function over iterables, such as `zip`, made to charge them and to give a list."""
    def call(meter: Meter, *args: Any, **kwargs: Any) -> Any:
        out = function(*[a if isinstance(a, int) else iterable(a, meter) for a in args], **kwargs)
        return out if isinstance(out, tuple) else list(out)
    return call


def _walked(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that compares or adds what it is given."""
    def call(meter: Meter, *args: Any, **kwargs: Any) -> Any:
        for arg in args:
            meter.walk(arg)
            if isinstance(arg, range):
                meter.charge(len(arg))
        if kwargs.get('key') is not None:
            raise Refusal('functions as arguments are not allowed')
        return function(*args, **kwargs)
    return call


def _sum(items: Any, start: Any = 0) -> Any:
    if any(isinstance(v, (list, tuple)) for v in (start, *items)):
        total = len(start) if isinstance(start, (list, tuple)) else 0
        if total + sum(len(v) for v in items) * (len(items) + 1) > 1_000_000:
            raise Refusal('sum() of lists this long is not allowed')
    return sum(items, start)


def _str(meter: Meter, value: Any = '') -> str:
    return formatted(value, ord('s'), '', meter)


def _len(meter: Meter, value: Any) -> int:
    return len(iterable(value, Meter()))


def _set(meter: Meter, items: Any = ()) -> set[Any]:
    return {hashable(v) for v in iterable(items, meter)}


def _round(value: float, digits: int | None = None) -> float:
    if digits is not None and abs(digits) > MAX_WIDTH:
        raise Refusal(f'round() to {digits} digits is not allowed')
    return round(value, digits)


def _number(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of numbers and texts, such as `int`."""
    def call(meter: Meter, *args: Any) -> Any:
        for arg in args:
            if not isinstance(arg, (int, float, str)) and arg is not None:
                raise Refusal(f'{function.__name__.strip("_")}() takes numbers, not a {kind_of(arg)}')
            meter.text(printed(arg, meter))
        return function(*args)
    return call


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    'range': _range, 'len': _len, 'str': _str, 'set': _set, 'list': _items(list), 'tuple': _items(tuple),
    'enumerate': _items(enumerate), 'zip': _items(zip), 'reversed': _items(reversed), 'sorted': _walked(sorted),
    'min': _walked(min), 'max': _walked(max), 'sum': _walked(_sum), 'any': _walked(any), 'all': _walked(all),
    'int': _number(int), 'float': _number(float), 'abs': _number(abs), 'round': _number(_round),
    'bool': lambda meter, value=False: bool(value),
}
