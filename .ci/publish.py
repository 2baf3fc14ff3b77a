"""Copy a finished demo run to where readers and users find it: python .ci/publish.py RUN [--weights]"""
import json
import shutil
import sys
from pathlib import Path

from PIL import Image
from safetensors.torch import load_file, save_file

from refcolor.show import save_figure, titled_sheet

ROOT = Path(__file__).resolve().parent.parent


def film(samples: Path, early=(0, 100, 500)):
    "Two held-out pairs on their way from the first step to the last: a matplotlib figure."
    steps = *early, max(int(p.stem[5:]) for p in samples.glob("step-*.png"))
    strips = [Image.open(samples / f"step-{step:06d}.png") for step in steps]
    side = (strips[0].width + 2) // 4                      # a picture and the gap of `image_rows`
    column = lambda strip, k: strip.crop((k * side, 0, (k + 1) * side, 2 * side))
    columns = [column(strips[0], 0), column(strips[0], 1),
               *(column(strip, 2) for strip in strips), column(strips[0], 3)]
    sheet = Image.new("RGB", (7 * side, 2 * side), "white")
    for k, picture in enumerate(columns):
        sheet.paste(picture, (k * side, 0))
    # what a crop takes from beyond the strip is black
    sheet = sheet.crop((0, 0, sheet.width - 2, sheet.height - 2))
    return titled_sheet(sheet.resize((sheet.width * 2, sheet.height * 2), 0),
                        ("sketch", "reference", *(f"step {step:,}" for step in steps), "true answer"))


def main(run: Path, weights_too: bool):
    "Results and pictures into nbs/; if asked for, the averaged weights, in half precision, into the package."
    (ROOT / "nbs/results").mkdir(exist_ok=True)
    shutil.copy(run / "result.json", ROOT / "nbs/results/demo.json")
    for name in ("demo", "attention", "losses"): shutil.copy(run / f"{name}.png", ROOT / "nbs/images")
    save_figure(film(run / "samples"), ROOT / "nbs/images/film.png")
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
