"""The examples and the README's Python run as they stand."""

import re
import subprocess
import sys
from pathlib import Path

import spikeloop
from spikeloop.bridges.host_process import HostProcess

ROOT = Path(__file__).parents[1]


def run(*command, cwd):
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=200, cwd=cwd)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def test_closed_loop(tmp_path):
    assert "cartpole: return 500" in run(ROOT / "examples" / "closed_loop.py", cwd=tmp_path)


def test_own_network(tmp_path):
    assert "200 of 200 actions, 0 spike trains differ" in run(ROOT / "examples" / "own_network.py", cwd=tmp_path)
    assert spikeloop.load(tmp_path / "by-hand.spk").name == "by hand"


def test_remote_agent(tmp_path):
    with HostProcess(spikeloop.load("mountaincar"), "nest-exact") as host:
        said = run(ROOT / "examples" / "remote_agent.py", host.address, cwd=tmp_path)
    assert "mountaincar on nest-exact" in said
    assert float(said.split("return")[1]) >= -130


def test_the_readme_s_python(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        run("-c", block, cwd=tmp_path)
