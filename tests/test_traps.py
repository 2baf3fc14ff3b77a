"""Every plausible version that is known to be wrong, and the place in the course where a test kills it."""
import json
import re
from pathlib import Path

import pytest

NBS = Path(__file__).resolve().parent.parent / "nbs"

# part, the wrong version, notebook, heading below which a mutant of it fails a property that ours passes
TRAPS = [
    ("tokens", "reshaped without a transpose", "05_encoder", "The order of the vectors"),
    ("SCFT", "divided by √d after the softmax", "06_scft", "The mutants"),
    ("SCFT", "attention over channels", "06_scft", "The mutants"),
    ("triplet", "distance, or the sign reversed", "10_losses", "Five properties, and every wrong version that we have met"),
    ("triplet", "flattened Q, K, V", "10_losses", "Five properties, and every wrong version that we have met"),
    ("triplet", "values as keys", "10_losses", "Who receives the gradient"),
    ("triplet", "positives at the same position", "10_losses", "Five properties, and every wrong version that we have met"),
    ("triplet", "the warp in the wrong direction", "10_losses", "It follows any warp that we can check by hand"),
    ("triplet", "positions outside the image counted", "10_losses", "Five properties, and every wrong version that we have met"),
    ("triplet", "no hinge, or negatives of another row", "10_losses", "Five properties, and every wrong version that we have met"),
    ("weights", "λ_style of VGG19 on another network", "10_losses", "Weights belong to a network"),
    ("initialisation", "N(0, 0.02) without normalisation", "05_encoder", "Why a norm is needed"),
    ("appearance", "±1, one scalar, grain, wrap-around", "04_augment", "Mutants"),
    ("ground truth", "the clean image as target", "04_augment", "The triple"),
    ("TPS", "kernel between source and destination", "03_tps", "Mutant: the kernel between source and *destination* points"),
    ("TPS", "two points moved, or an affine map", "03_tps", "It bends lines, everywhere, both ways"),
    ("TPS", "control points in another range", "03_tps", "Each control point is read where it was told"),
    ("XDoG", "BGR read as RGB", "02_sketch", "Other hues of the same luma, the same sketch"),
    ("XDoG", "dark regions filled with black", "02_sketch", "Flat regions stay white, dark ones included"),
    ("perceptual, style", "features detached", "10_losses", "Eq. 9: the perceptual loss"),
    ("perceptual", "VGG not frozen, wrong range, run to its end", "10_losses", "VGG19"),
    ("style", "Gram matrix over the batch", "10_losses", "Eq. 10: the style loss"),
    ("adversarial", "fake not detached, G twice a step", "10_losses", "The two steps, and what must not cross"),
    ("adversarial", "fake not detached", "11_train", "The loop, flat"),
    ("adversarial", "sigmoid, then BCE with logits", "08_discriminator", "Scores are raw numbers"),
    ("residual blocks", "all fed with the first input", "07_generator", "Residual blocks"),
    ("checkpoints", "optimisers forgotten", "11_train", "Resume is not another run"),
    ("metrics", "SSIM with one window", "12_evaluate", "Pictures as a whole: PSNR, SSIM, MS-SSIM, LPIPS"),
    ("metrics", "FID over ten images", "13_fid", "**Mutant**: FID over 10 images"),
    ("metrics", "an offline network's distance called FID", "13_fid", "**Mutant**: everything is called FID"),
    ("splits", "by seed instead of by shape", "01_characters", "Splits that do not leak"),
]
ASSERT = re.compile(r"^\s*(assert\b|test_\w+\(|\w*(kills|fails|survives)\w*\()", re.M)


def section(notebook: str, heading: str) -> list:
    "The cells from a heading to the next one of its level or above; of several with this name, all."
    found, level = [], 0
    for cell in json.loads((NBS / f"{notebook}.ipynb").read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            for line in text.splitlines():
                match = re.match(r"(#+) (.*)", line)
                if not match: continue
                if match[2].strip() == heading: level = len(match[1])
                elif level and len(match[1]) <= level: level = 0
        if level: found.append((cell["cell_type"], text))
    return found


@pytest.mark.parametrize("part, wrong, notebook, heading", TRAPS, ids=lambda v: None)
def test_each_trap_has_a_cell_that_kills_it(part, wrong, notebook, heading):
    cells = section(notebook, heading)
    assert cells, f"{notebook} has no section {heading!r}"
    assert any("mutant" in text.lower() for _, text in cells), f"no mutant below {heading!r}"
    assert any(kind == "code" and ASSERT.search(text) for kind, text in cells), f"no assert below {heading!r}"
