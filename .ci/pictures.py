"""Make the README's picture of a scan that is coloured: python .ci/pictures.py"""
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from refcolor.data.characters import character_svg, line_art, palette_of, rasterize
from refcolor.show import image_rows, save_figure, titled_sheet, to_tensor

ROOT = Path(__file__).resolve().parent.parent
ARTIST, SHAPE, PALETTE, SIDE = "big-ears", 4011, 4025, 512     # an artist that no training saw


def scan(lines: np.ndarray) -> Image.Image:
    "Lines (h, w) as a blue pencil on yellowish paper, lit from the left and turned a little."
    h, w = lines.shape
    light = np.linspace(1, .72, w)[None, :, None] * np.array([.98, .94, .82])
    ink = 1 - (1 - lines[..., None] / 255) * np.array([.75, .65, .35])
    grain = np.random.default_rng(0).normal(0, .012, (h, w, 1))
    page = np.clip(light * ink + grain, 0, 1)
    return Image.fromarray((page * 255).astype(np.uint8))


def main(out: Path):
    "Scan, reference, soft, flat, and flat with one region painted."
    folder = Path(tempfile.mkdtemp())
    scan(line_art(ARTIST, SHAPE, SIDE)).save(folder / "scan.png")
    colours = Image.fromarray(rasterize(character_svg(ARTIST, PALETTE, palette_of(ARTIST, PALETTE)), SIDE))
    colours.rotate(-14, fillcolor="white").save(folder / "reference.png")
    for name, options in (("soft", ()), ("flat", ("--flat",)), ("hint", ("--flat", "--hint", str(SIDE // 2), str(SIDE // 4), "#7a3fb0"))):
        command = [sys.executable, "-m", "refcolor", "colorize", "--sketch", "scan.png", "--reference", "reference.png", "--out", f"{name}.png"]
        subprocess.run([*command, *options], cwd=folder, check=True)
    names = ("scan", "reference", "soft", "flat", "hint")
    small = [to_tensor(Image.open(folder / f"{n}.png").convert("RGB").resize((192, 192), Image.Resampling.LANCZOS))[0] for n in names]
    save_figure(titled_sheet(image_rows([small], gap=6), ("your scan", "your reference", "refcolor colorize", "--flat", "one hint")), out, dpi=100)


if __name__ == "__main__": main(ROOT / "nbs" / "images" / "colorize.png")
