"""The command line's frame: what it prints, where, with which exit status, and what it does not import."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest

import omnidet
from omnidet.cli import main
from omnidet.errors import ConfigError

ROOT = Path(omnidet.__file__).parents[1]


def omnidet_command(*args: str) -> subprocess.CompletedProcess[str]:
    return run_python('-m', 'omnidet', *args)


def run_python(*args: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, 'PYTHONPATH': str(ROOT)}
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, env=env, check=False)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch):
    """Replace the command `demo` by a function of the test's."""
    def replace(run):
        module = types.ModuleType('omnidet.cli.demo')
        module.HELP, module.add_arguments, module.run = 'a test', lambda parser: None, run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, 'omnidet.cli.demo', module)
    return replace


def raising(error: BaseException):
    def run(args):
        raise error
    return run


@pytest.mark.parametrize('code', [
    'import omnidet; omnidet.load_config',
    'from omnidet.cli import main\ntry: main(["--help"])\nexcept SystemExit: pass',
    'from omnidet.cli import main\ntry: main(["train", "--help"])\nexcept SystemExit: pass',
])
def test_what_a_user_waits_for_first_imports_neither_torch_nor_opencv(code):
    heavy = 'import sys\nprint([m for m in ("torch", "cv2", "matplotlib") if m in sys.modules])'
    done = run_python('-c', f'{code}\n{heavy}')
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == '[]'


def test_help_names_every_command_and_an_example():
    done = omnidet_command('--help')
    assert done.returncode == 0
    for name in ('train', 'test', 'predict', 'demo', 'config', 'convert'):
        assert f'\n    {name} ' in done.stdout
    assert 'omnidet train my_config.py' in done.stdout


def test_nothing_asked_is_answered_with_help(capsys):
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 0
    assert 'COMMAND' in capsys.readouterr().out


def test_version_is_the_package_s(capsys):
    with pytest.raises(SystemExit) as stop:
        main(['--version'])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f'omnidet {omnidet.__version__}\n'


@pytest.mark.parametrize(('argv', 'expected'), [
    (['trian', 'a.py'], "there is no command 'trian'; did you mean 'train'?"),
    (['train', 'a.py', '--wrok-dir', 'x'], "there is no argument --wrok-dir; did you mean '--work-dir'?"),
    (['train', 'a.py', '--sed=1'], "there is no argument --sed; did you mean '--seed'?"),
    (['train', 'a.py', 'b.py'], "one argument too many: 'b.py'"),
    (['train'], 'CONFIG'),
    (['convert', 'vocc', 'a', '--out', 'b'], 'vocc'),
])
def test_a_mistyped_command_line_is_answered_with_the_nearest_match(argv, expected, capsys):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith('error: ')
    assert expected in err
    assert '--help` says more' in err


def test_an_error_of_the_user_s_is_printed_without_a_traceback(command, capsys):
    command(raising(ConfigError("model.neck.out_chanels: FPN has no such argument\n  second line")))
    assert main(['demo']) == 2
    assert capsys.readouterr() == ('', 'error: model.neck.out_chanels: FPN has no such argument\n  second line\n')


@pytest.mark.parametrize('argv', [['demo', '--traceback'], ['--traceback', 'demo']])
def test_traceback_shows_where_an_error_arose(argv, command, capsys):
    command(raising(ConfigError('no such thing')))
    assert main(argv) == 2
    err = capsys.readouterr().err
    assert 'Traceback (most recent call last)' in err
    assert 'test_main.py' in err
    assert err.endswith('error: no such thing\n')


def test_a_bug_is_one_line_that_says_how_to_report_it(command, capsys):
    command(raising(IndexError('list index out of range\nand more')))
    assert main(['demo']) == 1
    err = capsys.readouterr().err
    assert err.count('\n') == 1
    assert err.startswith('error: IndexError: list index out of range (this is a bug')
    assert '--traceback' in err


def test_a_full_disk_is_no_bug(command, capsys):
    command(raising(OSError(28, 'No space left on device', 'work_dirs/last.pth')))
    assert main(['demo']) == 2
    assert capsys.readouterr().err == 'error: No space left on device: work_dirs/last.pth\n'


def test_ctrl_c_ends_quietly_with_130(command, capsys):
    command(raising(KeyboardInterrupt()))
    assert main(['demo']) == 130
    assert capsys.readouterr().err.strip() == 'interrupted'


@pytest.mark.skipif(not hasattr(signal, 'SIGPIPE'), reason='pipes that break are a matter of POSIX systems')
def test_a_closed_pipe_ends_without_a_word():
    code = ('import sys, types, omnidet.cli as cli\n'
            'm = types.ModuleType("omnidet.cli.demo"); m.HELP = ""; m.add_arguments = lambda p: None\n'
            'def run(args):\n    for i in range(100000): print("a line of some length", i)\n'
            'm.run = run; sys.modules["omnidet.cli.demo"] = m; sys.exit(cli.main(["demo"]))')
    process = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               env={**os.environ, 'PYTHONPATH': str(ROOT)})
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b''
    process.stderr.close()
    assert process.wait() == 141
