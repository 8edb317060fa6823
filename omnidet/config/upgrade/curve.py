"""One `lr_config` of 2.x as schedulers of 3.x: the same curve, made of the parts that there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from omnidet.config.nodes import ConfigDict
from omnidet.config.upgrade.work import Work
from omnidet.errors import did_you_mean

WARMUP = ('warmup', 'warmup_iters', 'warmup_ratio', 'warmup_by_epoch')


class Curve:
    """One `lr_config` or `momentum_config`.

    Args:
        work: the upgrade; its `train_cfg` is that of 3.x already.
        said: the settings.
        at: their top-level key.
        kind: 'LR' or 'Momentum', what the types of schedulers end in.
    """

    def __init__(self, work: Work, said: ConfigDict, at: str, kind: str) -> None:
        self.work, self.said, self.at, self.kind = work, said, at, kind
        loop = work.cfg.get('train_cfg') or {}
        self.counts_epochs = 'max_iters' not in loop
        self.most: int | None = loop.get('max_epochs', loop.get('max_iters'))

    def schedulers(self) -> list[ConfigDict]:
        """The warm-up, and what goes on beneath it."""
        said = self.said
        if 'policy' not in said and str(said.get('type', '')).endswith('UpdaterHook'):
            said['policy'] = said.pop('type').removesuffix('UpdaterHook').removesuffix('Lr').removesuffix('Momentum')
        policy = str(said.get('policy', ''))
        known = {p.lower(): p for p in POLICIES}
        if policy.lower() not in known:
            near = did_you_mean(policy, POLICIES)
            self.work.fail(said, 'policy', f'{self.at}.policy',
                           f'{f"there is no {policy!r}" if policy else "it is missing"}{near}; there are '
                           f'{", ".join(POLICIES)}')
        make, arguments = POLICIES[known[policy.lower()]]
        for key in said:
            if key not in ('policy', 'by_epoch', *WARMUP, *arguments):
                near = did_you_mean(str(key), (*arguments, *WARMUP))
                self.work.fail(said, key, f'{self.at}.{key}', f'the policy {policy!r} has no such argument{near}')
        return [*self.warmup(policy), *make(self)]

    def warmup(self, policy: str) -> list[ConfigDict]:
        said = self.said
        if said.get('warmup') is None:
            return []
        self.work.one_of(said, 'warmup', f'{self.at}.warmup', ('constant', 'linear', 'exp'))
        N, ratio = int(said.get('warmup_iters', 0)), said.get('warmup_ratio', 0.1)
        if N <= 0 or not 0 < ratio <= 1:
            self.work.fail(said, 'warmup_iters', f'{self.at}.warmup', 'warmup_iters must be above 0, and warmup_ratio '
                           f'above 0 and at most 1; found {N} and {ratio}')
        by_epoch = said.get('warmup_by_epoch', False) and self.counts_epochs
        unit = dict(by_epoch=True, begin=0, end=N, convert_to_iter_based=True) if by_epoch else \
            dict(by_epoch=False, begin=0, end=N)
        if policy.lower() == 'yolox':
            return [self.new('QuadraticWarmup', **unit)]
        if ratio == 1:
            return []
        if said['warmup'] == 'constant':
            return [self.new('Constant', factor=ratio, **unit)]
        if said['warmup'] == 'linear':
            # at end - 1 the factor is 1: one iteration before 2.x, which is how the zoo of 3.x warms up too
            return [self.new('Linear', start_factor=ratio, **unit)]
        if by_epoch:
            self.work.changes.note(f'{self.at}.warmup', 'param_scheduler', 'linear, not exp: an exponential warm-up of '
                                   'whole epochs has nothing in 3.x that is like it')
            return [self.new('Linear', start_factor=ratio, **unit)]
        return [self.new('MultiStep', by_epoch=False, begin=0, end=1, milestones=[0], gamma=ratio),
                self.new('Exponential', by_epoch=False, begin=0, end=N + 1, gamma=ratio ** (-1 / N))]

    # ---- policies: the curve beneath the warm-up ----

    def fixed(self) -> list[ConfigDict]:
        return []

    def step(self) -> list[ConfigDict]:
        said = self.said
        step, gamma = self.need('step'), said.get('gamma', 0.1)
        if 'min_lr' in said:
            self.work.changes.note(f'{self.at}.min_lr', '', 'steps have no lower bound in 3.x')
        by_epoch = self.by_epoch()
        end = {'end': self.most} if self.most and by_epoch == self.counts_epochs else {}
        if isinstance(step, int):
            return [self.new('Step', by_epoch=by_epoch, begin=0, **end, step_size=step, gamma=gamma)]
        if not isinstance(step, (list, tuple)) or not all(isinstance(s, int) for s in step):
            self.work.fail(said, 'step', f'{self.at}.step', f'it is a number, or a list of numbers; found {step!r}')
        return [self.new('MultiStep', begin=0, **end, by_epoch=by_epoch, milestones=list(step), gamma=gamma)]

    def exp(self) -> list[ConfigDict]:
        return [self.new('Exponential', by_epoch=self.by_epoch(), gamma=self.need('gamma'))]

    def poly(self) -> list[ConfigDict]:
        unit = self.unit(last=True)
        return [self.new('Poly', power=self.said.get('power', 1.0), eta_min=self.said.get('min_lr', 0.0), **unit)]

    def linear(self) -> list[ConfigDict]:
        floor = self.floor()
        ratio = floor.get('eta_min_ratio')
        if ratio is None:
            ratio = floor['eta_min'] / self.base() if floor.get('eta_min') else 0.0
        return [self.new('Linear', start_factor=1.0, end_factor=ratio, **self.unit(last=True))]

    def cosine(self, begin: float = 0, until: int | None = None) -> list[ConfigDict]:
        unit = self.unit()
        end = unit['end'] if until is None else until
        start = self.whole(begin, 'a share of the run')
        return [self.new('CosineAnnealing', **{**unit, 'begin': start, 'end': end}, T_max=end - start, **self.floor())]

    def flat_cosine(self) -> list[ConfigDict]:
        return self.cosine(self.said.get('start_percent', 0.75) * self.length())

    def restart(self) -> list[ConfigDict]:
        periods = list(self.need('periods'))
        weights = list(self.said.get('restart_weights', [1]))
        by_epoch = self.by_epoch()
        return [self.new('CosineRestart', by_epoch=by_epoch, periods=periods, restart_weights=weights, **self.floor())]

    def yolox(self) -> list[ConfigDict]:
        """A cosine after the warm-up, and the lowest rate in the last epochs."""
        begin = self.said.get('warmup_iters', 0) if self.said.get('warmup') else 0
        last = self.length() - self.said.get('num_last_epochs', 15)
        flat = {**self.unit(), 'begin': last}
        return [*self.cosine(begin, last), self.new('Constant', factor=1, **flat)]

    def cyclic(self) -> list[ConfigDict]:
        """Up to a multiple of the base, and down to a small share of it, once."""
        said = self.said
        default = (10, 1e-4) if self.kind == 'LR' else (0.85 / 0.95, 1)
        top = said.get('target_ratio', default)
        top, low = (top, top / 1e5) if isinstance(top, (int, float)) else top
        for key, usual in (('cyclic_times', 1), ('gamma', 1)):
            if said.get(key, usual) != usual:
                self.work.fail(said, key, f'{self.at}.{key}', f'3.x can express {usual} alone; found {said[key]}')
        unit = self.unit()
        turn = self.whole(said.get('step_ratio_up', 0.4) * self.length(), 'the turn of the cycle')
        up, down = {**unit, 'end': turn}, {**unit, 'begin': turn}
        if said.get('anneal_strategy', 'cos') == 'linear':
            return [self.new('Linear', start_factor=1.0, end_factor=top, **up),
                    self.new('Linear', start_factor=1.0, end_factor=low / top, **down)]
        return [self.new('CosineAnnealing', T_max=turn, eta_min_ratio=top, **up),
                self.new('CosineAnnealing', T_max=unit['end'] - turn, eta_min_ratio=low, **down)]

    def one_cycle(self) -> list[ConfigDict]:
        said = {k: v for k, v in self.said.items() if k not in ('policy', 'by_epoch', *WARMUP)}
        if self.kind == 'Momentum':
            self.work.fail(self.said, 'policy', f'{self.at}.policy', "3.x has no momentum that goes with 'OneCycle'")
        self.need('max_lr')
        unit = self.unit()
        total = said.pop('total_steps', None) or unit['end']
        return [self.new('OneCycle', eta_max=said.pop('max_lr'), total_steps=total, **unit, **said)]

    def inverse(self) -> list[ConfigDict]:
        self.work.fail(self.said, 'policy', f'{self.at}.policy',
                       "3.x has nothing that makes the curve of 'inv'; 'poly' and 'exp' fall likewise")

    # ---- what policies share ----

    def need(self, key: str) -> Any:
        """A setting without which the policy is none."""
        if self.said.get(key) is None:
            self.work.fail(self.said, 'policy', f'{self.at}.{key}', f'it is missing; {self.said["policy"]!r} needs it')
        return self.said[key]

    def new(self, kind: str, **settings: Any) -> ConfigDict:
        new: ConfigDict = self.work.like(self.said, {'type': f'{kind}{self.kind}', **settings})
        return new

    def by_epoch(self) -> bool:
        return self.counts_epochs and bool(self.said.get('by_epoch', True))

    def length(self) -> int:
        """Of the run, in epochs or iterations as it counts."""
        if self.most is None:
            self.work.fail(self.work.cfg, self.at, self.at, 'this policy needs the length of the run, and there is no '
                           "runner: runner = dict(type='EpochBasedRunner', max_epochs=12)")
        return self.most

    def unit(self, last: bool = False) -> dict[str, Any]:
        """`by_epoch`, `begin` and `end` of a curve over the whole run, changing as often as `by_epoch` of 2.x says.

        Args:
            last: the curve would arrive at its end one step after the run's last.
        """
        often = self.said.get('by_epoch', self.said.get('policy', '').lower() not in ('cyclic', 'onecycle'))
        if self.counts_epochs and not often:
            return dict(by_epoch=True, begin=0, end=self.length(), convert_to_iter_based=True)
        return dict(by_epoch=self.counts_epochs, begin=0, end=self.length() + last)

    def floor(self) -> dict[str, Any]:
        if self.said.get('min_lr_ratio') is not None:
            return {'eta_min_ratio': self.said['min_lr_ratio']}
        return {'eta_min': self.said.get('min_lr') or 0}

    def base(self) -> float:
        """The setting of the optimizer that is scheduled."""
        optimizer = self.work.cfg.get('optimizer') or (self.work.cfg.get('optim_wrapper') or {}).get('optimizer') or {}
        momentum = optimizer.get('momentum') or (optimizer.get('betas') or (None,))[0]
        value = optimizer.get('lr') if self.kind == 'LR' else momentum
        if not value:
            self.work.fail(self.said, 'min_lr', f'{self.at}.min_lr', 'the optimizer has no rate that it is a share of')
        return float(value)

    def whole(self, value: float, what: str) -> int:
        out = round(value)
        if out != value:
            self.work.changes.note(self.at, 'param_scheduler', f'{what} is {out}, not {value:g}: 3.x counts whole ones')
        return out


POLICIES: Mapping[str, tuple[Callable[[Curve], list[ConfigDict]], tuple[str, ...]]] = {
    'fixed': (Curve.fixed, ()),
    'step': (Curve.step, ('step', 'gamma', 'min_lr')),
    'exp': (Curve.exp, ('gamma',)),
    'poly': (Curve.poly, ('power', 'min_lr')),
    'inv': (Curve.inverse, ('gamma', 'power')),
    'CosineAnnealing': (Curve.cosine, ('min_lr', 'min_lr_ratio')),
    'FlatCosineAnnealing': (Curve.flat_cosine, ('start_percent', 'min_lr', 'min_lr_ratio')),
    'LinearAnnealing': (Curve.linear, ('min_lr', 'min_lr_ratio')),
    'CosineRestart': (Curve.restart, ('periods', 'restart_weights', 'min_lr', 'min_lr_ratio')),
    'cyclic': (Curve.cyclic, ('target_ratio', 'cyclic_times', 'step_ratio_up', 'anneal_strategy', 'gamma')),
    'OneCycle': (Curve.one_cycle, ('max_lr', 'total_steps', 'pct_start', 'anneal_strategy', 'div_factor',
                                   'final_div_factor', 'three_phase')),
    'YOLOX': (Curve.yolox, ('num_last_epochs', 'min_lr', 'min_lr_ratio'))}
"""Each policy of 2.x: what makes its curve, and its arguments."""
