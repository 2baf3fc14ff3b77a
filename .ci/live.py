"""Hooks of mkdocs: the pages under try/, which run the network in the browser. npm brings the runtime; without it they
say so."""
import hashlib
import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import torch
from mkdocs.plugins import get_plugin_logger
from PIL import Image

from refcolor.app.colouring import encoded
from refcolor.app.export import export_page
from refcolor.attention import heat_colours
from refcolor.colorize import default_weights
from refcolor.data.characters import line_art, true_answers
from refcolor.data.datasets import open_dataset
from refcolor.data.styles import attribution
from refcolor.core import write_atomically
from refcolor.generator import load_generator
from refcolor.show import to_image

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / ".ci" / "node_modules" / "onnxruntime-web" / "dist"
RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
CACHE = ROOT / ".cache" / "try"
# artist -> indices of validation drawings; the first sketch and the first reference are shown at the start
SKETCHES = {"avatars": (6, 0, 2, 9, 12, 21), "adventurer": (0, 2), "personas": (1, 3)}
REFERENCES = {"avatars": (18, 3, 5, 11, 19, 27), "adventurer": (1, 3), "personas": (0, 2)}
log = get_plugin_logger("try")


@cache
def runtime() -> bool:
    "Whether onnxruntime-web is here; npm is asked for it once."
    if all((DIST / name).exists() for name in RUNTIME): return True
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--silent"]
    try: done = subprocess.run(command, cwd=ROOT / ".ci", capture_output=True, text=True)
    except FileNotFoundError: reason = "there is no npm"
    else:
        if done.returncode == 0: return True
        reason = "npm does not get onnxruntime-web: " + " ".join(done.stderr.split())[:200]
    log.info(f"the pages that run in the browser are left out: {reason}")
    return False


def network() -> Path:
    "The shipped weights as the pages run them, exported again only when they or the export change."
    weights, (export,) = default_weights(), [ROOT / "refcolor" / "app" / "export.py"]
    key = hashlib.sha256(torch.__version__.encode())
    for path in (weights / "generator.safetensors", weights / "preset.json", export): key.update(path.read_bytes())
    path = CACHE / f"network-{key.hexdigest()[:16]}.onnx"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda part: export_page(load_generator(weights), part))
    return path


def credit(artist: str) -> str:
    title, name, licence = re.search(r"„(.+?)” .*? by „(.+?)”.*?„(.+?)”", attribution(artist)).groups()
    return f"{artist}: {title} by {name}, {licence}"


def gallery(out: Path):
    "Write sketches, references, and the true answers of those who share an artist, as PNG files; gallery.json names them."
    model = load_generator(default_weights()).config
    (folder := out / "pictures").mkdir(exist_ok=True)
    found = {"size": model.size, "positions": model.positions, "heat": heat_colours().tolist(), "truths": {},
             "order": torch.randperm(model.positions ** 2, generator=torch.Generator().manual_seed(0)).tolist(),
             "sketch": [], "reference": []}
    def write(name, image):
        (folder / name).write_bytes(encoded(image))
        return f"pictures/{name}"
    for artist, indices in SKETCHES.items():
        people = open_dataset(artist, split="valid", size=model.size, n=32 if artist == "avatars" else 8)
        for i in indices:
            large = line_art(artist, people.seeds[i], 512)
            found["sketch"].append({
                "name": f"{artist} {i}", "artist": credit(artist),
                "file": write(f"sketch-{artist}-{i}.png", to_image(people.batch([i]).sketch)),
                "large": write(f"lines-{artist}-{i}.png", Image.fromarray(large))})
        for j in REFERENCES[artist]:
            file = write(f"reference-{artist}-{j}.png", to_image(people.batch([j]).image))
            found["reference"].append({"name": f"{artist} {j}", "file": file, "artist": credit(artist)})
            for i, answer in zip(indices, true_answers(people, indices, [j] * len(indices))):
                found["truths"][f"pictures/sketch-{artist}-{i}.png|{file}"] = write(f"truth-{artist}-{i}-{j}.png", to_image(answer))
    (out / "gallery.json").write_text(json.dumps(found))


def on_page_markdown(markdown, page, config, files):
    if page.file.src_uri != "try.md" or runtime(): return markdown
    return markdown.partition("\n\n")[0] + ("\n\nThis site was built without npm, which brings the runtime that this page needs. "
                                            "Install it and build again: `make docs`.\n")


def on_post_build(config):
    out = Path(config.site_dir) / "try"
    for name in ("explorer.js", "explorer.css", "colour.js", "colour.css"): shutil.copy(ROOT / "refcolor" / "app" / name, out)
    gallery(out)                                         # the twins of the lessons' widgets show some of it, too
    if not runtime(): return
    for name in RUNTIME: shutil.copy(DIST / name, out)
    shutil.copy(network(), out / "network.onnx")
