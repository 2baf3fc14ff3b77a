"""Run notebooks in place and clean them: python .ci/notebooks.py [nbs/NAME.ipynb ...]"""
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

os.environ |= {"REFCOLOR_PROGRESS": "0", "ACCELERATE_TORCH_DEVICE": "cpu"}      # outputs of the processor
ROOT = Path(__file__).resolve().parent.parent


def execute(path: Path):
    nb = nbformat.read(path, 4)
    start = time.monotonic()
    gpu = [c for c in nb.cells if c.cell_type == "code" and re.search(r"^#\|\s*(gpu|eval:\s*false)", c.source, re.M)]
    kept = [(c, c.source, c.outputs) for c in gpu]
    for c in gpu: c.source = ""                            # keeps the outputs of cells that do not run here
    NotebookClient(nb, timeout=300, kernel_name="python3", store_widget_state=False,
                   resources={"metadata": {"path": str(path.parent)}}).execute()
    for c, source, outputs in kept: c.source, c.outputs = source, outputs
    nbformat.write(nb, path)
    print(f"{path.relative_to(ROOT)}: {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    paths = [Path(p).resolve() for p in sys.argv[1:]] or sorted(
        p for p in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
    for p in paths:
        execute(p)
        subprocess.run([Path(sys.executable).with_name("nbdev_clean"), "--fname", p], cwd=ROOT, check=True)
