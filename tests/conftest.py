"""What every test runs under: one thread, so that tests beside each other do not wait for the same cores."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
