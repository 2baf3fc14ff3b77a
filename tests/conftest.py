"""Fixtures of all tests."""
import subprocess
import sys
from pathlib import Path

import pytest
import torch


# several only spin in vain where other tests run beside; from here on, so that a module's fixtures have no more: another
# number rounds otherwise
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def one_thread():
    "Whatever a test did."
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    "The documentation, built once for all who look at it."
    site = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", site]
    done = subprocess.run(command, cwd=Path(__file__).resolve().parent.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return site
