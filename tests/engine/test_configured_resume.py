"""`resume=True` and `load_from` in a config: the run goes on from that file, as in MMEngine."""

from __future__ import annotations

from test_train import losses, run
from tiny_parts import tiny_cfg


def test_a_config_may_name_the_file_to_go_on_from(tmp_path):
    run(tiny_cfg(), tmp_path / 'a')
    cfg = tiny_cfg(load_from=str(tmp_path / 'a' / 'epoch_1.pth'), resume=True)
    assert run(cfg, tmp_path / 'b')['iterations'] == 9
    assert min(losses(tmp_path / 'b')) == 4    # three iterations an epoch: the first of the second


def test_without_a_file_it_is_the_last_of_the_work_folder(tmp_path):
    run(tiny_cfg(), tmp_path)
    assert min(losses(tmp_path)) == 1
    assert run(tiny_cfg(load_from=None, resume=True), tmp_path)['iterations'] == 9
