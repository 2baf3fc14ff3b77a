"""A few drawn pictures in the on-disk form of each data set: folder depths, file names, annotation fields."""
import json
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from refcolor.data.characters import _draw


def _store(
    root: Path,
    files: dict,   # path below root -> PIL image, text, or what JSON can hold
):
    "Write files, making their folders."
    for name, content in files.items():
        path = Path(root) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Image.Image): content.save(path, quality=95)
        else: path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")


@lru_cache
def _example_characters(n: int) -> list:
    "PIL pictures, PIL drawings and part maps of characters, 112×96 pixels."
    drawn = [_draw("avatars", seed, 96) for seed in range(n)]
    def wide(array, mode):
        sheet = Image.new(mode, (112, 96), "white")
        sheet.paste(Image.fromarray(array), (8, 0))
        return sheet
    return [(wide(i.transpose(1, 2, 0), "RGB"), wide(l[0], "L"), p) for i, l, p in drawn]


def _example_pair(k: int, a: int, b: int, parts: list, category: str) -> dict:
    "A PairAnnotation: the centres of hair, skin and shirt of two characters correspond."
    def centre(i, label):
        y, x = np.nonzero(parts[i] == label)
        return [int(x.mean()) + 8, int(y.mean())]
    labels = [label for label in (2, 3, 4) if all((parts[i] == label).any() for i in (a, b))]
    d = {"pair_id": k, "filename": f"{k:06}-2008_{a:06}-2008_{b:06}:{category}",
         "category": category, "kps_ids": [str(label - 2) for label in labels], "mirror": 0,
         "viewpoint_variation": 0, "scale_variation": 0, "truncation": 0, "occlusion": 0}
    for side, i in (("src", a), ("trg", b)):
        d |= {f"{side}_imname": f"2008_{i:06}.jpg", f"{side}_imsize": [112, 96, 3],
              f"{side}_bndbox": [8, 0, 104, 96], f"{side}_pose": "Unspecified",
              f"{side}_kps": [centre(i, label) for label in labels]}
    return d


def _example_spair71k(pictures: list) -> dict:
    files, k = {}, 0
    cut = [0, len(pictures) // 2, len(pictures) * 3 // 4, len(pictures)]
    for category in ("cat", "dog", "car"):
        pictures = pictures[3:] + pictures[:3]
        parts = [p for _, _, p in pictures]
        for part, low, high in zip(("trn", "val", "test"), cut, cut[1:]):
            for a, b in zip(range(low, high - 1), range(low + 1, high)):
                k += 1
                pair = _example_pair(k, a, b, parts, category)
                files[f"PairAnnotation/{part}/{pair['filename']}.json"] = pair
        files |= {f"JPEGImages/{category}/2008_{i:06}.jpg": x[0] for i, x in enumerate(pictures)}
    return {f"SPair-71k/{path}": content for path, content in files.items()}


def _example_edges2shoes(pictures: list) -> dict:
    files = {}
    for i, (image, line, _) in enumerate(pictures):
        pair = Image.new("RGB", (512, 256))
        pair.paste(line.resize((256, 256)).convert("RGB"), (0, 0))
        pair.paste(image.resize((256, 256)), (256, 0))
        files[f"edges2shoes/{'val' if i % 4 == 3 else 'train'}/{i + 1}_AB.jpg"] = pair
    return files


def _example_tag2pix(pictures: list) -> dict:
    files, tags = {}, []
    for i, (image, line, _) in enumerate(pictures):
        rgb, sketch = ("benchmark", "keras_test") if i % 4 == 3 else ("rgb_train", "keras_train")
        files |= {f"{rgb}/{263167 + i}.png": image, f"{sketch}/{263167 + i}.png": line}
        tags.append(f"{263167 + i} 470575 464575 16867 89189")
        if rgb == "rgb_train":                                  # a face, cut out
            box = (24, 8, 88, 72)
            files |= {f"rgb_train/-{263167 + i}.png": image.crop(box),
                      f"xdog_train/-{263167 + i}.png": line.crop(box)}
            tags.append(f"-{263167 + i} 16867 89189")
    return files | {"tags.txt": "\n".join(tags) + "\n"}


def _example_celeba(pictures: list) -> dict:
    names = [f"{i + 1:06}.jpg" for i in range(len(pictures))]
    files = {f"img_align_celeba/{n}": x[0].resize((178, 218)) for n, x in zip(names, pictures)}
    split = [f"{n} {(i % 4) // 2 + (i % 4 == 3)}" for i, n in enumerate(names)]
    return files | {"list_eval_partition.txt": "\n".join(split) + "\n"}


def _example_imagenet(pictures: list) -> dict:
    wnids = ("n01440764", "n02123045")
    return {f"train/{w}/{w}_{i + 1}.JPEG": x[0] for w in wnids for i, x in enumerate(pictures)} | {
        f"val/{wnids[i % 2]}/ILSVRC2012_val_{i + 1:08}.JPEG": x[0] for i, x in enumerate(pictures)}


def _example_yumi(pictures: list) -> dict:
    return {f"{i // 4 + 1:03}/{i % 4 + 1:02}.jpg": x[0] for i, x in enumerate(pictures)}


def _example_folder(pictures: list) -> dict:
    return {f"pictures/{i}.png": x[0] for i, x in enumerate(pictures)} | {
        f"sketches/{i}.png": x[1] for i, x in enumerate(pictures)}


EXAMPLES = dict(imagenet=_example_imagenet, celeba=_example_celeba, tag2pix=_example_tag2pix,
                yumi=_example_yumi, spair71k=_example_spair71k, edges2shoes=_example_edges2shoes,
                folder=_example_folder)


def write_example(
    name: str,     # one of `DESCRIPTIONS`
    root: Path,    # an empty folder, or a new one
    n: int = 24,   # characters to make it from
):
    "A few drawn pictures in the on-disk form of a data set, to try a loader with."
    _store(root, EXAMPLES[name](_example_characters(n)))
