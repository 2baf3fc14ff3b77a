"""The weights that the package ships: the numbers in their file are theirs."""
import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch

import refcolor
from refcolor.colorize import default_weights
from refcolor.evaluate import mean_of, measure
from refcolor.generator import load_generator
from refcolor.core import code_digest, load_result, processor
from refcolor.study import ship
from refcolor.study.ship import SHIP_ROOTS, SHIPPED_DATA, UNSEEN_DATA, model_card, recheck_weights, unseen_pairs

FOLDER = Path(refcolor.__file__).parent / "weights" / "small"


@pytest.fixture(scope="module")
def result(): return json.loads((FOLDER / "result.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ("avatars", "dylan"))          # trained on, and never seen
def test_the_table_is_what_the_weights_do(name, result):
    "All pairs of a set again, straight and posed, from the file in the package."
    torch.set_num_threads(1)
    generator, written = load_generator(FOLDER), result["metrics"]["data"][name]
    assert written["n"] == 256
    for source in unseen_pairs(generator.config.size, written["n"])[name]:
        values, _ = measure(generator, source)
        for metric in ("region_error", "region_accuracy", "paper_error", "psnr", "part_attention"):
            key = source.prefix + metric
            # another processor rounds otherwise: a part at the bound of 0.1, a pixel by a grey level
            assert mean_of(values[key]) == pytest.approx(written[key], rel=2e-3, abs=2e-3), key
        for guess in ("copy", "constant"):
            key = f"{guess}_{source.prefix}region_error"
            assert mean_of(values[key]) == pytest.approx(written[key], rel=2e-3, abs=2e-3), key


def test_the_table_has_every_set_and_the_artists_that_no_training_saw(result):
    "And a few pairs of each set are judged as when the table was made."
    assert set(result["metrics"]["data"]) == {*SHIPPED_DATA, *UNSEEN_DATA}
    trained = {name.split(":")[0] for name in ship.SHARES}
    assert trained == set(SHIPPED_DATA) and not trained & set(UNSEEN_DATA)
    torch.set_num_threads(1)
    now = ship.weights_probe(load_generator(FOLDER))["judging"]
    for key, value in result["probe"]["judging"].items(): assert now[key] == pytest.approx(value, rel=2e-3, abs=2e-3), key


def test_the_files_belong_together_and_are_the_default(result):
    weights = FOLDER / "generator.safetensors"
    assert result["metrics"]["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert default_weights() == FOLDER and weights.stat().st_size <= 8e6
    assert (FOLDER / "README.md").read_text(encoding="utf-8") == model_card(result)
    assert json.loads((FOLDER / "preset.json").read_text(encoding="utf-8")) == result["preset"]


def test_a_recheck_judges_the_weights_again_and_stamps_the_card(result, tmp_path, monkeypatch):
    folder = tmp_path / "small"
    shutil.copytree(FOLDER, folder)
    def write(**probe):
        stale = result | {"digest": "0" * 12, "probe": result["probe"] | {"processor": processor()} | probe}
        (folder / "result.json").write_text(json.dumps(stale))
    monkeypatch.setattr(ship, "PROBE_PAIRS", 2)
    write(judging=ship.weights_probe(load_generator(FOLDER))["judging"])
    assert recheck_weights(folder) == "as they were, and current again"
    now = load_result(folder / "result.json")
    assert not now["stale"] and now["digest"] == code_digest(*SHIP_ROOTS) and (folder / "README.md").read_text("utf-8") == model_card(now)
    write(judging={"avatars_psnr": 1.})
    assert recheck_weights(folder) == "different today: --again runs them anew" and load_result(folder / "result.json")["stale"]
