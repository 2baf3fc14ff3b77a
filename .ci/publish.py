"""Copy a finished demo run to where readers and users find it: python .ci/publish.py RUN [--weights]"""
import json
import shutil
import sys
from pathlib import Path

from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parent.parent


def main(run: Path, weights_too: bool):
    "Results and pictures into nbs/; if asked for, the averaged weights, in half precision, into the package."
    (ROOT / "nbs/results").mkdir(exist_ok=True)
    shutil.copy(run / "result.json", ROOT / "nbs/results/demo.json")
    for name in ("demo", "attention", "losses"): shutil.copy(run / f"{name}.png", ROOT / "nbs/images")
    if not weights_too: return
    weights = ROOT / "refcolor/weights/tiny"
    weights.mkdir(parents=True, exist_ok=True)
    half = {k: v.half().contiguous() for k, v in load_file(run / "last/generator.safetensors").items()}
    save_file(half, weights / "generator.safetensors")
    (weights / "generator.safetensors").chmod(0o644)
    shutil.copy(run / "last/preset.json", weights)
    # what was measured for these weights goes wherever they go
    shutil.copy(run / "result.json", weights)


if __name__ == "__main__": main(Path(sys.argv[1]), "--weights" in sys.argv)
