"""MMDetection's names for code of the users' own: `from mmdet.registry import MODELS` gives OmniDet's.

`install()` makes the packages `mmdet`, `mmengine`, `mmcv`, `mmcls` and `mmpretrain` importable where they are not
installed. What their modules hold is one table (`omnidet.compat.table`); a name that OmniDet has no counterpart of says
what to use instead. A package that is really installed is left alone: then `from mmdet...` means that package, whose
registries are not OmniDet's.

The command line installs the names before it imports a user's module; a script does so by itself:

    import omnidet.compat
    omnidet.compat.install()
    from mmdet.apis import init_detector
"""

from __future__ import annotations

from omnidet.compat.finder import install
from omnidet.compat.missing import CompatError

__all__ = ['CompatError', 'install']
