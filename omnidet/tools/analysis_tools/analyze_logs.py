"""As `omnidet analyze logs` and `omnidet analyze time`.

  python -m omnidet.tools.analysis_tools.analyze_logs plot_curve LOG.json --keys loss_cls loss_bbox --out losses.pdf
  python -m omnidet.tools.analysis_tools.analyze_logs cal_train_time LOG.json
"""

from __future__ import annotations

import sys

from omnidet.cli import print_error
from omnidet.errors import did_you_mean
from omnidet.tools import door

TASKS = {'plot_curve': 'logs', 'cal_train_time': 'time'}

if __name__ == '__main__':
    task = next((a for a in sys.argv[1:] if not a.startswith('-')), None)
    if task is None:
        print(__doc__)
        sys.exit(0 if len(sys.argv) > 1 else 2)
    if task not in TASKS:
        print_error(f'analyze_logs: there is no task {task!r}{did_you_mean(task, TASKS)}; take {" or ".join(TASKS)}')
        sys.exit(2)
    sys.argv.remove(task)
    door('analyze', TASKS[task])
