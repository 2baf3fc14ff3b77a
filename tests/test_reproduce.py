"""Experiments that can be trusted: rows that differ as they say, runs that survive, results that know what they are."""
import io
import json
import math
import os
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from refcolor.augment import noise_size, spatial_transform
from refcolor.app.cli import main
from refcolor.core import DataConfig, PRESETS, TINY, UserError, code_digest, save_result, uniform, with_recipe
from refcolor.show import to_image
from refcolor.data.characters import DEFAULT_N, emoji_code, emoji_groups, shape_key
from refcolor.data.datasets import open_dataset
from refcolor.data.pictures import Samples
from refcolor.data.pairs import CrossReference
from refcolor import evaluate, train
from refcolor.data import pairs as data_pairs
from refcolor.evaluate import mean_of, region_means
from refcolor.fid import frechet_from_features
from refcolor.losses import generator_losses
from refcolor.triplet import correspondence, triplet_loss
from refcolor.data.pairs import BentReference, EmojiPeople, Posed, Subset
from refcolor.study import rows, runs, ship, statistics, tables
from refcolor.study.rows import (EXPERIMENTS, MUTANTS, PAIRED, ROOTS, ROWS, Study,
                                 attention_entropy, finished, row_status, wrong_loss)
from refcolor.study.runs import run_rows, same_probe
from refcolor.study.ship import Mixed
from refcolor.study.statistics import difference
from refcolor.study.tables import table_of
from refcolor.scft import SCFT
from refcolor.sketch import xdog
from refcolor.tps import pixel_centres
from refcolor.train import Learner, faded_lambdas

STEPS = 4                                       # then a checkpoint and a line of the curve come after each step
# small networks, few pictures: a row takes two seconds
LITTLE = replace(TINY, model=replace(TINY.model, size=32, positions=8, channels=(4, 4, 8, 8, 8, 8), bottleneck=16, disc_channels=(8, 8, 8)),
                 data=replace(TINY.data, characters=64), train=replace(TINY.train, batch=2))
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "REFCOLOR_PROGRESS": "0"}
RESULTS = Path(__file__).parents[1] / "nbs" / "results"


JUDGING, JUDGED = runs.judging_probe, {}


def judged_once(study, name, datasets):
    "Fixed weights are judged once on a set, not with every row: it takes longer than to train one."
    key = study.on or study.data, ROWS[name].untrained, len(datasets["test"])
    if key not in JUDGED: JUDGED[key] = JUDGING(study, name, datasets)
    return JUDGED[key]


@pytest.fixture(scope="module", autouse=True)
def little():
    "TINY is LITTLE here, for the command line, too."
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "TINY", LITTLE)
        for split in ("valid", "test"): patch.setitem(DEFAULT_N, split, 16)
        for name in ("PROBE_STEPS", "PROBE_PAIRS"): patch.setattr(runs, name, 2)
        patch.setattr(runs, "judging_probe", judged_once)
        torch.set_num_threads(1)
        yield


def command(folder, *more, seeds=1):
    where = ["--results", f"{folder}/results", "--runs", f"{folder}/runs", "--device", "cpu"]        # the same bits each time
    return ["reproduce", "triplet", "--seeds", str(seeds), "--steps", str(STEPS), *where, *more]


def study_in(folder, **changes): return Study(LITTLE, results=folder / "results", runs=folder / "runs", **{"steps": STEPS} | changes)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    "Two rows, run by the command."
    folder, out = tmp_path_factory.mktemp("trained"), io.StringIO()
    with redirect_stdout(out): code = main(command(folder, "--rows", "no_tr,same_place", "--json"))
    return SimpleNamespace(folder=folder, study=study_in(folder), code=code, out=out.getvalue())


@pytest.fixture
def copied(trained, tmp_path):
    "The two rows, to be spoiled."
    shutil.copytree(trained.folder, tmp_path / "copy")
    return study_in(tmp_path / "copy")


@pytest.fixture
def no_training(monkeypatch):
    def fit(*_, **__): raise AssertionError("something was trained")
    monkeypatch.setattr(Learner, "fit", fit)


@pytest.fixture
def steps(monkeypatch):
    "The steps that are computed, counted from 0; a probe's are not."
    seen, step = [], Learner.step
    monkeypatch.setattr(Learner, "step", lambda self, *a, **k: (seen.append(self.steps_done) if self.out else None, step(self, *a, **k))[1])
    return seen


def strict(path):
    "JSON without NaN, which is none."
    def no(word): raise ValueError(f"{path}: {word}")
    return json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=no)


def contents(*folders): return {p: p.read_bytes() for folder in folders for p in Path(folder).rglob("*") if p.is_file()}


def mend(path, change):
    "Change a result file."
    result = strict(path)
    change(result)
    path.write_text(json.dumps(result))


def without_seconds(path):
    metrics = strict(path)["metrics"]
    return metrics | {"curve": [{k: v for k, v in line.items() if k != "seconds"} for line in metrics["curve"]]}


# Rows

def test_every_row_differs_from_the_base_and_from_every_other():
    study = Study(TINY)
    assert {name for names in EXPERIMENTS.values() for name in names} == set(ROWS)
    assert {"no_tr", "full", "fade", "same_place", "margin3", "flattened", "reversed"} <= set(EXPERIMENTS["triplet"])
    trained = {name: row for name, row in ROWS.items() if not row.untrained}
    assert {row.untrained for row in ROWS.values()} - {""} == set(rows.UNTRAINED)
    assert all(study.row_preset(name) == study.row_preset("full") for name in ROWS.keys() - trained.keys())
    kinds = {name: (study.row_preset(name), ROWS[name].mutant, ROWS[name].extra) for name in trained}
    assert len(set(kinds.values())) == len(trained), "two rows train the same"
    tiny = replace(TINY, train=replace(TINY.train, steps=study.row_preset("full").train.steps))
    base = {"paper": with_recipe(tiny, "paper"), "posed": replace(tiny, data=replace(tiny.data, cross=0.))}
    assert kinds["cross"] == (tiny, "", "") and kinds["full"] == (base["paper"], "", "") and kinds["posed"] == (base["posed"], "", "")
    for name, (preset, mutant, extra) in kinds.items():
        same = name in ("full", "posed") or bool(mutant or extra)                   # these differ in L_tr or in the extra alone
        assert (preset == base[ROWS[name].recipe]) == same, name
        assert mutant in ("", *MUTANTS) and extra in ("", "gram", "shuffle"), name
        assert preset.name == "TINY" and preset.train.batch == TINY.train.batch, name
    assert len({row.title for row in ROWS.values()}) == len(ROWS)


# which terms of Eq. 11 a row is without
WITHOUT = {"no_tr": "tr", "no_tr_long": "tr", "posed_no_tr": "tr", "posed_no_tr_long": "tr", "rec_adv": "tr perc style", "rec_adv_perc": "tr style", "no_rec": "rec", "no_adv": "adv", "no_adv_long": "adv",
           "no_perc": "perc", "no_style": "style"}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_leaves_out_the_terms_that_it_names_and_no_other(name):
    weights, full = (faded_lambdas(p.train, 0, "lite0") for p in (Study(TINY).row_preset(name), TINY))
    assert {k for k, v in weights.items() if v == 0} == set(WITHOUT.get(name, "").split())
    changed = {k: v for k, v in weights.items() if v not in (0, full[k])}
    assert changed == ({"perc": 0.01, "style": 50.} if name == "lambdas" else {})


def test_rows_change_what_their_titles_say():
    row = lambda name, **changes: Study(TINY, **changes).row_preset(name)
    assert row("full").train.steps == rows.ROW_STEPS["TINY"] and row("full", steps=7).train.steps == 7
    assert replace(row("no_tr_long", steps=7), train=replace(row("no_tr_long", steps=7).train, steps=7)) == row("no_tr", steps=7)
    assert row("no_tr_long", steps=7).train.steps == 21
    small = replace(TINY, name="SMALL")
    assert Study(small).row_preset("full").train.steps == small.train.steps         # only TINY's is chosen for the clock
    fade = row("fade").train
    shares = [faded_lambdas(fade, round(fade.steps * share), "lite0")["tr"] for share in (0, 0.25, 0.5, 1)]
    assert shares == pytest.approx([1, 0.5, 0, 0])
    assert row("margin3").train.margin == 3 and row("positions8").model.positions == 8
    # the paper's warp is ±0.15 of the side, its appearance ±50 grey levels: the rows are shares of these
    assert row("warp05").data.warp / TINY.data.warp == pytest.approx(0.05 / 0.15)
    assert row("warp25").data.warp / TINY.data.warp == pytest.approx(0.25 / 0.15)
    assert row("black").data.padding == "black" != TINY.data.padding and row("raw").train.ema == 0 < TINY.train.ema
    assert row("wide").model.bottleneck == 0 < TINY.model.bottleneck
    assert row("aligned").data == replace(TINY.data, recipe="paper") and row("aligned").train == row("cross").train
    assert [row(name).data.cross for name in ("posed", "cross", "cross_only")] == [0, 0.5, 1]
    assert row("posed_margin12").train.margin == 12 and row("posed").train.margin == row("aligned").train.margin == 3
    assert [row(f"bare_{x}").model.bare for x in ("reference", "decoder", "both")] == [("reference",), ("decoder",), ("reference", "decoder")]
    assert row("appearance1").data.appearance / TINY.data.appearance == pytest.approx(1 / 50) and row("appearance0").data.appearance == 0


def test_no_two_results_share_a_file():
    other = replace(LITTLE, name="SMALL")
    studies = [Study(LITTLE), Study(other), Study(LITTLE, "adventurer"), Study(LITTLE, "spair71k:cat,dog"), Study(LITTLE, "spair71k:cat")]
    paths = [s.path(name, seed) for s in studies for name in ROWS for seed in range(12)]
    assert len({str(p).lower() for p in paths}) == len(paths)
    assert all(p.parent == Path("nbs/results") and not set(p.name) & set(":,/ ") for p in paths)


# Runs

def test_the_command_writes_what_a_row_is_and_says_it_as_json(trained):
    assert trained.code == 0
    said = json.loads(trained.out)                                         # one object, and nothing else
    assert said["rows"] == {"no_tr": "1 seed", "same_place": "1 seed"}
    files = {p.name for p in trained.study.results.iterdir()}
    assert files == {f"tiny-avatars-{name}" for name in ("no_tr-0.json", "same_place-0.json", "no_tr-0.png", "same_place-0.png", "pairs-0.png")}
    for name in ("no_tr", "same_place"):
        result, run = strict(trained.study.path(name, 0)), next(trained.study.runs.glob(f"*-{name}-0-*/"))
        m = result["metrics"]
        assert result["command"] == f"refcolor reproduce triplet --preset TINY --steps {STEPS} --seeds 1" and result["seconds"] > 0
        assert set(PAIRED) == set(m["pairs"]) and m["mutant"] == ROWS[name].mutant and m["precision"] == "fp32"
        assert [line["step"] for line in m["curve"]] == list(range(STEPS + 1))
        assert {"region_error", "psnr", "self_psnr", "correspondence", "entropy", "conflict_reference", "seconds"} <= set(m["curve"][0])
        assert (run / "generator.safetensors").exists() and not list(run.glob("step-*")), "weights to use, and no state to go on"


def test_the_paired_values_are_those_of_the_mean(trained):
    "In the order of the pairs, parts as columns: their mean is the metric."
    m = strict(trained.study.path("no_tr", 0))["metrics"]
    for metric in PAIRED:
        values = np.array(m["pairs"][metric], dtype=float)
        assert values.shape == (16, 3 if metric.endswith(("region_error", "part_attention")) else 1), metric
        if m[metric] is not None: assert mean_of(values) == pytest.approx(m[metric], abs=1e-4), metric
    hair = statistics.paired_values([{"metrics": m}], "region_error_hair")
    assert hair.shape == (1, 16, 1) and mean_of(hair[0]) == pytest.approx(m["region_error_hair"], abs=1e-4)
    with pytest.raises(KeyError): statistics.paired_values([{"metrics": m}], "region_error_nose")


def test_a_mutant_is_what_its_row_trains_with_on_the_same_data(trained):
    first = {}
    for name in ("no_tr", "same_place"):
        log = next(trained.study.runs.glob(f"*-{name}-0-*/")) / "metrics.jsonl"
        first[name] = json.loads(log.read_text().splitlines()[0])
    right, wrong = first["no_tr"], first["same_place"]
    assert right["loss/rec"] == wrong["loss/rec"] and right["loss/perc"] == wrong["loss/perc"]      # same weights, same batch
    assert abs(right["loss/tr"] - wrong["loss/tr"]) > 1e-3


def test_a_finished_row_is_not_run_again(trained, no_training, capsys):
    before = contents(trained.folder)
    times = {p: p.stat().st_mtime_ns for p in before if "-triplet-" not in p.name}        # the table's picture is put together anew
    assert main(command(trained.folder, "--rows", "no_tr,same_place")) == 0
    assert main(command(trained.folder, "--rows", "no_tr,same_place", "--again")) == 0            # --again is for stale ones
    assert contents(trained.folder) == before and times == {p: p.stat().st_mtime_ns for p in times}
    assert "2 have a result, 0 to do" in capsys.readouterr().err


# Two lives of a row, each ended by SIGKILL after a step, before the checkpoint of that step; argument: folder.
LIVES = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[2])
import test_reproduce as t
import dicebear, torchmetrics, torch._dynamo           # once for both lives
t.PRESETS["TINY"] = t.LITTLE
t.DEFAULT_N.update(valid=16, test=16)
folder, after_step = Path(sys.argv[1]), t.rows.ValidationCurve.after_step
for last in (1, 3):
    if not (life := os.fork()):
        def after(self, learner, log):
            after_step(self, learner, log)
            if learner.steps_done == last: os.kill(os.getpid(), signal.SIGKILL)
        t.rows.ValidationCurve.after_step = after
        t.main(t.command(folder, "--rows", "no_tr"))
        os._exit(1)
    _, status = os.waitpid(life, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL, status
    print(sorted(p.name for p in (folder / "runs").glob("*/step-*")), list((folder / "results").glob("*")))
"""


def test_a_row_killed_twice_ends_like_one_never_killed(trained, tmp_path, steps):
    "Once before its first checkpoint, once after it; what comes after a checkpoint is computed again, and nothing else."
    lives = [sys.executable, "-c", LIVES, str(tmp_path), str(Path(__file__).parent)]
    process = subprocess.run(lives, env=ONE_THREAD, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines() == ["[] []", "['step-1', 'step-2'] []"], process.stderr
    assert main(command(tmp_path, "--rows", "no_tr")) == 0
    assert steps == [2, 3]
    killed, whole = (without_seconds(s.path("no_tr", 0)) for s in (study_in(tmp_path), trained.study))
    assert killed["curve"] == whole["curve"]                         # no line lost, none twice
    assert killed["region_error"] == whole["region_error"] and killed["psnr"] == whole["psnr"]
    assert killed == whole
    seconds = [line["seconds"] for line in strict(study_in(tmp_path).path("no_tr", 0))["metrics"]["curve"]]
    assert seconds == sorted(seconds) and seconds[0] == 0 < seconds[-1], "the time of the earlier lives counts"


def test_a_row_stopped_after_its_training_is_only_judged_again(trained, tmp_path, steps, monkeypatch):
    def stop(*_): raise KeyboardInterrupt
    with monkeypatch.context() as patch:
        patch.setattr(runs, "judge_row", stop)
        assert main(command(tmp_path, "--rows", "no_tr")) == 130
    assert len(steps) == STEPS and not list((tmp_path / "results").glob("*"))
    assert main(command(tmp_path, "--rows", "no_tr")) == 0
    assert len(steps) == STEPS and without_seconds(study_in(tmp_path).path("no_tr", 0)) == without_seconds(trained.study.path("no_tr", 0))


def test_a_row_that_diverges_is_reported_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(ROWS, "margin3", replace(ROWS["margin3"], train=dict(lr_g=1e30)))
    study = study_in(tmp_path)
    assert main(command(tmp_path, "--rows", "margin3,fade")) == 0
    err, result = capsys.readouterr().err, strict(study.path("margin3", 0))
    assert "diverged: step 1" in err
    assert result["metrics"]["diverged"].startswith("step 1: ") and "curve" in result["metrics"] and "region_error" not in result["metrics"]
    assert row_status(study, "margin3", range(1)).startswith("1 diverged (step 1: ") and row_status(study, "fade", range(1)) == "1 seed"
    assert finished(study, "margin3", range(1)) == {} and set(finished(study, "fade", range(1))) == {0}
    table = {row[0]: row for row in table_of(study, ["margin3", "fade"], seeds=range(1))}
    assert "diverged" in table[ROWS["margin3"].title][-1] and set(table[ROWS["margin3"].title][1:-2]) == {"–"}
    assert "–" not in table[ROWS["fade"].title][1:3]
    assert any(ROWS["margin3"].title in line and "1 diverged" in line for line in err.splitlines())     # in the terminal, too
    before = contents(study.results)
    monkeypatch.setattr(Learner, "fit", None)                                                   # nothing is trained any more
    assert main(command(tmp_path, "--rows", "margin3,fade")) == 0
    assert contents(study.results) == before


# Results of other code, of another preset

def other_digest(study): mend(study.path("same_place", 0), lambda r: r.update(digest="000000000000"))
def other_preset(study): mend(study.path("same_place", 0), lambda r: r["preset"]["train"].update(lr_g=1e-3))
def other_steps(study): mend(study.path("same_place", 0), lambda r: r["preset"]["train"].update(steps=800))
def other_mutant(study): mend(study.path("same_place", 0), lambda r: r["metrics"].update(mutant="reversed"))
def other_extra(study): mend(study.path("same_place", 0), lambda r: r["metrics"].update(extra="gram"))


@pytest.mark.parametrize("change", [other_digest, other_preset, other_steps, other_mutant, other_extra])
def test_a_stale_result_does_not_count_and_is_kept(change, copied, no_training):
    change(copied)
    before, said = contents(copied.results), []
    assert copied.load("same_place", 0)["status"] == "stale" and row_status(copied, "same_place", range(1)) == "1 stale"
    assert finished(copied, "same_place", range(1)) == {} and set(finished(copied, "no_tr", range(1))) == {0}
    assert table_of(copied, ["same_place"], seeds=range(1))[1][1:] == (*"–" * 7, "1 stale")
    assert difference(copied, "same_place", "no_tr", "psnr", range(1)) is None
    run_rows(copied, ["no_tr", "same_place"], 1, "x", tell=said.append)
    assert contents(copied.results) == before and any("--again" in line for line in said)


def test_a_result_from_before_there_were_extras_counts(copied):
    "What it does not say had the value that is the default today."
    def older(result):
        del result["metrics"]["extra"]
        for field in ("recipe", "cross", "wear"): del result["preset"]["data"][field]
        del result["preset"]["model"]["bare"]
    mend(copied.path("same_place", 0), older)
    assert row_status(copied, "same_place", range(1)) == "1 seed"


def test_an_extra_is_part_of_what_a_row_is(tmp_path, monkeypatch):
    study, runs_of = study_in(tmp_path), {}
    for extra in ("", "gram", "shuffle"):
        monkeypatch.setitem(ROWS, "posed", replace(ROWS["posed"], extra=extra))
        runs_of[extra] = study.run("posed", 0)
        put(study, "posed", 0, np.full((30, 3), 0.1), extra=extra)
        assert row_status(study, "posed", [0]) == "1 seed"
        monkeypatch.setitem(ROWS, "posed", replace(ROWS["posed"], extra="another"))
        assert row_status(study, "posed", [0]) == "1 stale"
        study.path("posed", 0).unlink()
    assert len({*runs_of.values()}) == 3, "two of them would go on with one run"


def test_another_precision_is_another_setting(copied):
    assert replace(copied, precision="bf16").load("same_place", 0)["status"] == "stale" != copied.load("same_place", 0)["status"]


def test_other_pictures_of_the_same_set_are_another_setting(copied, tmp_path):
    "Two folders are both called folder; a result from before this was recorded counts as it did."
    one, other = (replace(copied, root=tmp_path / name) for name in ("one", "other"))
    assert one.load("same_place", 0)["status"] == "done"
    mend(copied.path("same_place", 0), lambda r: r["metrics"].update(root=str(tmp_path / "one")))
    assert [s.load("same_place", 0)["status"] for s in (one, replace(one, root=tmp_path / "other/../one"), other, copied)] == ["done", "done", "stale", "stale"]
    assert len({s.run("no_tr", 1) for s in (one, other, copied)}) == 3, "two of them would go on with one run"


def test_a_damaged_result_is_named_in_one_line(copied, capsys):
    path = copied.path("same_place", 0)
    path.write_text(path.read_text()[:100])
    with pytest.raises(UserError, match=f"{path.name} is damaged .*: delete it"): table_of(copied, ["same_place"])


def test_a_device_that_is_not_there_stops_before_anything_is_written(tmp_path, capsys):
    assert main(["abacus" if word == "cpu" else word for word in command(tmp_path)]) == 2
    assert "--device abacus" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_weights_without_numbers_are_reported_as_diverged(tmp_path, monkeypatch):
    "The last step may break what no later step is there to notice."
    def broken(out):
        generator = reproduce_loader(out)
        if "weights" not in Path(out).parts: next(generator.parameters()).data.fill_(math.nan)      # those of a run
        return generator
    reproduce_loader = runs.load_generator
    monkeypatch.setattr(runs, "load_generator", broken)
    study = study_in(tmp_path, n=4)
    run_rows(study, ["addition"], 1, "x", tell=lambda text: None)
    assert "not finite" in row_status(study, "addition", [0]) and study.load("addition", 0)["status"] == "diverged"


def test_a_result_of_another_feature_network_does_not_stand_for_one_with_vgg19(trained):
    asks = replace(trained.study, preset=replace(LITTLE, train=replace(LITTLE.train, features="vgg19")))
    assert asks.load("no_tr", 0)["status"] == "stale" and trained.study.load("no_tr", 0)["status"] == "done"


def test_again_trains_a_stale_row_anew_and_nothing_else(copied, steps, trained):
    "Not from the old run's folder, though that is of this very code."
    other_digest(copied)
    good = copied.path("no_tr", 0).read_bytes()
    assert main(command(copied.results.parent, "--rows", "no_tr,same_place", "--again")) == 0
    assert steps == list(range(STEPS)) and copied.path("no_tr", 0).read_bytes() == good
    assert row_status(copied, "same_place", range(1)) == "1 seed"
    assert without_seconds(copied.path("same_place", 0)) == without_seconds(trained.study.path("same_place", 0))


# Digest and probe

CHANGED = {
    "study/rows.py": ("match_histograms(s, r,", "match_histograms(r, s,"),
    "sketch.py": ("tau: float = 0.98", "tau: float = 0.97"),
    "fid.py": ("np.trace(", "2 * np.trace("),
    "evaluate.py": ("0.1", "0.2"),
    "data/pairs.py": ("optical_flow_tvl1(s, line)", "optical_flow_tvl1(s, line, attachment=5)"),
    "triplet.py": ("+ margin", "+ 2 * margin"),
}


def test_whatever_a_result_depends_on_is_in_its_digest(tmp_path):
    "The flow baseline, XDoG's constants, the Fréchet formula, the judges; not a comment, and not the page."
    package = tmp_path / "refcolor"
    shutil.copytree(Path(rows.__file__).parents[1], package, ignore=shutil.ignore_patterns("weights", "*.js", "__pycache__"))
    def digest():
        code_digest.cache_clear()
        return code_digest(*ROOTS, package=package)
    (package / "app" / "cli.py").write_text("")
    assert digest() == code_digest(*ROOTS)
    for file, (old, new) in CHANGED.items():
        source = (package / file).read_text(encoding="utf-8")
        assert old in source, file
        for text, same in ((source + "# a comment\n", True), (source.replace(old, new), False), (source, True)):
            (package / file).write_text(text, encoding="utf-8")
            assert (digest() == code_digest(*ROOTS)) == same, file


def probe_of(row="aligned", seed=0, **changes):
    study = Study(replace(LITTLE, **{k: replace(getattr(LITTLE, k), **v) for k, v in changes.items()}), steps=STEPS)
    return runs.training_probe(study, row, seed, open_dataset("avatars", split="valid", size=32))


def test_a_probe_is_the_same_twice_and_differs_where_training_does(monkeypatch):
    first = probe_of()
    assert same_probe(first, probe_of()) and same_probe(first, json.loads(json.dumps(first)))
    others = dict(seed=dict(seed=1), weight=dict(train=dict(lambda_rec=29.)), rate=dict(train=dict(lr_g=6e-4)),
                  average=dict(train=dict(ema=0.)), warp=dict(data=dict(warp=0.29)), posed=dict(row="posed"))
    for what, change in others.items(): assert not same_probe(first, probe_of(**change)), what
    for field, value in (("margin", 4.), ("lr_decay", 0.6)):                    # a recipe has its own: a row may differ
        with monkeypatch.context() as patch:
            patch.setitem(ROWS, "aligned", replace(ROWS["aligned"], train={field: value}))
            assert not same_probe(first, probe_of()), field
    posed = probe_of("posed")
    for row in ("posed_same_place", "gram", "shuffle"): assert not same_probe(posed, probe_of(row)), row
    with monkeypatch.context() as patch:
        order = train.batch_index
        patch.setattr(train, "batch_index", lambda *a: order(*a)[::-1])
        assert not same_probe(first, probe_of()), "the order of the data"


def test_a_changed_mutant_changes_the_probe_of_its_row_and_of_no_other(monkeypatch):
    first = {row: probe_of(row) for row in ("same_place", "full")}
    monkeypatch.setitem(MUTANTS, "same_place", lambda logits, grid, margin, qkv: triplet_loss(logits, grid, margin) * 2)
    assert {row: same_probe(probe, probe_of(row)) for row, probe in first.items()} == {"same_place": False, "full": True}


@pytest.mark.parametrize("name, module, part, change", [
    ("full", evaluate, "frechet_from_features", lambda x, y: 1.01 * frechet_from_features(x, y)),
    ("copy", evaluate, "region_means", lambda image, *more: region_means(0.99 * image, *more)),
    ("flow", data_pairs, "xdog", lambda image: xdog(image, tau=0.9))], ids=["Fréchet distance", "region error", "flow"])
def test_a_probe_differs_where_judging_does(name, module, part, change, monkeypatch):
    study = Study(LITTLE)
    judge = lambda: JUDGING(study, name, {"test": open_dataset("avatars", split="test", size=32)})
    first = judge()
    assert first["psnr"] > 0 and same_probe(first, judge())
    monkeypatch.setattr(module, part, change)
    assert not same_probe(first, judge())


def test_probes_are_compared_to_four_digits():
    probe = {"batch": "ab", "losses": {"rec": [1., 0.5]}, "after": {"conflict": None}}
    assert same_probe(probe, {"batch": "ab", "losses": {"rec": [1.00001, 0.5], "new": [1.]}, "after": {"conflict": None}})
    for wrong in ({"batch": "ac"}, {"losses": {"rec": [1.001, 0.5]}}, {"losses": {"rec": [1.]}}, {"losses": {}}, {"after": {"conflict": 0.}}):
        assert not same_probe(probe, probe | wrong), wrong


def rechecked(study, capsys, *more):
    code = main(command(study.results.parent, "--rows", "no_tr,same_place", "--recheck", "--json", *more))
    captured = capsys.readouterr()
    said = json.loads(captured.out)
    del said["experiment"]
    return code, said, captured.err


def test_recheck_makes_current_what_computes_the_same_and_names_the_rest(copied, no_training, capsys):
    for name in ("no_tr", "same_place"): mend(copied.path(name, 0), lambda r: r.update(digest="0" * 12))
    mend(copied.path("no_tr", 0), lambda r: r["probe"]["training"]["losses"]["rec"].__setitem__(1, 0.5))
    before = strict(copied.path("same_place", 0))
    code, said, err = rechecked(copied, capsys)
    assert code == 0 and said == {"as they were, and current again": ["tiny-avatars-same_place-0"], "different today: --again runs them anew": ["tiny-avatars-no_tr-0"]}
    assert "different today" in err and "tiny-avatars-no_tr-0" in err
    assert row_status(copied, "same_place", range(1)) == "1 seed" and row_status(copied, "no_tr", range(1)) == "1 stale"
    assert strict(copied.path("same_place", 0)) == before | {"digest": code_digest(*ROOTS), "measured_with": "0" * 12}
    assert tables.strip_of(copied, "same_place"), "its pictures are still its own"
    assert rechecked(copied, capsys)[1] == {"different today: --again runs them anew": ["tiny-avatars-no_tr-0"]}


def test_recheck_looks_at_the_judging_too(copied, no_training, capsys):
    other_digest(copied)
    mend(copied.path("same_place", 0), lambda r: r["probe"]["judging"].update(psnr=1.))
    assert rechecked(copied, capsys)[1] == {"different today: --again runs them anew": ["tiny-avatars-same_place-0"]}


def test_recheck_does_not_compare_what_cannot_be_compared(copied, no_training, capsys):
    other_digest(copied)
    mend(copied.path("same_place", 0), lambda r: r["probe"].update(processor="abacus"))
    other_preset_of = copied.path("no_tr", 0)
    mend(other_preset_of, lambda r: r["preset"]["train"].update(lr_g=1e-3))
    before = contents(copied.results)
    code, said, err = rechecked(copied, capsys)
    assert said == {"of another preset: --again runs them anew": ["tiny-avatars-no_tr-0"],
                    "probed on another processor, abacus: --recheck there, or here with the code that they are current with, or --again":
                        ["tiny-avatars-same_place-0"]}
    assert code == 0 and contents(copied.results) == before
    mend(copied.path("same_place", 0), lambda r: r.pop("probe"))
    assert "without a probe: --again runs them anew" in rechecked(copied, capsys)[1]


def test_a_current_row_of_another_processor_is_probed_here_and_can_be_rechecked_later(copied, no_training, capsys):
    path = copied.path("same_place", 0)
    own = strict(path)
    mend(path, lambda r: r["probe"].update(processor="abacus", judging={"psnr": 1.}))
    assert rechecked(copied, capsys)[1] == {"current, and probed on this processor now": ["tiny-avatars-same_place-0"]}
    assert strict(path) == own, "its numbers, its digest and its stamps are its own"
    other_digest(copied)
    assert "tiny-avatars-same_place-0" in rechecked(copied, capsys)[1]["as they were, and current again"]


def test_a_recheck_of_nothing_says_so(copied, no_training, capsys):
    assert rechecked(copied, capsys)[1:] == ({}, "nothing is stale\n")


# The command line

WHOLE = len(EXPERIMENTS["triplet"])
MISTAKES = {
    "unknown data set": (["--data", "imagenot"], ["unknown data set 'imagenot'; did you mean imagenet?"]),
    "a data set without its folder": (["--data", "folder", "--rows", "no_tr,fade"], ["--root", "nothing was run", "6 runs", "no_tr, fade"]),
    "no such folder": (["--data", "folder", "--root", "nowhere", "--seeds", "1"], ["nowhere", "nothing was run", f"{WHOLE} runs"]),
    "unknown row": (["--rows", "no_tr,tripel"], ["--rows", "tripel", *ROWS]),
    "unknown experiment": (["tripel"], ["tripel", "triplet"]),
    "no seeds": (["--seeds", "0"], ["less than 1"]),
    "whose folder?": (["--root", "somewhere"], ["--root", "--data"]),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_and_nothing_is_written(case, tmp_path, monkeypatch, no_training, capsys):
    more, expected = MISTAKES[case]
    monkeypatch.chdir(tmp_path)                            # the default folders are relative
    try: code = main(["reproduce", *([] if case == "unknown experiment" else ["triplet"]), *more])
    except SystemExit as e: code = e.code
    captured = capsys.readouterr()
    lines = [l for l in captured.err.splitlines() if l.startswith("refcolor")]
    assert code == 2 and len(lines) == 1 and all(word in lines[0] for word in expected), captured.err
    assert "Traceback" not in captured.err and captured.out == "" and not list(tmp_path.iterdir())


def test_what_is_judged_on_is_read_before_anything_is_trained(tmp_path, capsys):
    "Files that cannot be read are left out, not replaced by others; where too few are left, that is said at once."
    root = tmp_path / "pictures"
    root.mkdir()
    for i in range(40): Image.fromarray(np.random.default_rng(i).integers(0, 256, (6, 6, 3), np.uint8)).resize((30, 30), 0).save(root / f"{i}.png")
    study = study_in(tmp_path, data="folder", root=root)
    test = open_dataset("folder", root, "test", 64)
    torn = [test.path(i) for i in range(len(test))]
    torn[1].write_bytes(b"torn")
    found = rows.open_study(study, [("full", 0)])
    assert len(found["test"]) == len(test) - 1 and f"1 of {len(test)} pictures or pairs cannot be used: cannot read {torn[1]}" in capsys.readouterr().err
    assert [s.prefix for s in rows.judged_sources(found["test"], 128)] == ["", "self_"]
    for path in torn[1:]: path.write_bytes(b"torn")
    with pytest.raises(UserError, match="cross pairs need at least 2 pictures, got 1; add more; nothing was run"): rows.open_study(study, [("full", 0)])


def test_show_of_nothing_says_not_run_and_creates_nothing(tmp_path, no_training, capsys):
    assert main(command(tmp_path, "--show", "--json")) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["rows"] == dict.fromkeys(EXPERIMENTS["triplet"], "not run")
    for name in EXPERIMENTS["triplet"]:
        assert any(line.startswith(ROWS[name].title) and line.endswith("not run") for line in captured.err.splitlines()), name
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode, said", [("--show", "not run"), ("--recheck", "nothing to recheck: none of these rows is in")])
def test_a_folder_that_is_not_there_is_not_taken_for_an_empty_one(mode, said, tmp_path, no_training, capsys):
    there = f"note: --results {tmp_path}/results: no such folder, so no row has a result"
    assert main(command(tmp_path, mode)) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == there and any(said in line for line in lines[1:]) and not any("stale" in line for line in lines)
    (tmp_path / "results").mkdir()
    assert main(command(tmp_path, mode)) == 0
    err = capsys.readouterr().err
    assert "no such folder" not in err and said in err


def test_show_of_what_there_is_trains_nothing(trained, no_training, capsys):
    before = contents(trained.folder)
    assert main(command(trained.folder, "--show", seeds=2)) == 0
    shown = {line.split("  ")[0]: line for line in capsys.readouterr().err.splitlines()}
    assert shown[ROWS["no_tr"].title].endswith("1 seed") and shown[ROWS["full"].title].endswith("not run")
    assert contents(trained.folder) == before


# Two processes

# holds a lock until its standard input ends
HOLD = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1], timeout=0):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_row_that_another_process_is_at_is_left_to_it(tmp_path, monkeypatch):
    study, tried, said = study_in(tmp_path), [], []
    def stop(study, name, seed, datasets, out):
        tried.append((name, out))
        raise UserError("stopped")
    monkeypatch.setattr(runs, "train_row", stop)
    with pytest.raises(UserError, match="stopped"): run_rows(study, ["full"], 1, "x", tell=said.append)
    (_, out), = tried
    other = subprocess.Popen([sys.executable, "-c", HOLD, f"{out}.lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "held\n", "the lock was not given back when the row failed"
        with pytest.raises(UserError): run_rows(study, ["full", "no_tr"], 1, "x", tell=said.append)
        assert [name for name, _ in tried] == ["full", "no_tr"]                 # full is left, the next one is begun
        run_rows(study, ["full"], 1, "x", tell=said.append)
        assert said[-1].startswith("left to another process") and "full-0" in said[-1] and not study.path("full", 0).exists()
    finally: other.communicate("")
    with pytest.raises(UserError): run_rows(study, ["full"], 1, "x", tell=said.append)
    assert [name for name, _ in tried] == ["full", "no_tr", "full"]             # the lock goes with its process


def test_rows_of_another_run_name_the_option_that_reproduce_has(tmp_path, monkeypatch):
    class Other:
        callbacks = []
        def fit(self, resume): raise error
    monkeypatch.setattr(runs, "row_learner", lambda *args, **more: Other())
    monkeypatch.setattr(runs, "speed_up", lambda learner, compile: learner)
    monkeypatch.setattr(runs, "record_of", lambda data: {})
    monkeypatch.setattr(runs, "ValidationCurve", lambda *args: None)
    study = study_in(tmp_path, data="folder")
    for error, said in ((UserError("--resume: x was begun with seed 0, now 1; use another --out; or delete it"), "^x was begun with seed 0, now 1; use another --runs; or delete it$"),
                        (train.Diverged("a loss is nan"), "^a loss is nan$")):
        with pytest.raises(type(error), match=said): runs.train_row(study, "full", 0, {"train": [], "valid": []}, tmp_path / "out")


# Methods without training

def test_same_histogram_gives_each_channel_of_each_picture_its_references_values():
    rng = torch.Generator().manual_seed(0)
    sketch, reference = torch.rand(2, 1, 32, 32, generator=rng) * 2 - 1, torch.rand(2, 3, 32, 32, generator=rng) * torch.tensor([2., 1, .5])[:, None, None] - 1
    fake = rows.same_histogram(sketch, reference)
    assert fake.shape == reference.shape and fake.dtype == torch.float32
    assert torch.allclose(fake.flatten(2).sort().values, reference.flatten(2).sort().values, atol=0.02)
    for channel in fake[0]: assert torch.equal(channel.flatten().argsort(), sketch[0].flatten().argsort()), "dark stays dark"


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("untrained")
    assert main(["reproduce", "table1", "--data", "avatars", "--rows", "constant,copy", *command(folder, seeds=2)[2:]]) == 0
    return study_in(folder)


def test_what_is_not_trained_has_one_result_and_no_run(untrained, no_training, capsys):
    assert sorted(p.name for p in untrained.results.glob("*.json")) == ["tiny-avatars-constant-0.json", "tiny-avatars-copy-0.json"]
    assert not [p for p in untrained.runs.iterdir() if p.is_dir()], "there is nothing to keep"
    for name in ("constant", "copy"):
        m = strict(untrained.path(name, 0))["metrics"]
        assert m["region_error"] == m[f"{name}_region_error"] and m["psnr"] == m[f"{name}_psnr"] and m["bent_region_error"] == m[f"{name}_bent_region_error"]
        assert row_status(untrained, name) == "not trained" and strict(untrained.path(name, 0))["seconds"] == 0
    assert strict(untrained.path("copy", 0))["metrics"]["region_error"] != strict(untrained.path("constant", 0))["metrics"]["region_error"]
    assert untrained.row_seeds(["copy", "full"], 2) == [("copy", 0), ("full", 0), ("full", 1)]
    assert replace(untrained, on="adventurer").row_seeds(["copy", "full"], 2) == [("full", 0), ("full", 1)]


def test_an_untrained_method_sits_where_a_generator_does():
    method = rows.Untrained("copy", LITTLE.model)
    sketch, reference = torch.zeros(2, 1, 32, 32), torch.rand(2, 3, 32, 32)
    fake, logits = method.eval()(sketch, reference)
    assert torch.equal(fake, reference) and logits is None and method.config.size == 32 and next(method.parameters()).device.type == "cpu"


# Judged on other pictures than it was trained on

def test_weights_are_judged_on_other_pictures_without_training(trained, tmp_path, no_training):
    shutil.copytree(trained.folder, tmp_path / "copy")
    study, said = study_in(tmp_path / "copy"), []
    other, before = replace(study, on="adventurer"), contents(tmp_path / "copy")
    run_rows(other, ["no_tr", "full", "copy"], 1, "x", tell=said.append)
    assert set(other.results.glob("*-on-*")) == {other.path("no_tr", 0)} and other.path("no_tr", 0).name == "tiny-avatars-no_tr-0-on-adventurer.json"
    assert any(line.startswith("1 are not trained on avatars") for line in said), "full is not at hand; a copy is no weights"
    assert all(p.read_bytes() == b for p, b in before.items()), "the results of its own pictures stay as they were"
    generator = runs.load_generator(study.run("no_tr", 0))
    by_hand = rows.measure_all(generator, [CrossReference(open_dataset("adventurer", split="test", size=32), 16)]).result
    there = strict(other.path("no_tr", 0))
    assert there["metrics"]["region_error"] == pytest.approx(by_hand["region_error"], abs=1e-6) and there["metrics"]["parts"] == ["hair", "skin"]
    assert there["metrics"]["region_error"] != strict(study.path("no_tr", 0))["metrics"]["region_error"]
    assert there["seconds"] == strict(study.path("no_tr", 0))["seconds"] and "curve" not in there["metrics"]
    said.clear()
    run_rows(other, ["no_tr"], 1, "x", tell=said.append)
    assert "1 have a result, 0 to do" in said[0]
    for path in (study.path("no_tr", 0), other.path("no_tr", 0)): path.unlink()          # the weights are still there, their story is not
    run_rows(other, ["no_tr"], 1, "x", tell=said.append)
    assert said[-1].startswith("1 are not trained on avatars") and not other.path("no_tr", 0).exists()


def test_across_rows_has_training_sets_below_and_judging_sets_beside_each_other(tmp_path):
    study, value = study_in(tmp_path), {}
    for a in ("avatars", "adventurer"):
        for b in ("avatars", "adventurer"):
            value[a, b] = 0.1 * (1 + len(value))
            put(replace(study, data=a, on="" if a == b else b), "full", 0, np.full((30, 3), value[a, b]))
    put(replace(study, data="adventurer"), "copy", 0, np.full((30, 3), 0.7))
    rows = tables.across_rows(study, ["copy", "full"], datas=("avatars", "adventurer"))
    assert rows[1] == (ROWS["copy"].title, "–", "–", "0.700"), "one row: it is trained on nothing"
    assert rows[2:] == [(ROWS["full"].title, a, *(f"{value[a, b]:.3f}" for b in ("avatars", "adventurer"))) for a in ("avatars", "adventurer")]


def test_table1_runs_its_sets_and_judges_each_on_the_others(tmp_path, monkeypatch, capsys):
    for module in (tables, ship): monkeypatch.setattr(module, "TABLE1_DATA", ("avatars", "adventurer"))
    asked = ["reproduce", "table1", "--rows", "copy,adain", *command(tmp_path)[2:]]
    assert main([*asked, "--json"]) == 0
    captured = capsys.readouterr()
    said, names = json.loads(captured.out), {p.stem for p in (tmp_path / "results").glob("*.json")}
    assert said["rows"] == {data: {"copy": "not trained", "adain": "1 seed"} for data in ("avatars", "adventurer")}
    assert names == {"tiny-avatars-copy-0", "tiny-adventurer-copy-0", "tiny-avatars-adain-0", "tiny-adventurer-adain-0",
                     "tiny-avatars-adain-0-on-adventurer", "tiny-adventurer-adain-0-on-avatars"}
    assert strict(tmp_path / "results/tiny-avatars-adain-0.json")["command"].startswith("refcolor reproduce table1 --preset TINY --steps")
    assert "FD" in captured.err or "fd_lite0_n16" in captured.err
    assert "judged on adventurer" in captured.err and (tmp_path / "runs/tiny-adventurer-table1-0.png").exists()
    before = contents(tmp_path)
    monkeypatch.setattr(Learner, "fit", None)                                # nothing is trained again
    assert main(asked) == 0 and main([*asked, "--show"]) == 0
    assert contents(tmp_path / "results").items() <= before.items()


def test_alignment_judges_each_row_on_adventurer_too(tmp_path, monkeypatch, capsys):
    "Straight and posed; what is not trained has a result of its own there; and nothing is trained twice."
    asked = ["reproduce", "alignment", "--rows", "posed,copy", *command(tmp_path)[2:]]
    assert main([*asked, "--json"]) == 0
    captured, names = capsys.readouterr(), {p.stem for p in (tmp_path / "results").glob("*.json")}
    assert names == {"tiny-avatars-posed-0", "tiny-avatars-posed-0-on-adventurer", "tiny-avatars-copy-0", "tiny-adventurer-copy-0"}
    assert json.loads(captured.out)["rows"] == {"posed": "1 seed", "copy": "not trained"}
    shown = {line.split("  ")[0]: line.split() for line in captured.err.splitlines()}
    for name, there in (("posed", "tiny-avatars-posed-0-on-adventurer"), ("copy", "tiny-adventurer-copy-0")):
        here, there = (strict(tmp_path / f"results/{stem}.json")["metrics"] for stem in (f"tiny-avatars-{name}-0", there))
        assert there["parts"] == ["hair", "skin"]
        wanted = [f"{m[k]:.3f}" for m in (here, there) for k in ("region_error", "posed_region_error")]
        wanted += [f"{here['paper_error']:.3f}", f"{here['posed_paper_error']:.3f}", f"{here['posed_psnr']:.1f}"]
        assert shown[ROWS[name].title][-9:-2] == wanted and len({*wanted}) == 7, name
    drawn = {p.stem for p in (tmp_path / "results").glob("*-[0-9].png")} - {f"tiny-{data}-pairs-0" for data in ("avatars", "adventurer")}
    assert drawn == {"tiny-avatars-posed-0", "tiny-avatars-copy-0", "tiny-adventurer-copy-0"}
    before = contents(tmp_path / "results")
    monkeypatch.setattr(Learner, "fit", None)
    assert main(asked) == 0 and contents(tmp_path / "results") == before
    for stem in names: mend(tmp_path / f"results/{stem}.json", lambda r: r.update(digest="0" * 12))
    capsys.readouterr()
    assert main([*asked, "--recheck", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["as they were, and current again"]) == names


def test_table1_opens_all_its_data_before_it_trains(tmp_path, monkeypatch, no_training, capsys):
    monkeypatch.setattr(ship, "TABLE1_DATA", ("avatars", "tag2pix"))          # the second one is not there
    assert main(["reproduce", "table1", *command(tmp_path)[2:]]) == 2
    err = capsys.readouterr().err
    assert "--root" in err and "nothing was run" in err and "full" in err and not list(tmp_path.iterdir())


def test_people_among_emoji_are_judged_with_their_true_answer(emoji):
    people, posed, own = rows.judged_sources(emoji, 8)
    assert isinstance(people, EmojiPeople) and people.batch([0]).truth is not None and set(people.labels) == {"hair", "skin"}
    assert isinstance(posed, Posed) and posed.source is people and own.prefix == "self_" and own.n == posed.n == people.n == 8
    cross, posed, own, bent = rows.judged_sources(open_dataset("adventurer", split="test", size=32), 99)
    assert isinstance(bent, BentReference) and posed.source is cross and {s.n for s in (cross, posed, own, bent)} == {16}, "no more pairs than pictures"
    class Nobody(Subset): name, people = "openmoji", [3]
    assert [s.prefix for s in rows.judged_sources(Nobody(emoji, range(8)), 8)] == ["", "self_"], "no true answer, and no failure"


def test_a_row_is_not_judged_by_the_flow_of_each_pair_which_has_a_row_of_its_own(monkeypatch):
    monkeypatch.setattr(evaluate, "registered", None)
    found = rows.judge_row(Study(LITTLE, n=4, device="cpu"), rows.Untrained("copy", LITTLE.model), {"test": open_dataset("avatars", split="test", size=32)})
    assert not any("flow" in k for k in found) and {"posed_region_error", "posed_paper_error", "posed_psnr", "paper_error"} <= set(found["pairs"])
    assert {"posed_region_error", "paper_error", "posed_paper_error", "posed_psnr"} <= set(tables.COLUMNS)


# Pictures

def test_a_strip_shows_what_the_weights_make_of_the_same_pairs(trained):
    study = trained.study
    pairs = CrossReference(open_dataset("avatars", split="test", size=32), 16).batch(list(range(8)))
    given = [np.asarray(to_image(x)) for row in (pairs.sketch, pairs.reference, pairs.truth) for x in row.expand(-1, 3, -1, -1)]
    sheet = np.asarray(tables.strip_of(study, "pairs"))
    assert all((sheet[k // 8 * 32:k // 8 * 32 + 32, k % 8 * 32:k % 8 * 32 + 32] == x).all() for k, x in enumerate(given)) and sheet.shape == (96, 256, 3)
    with torch.no_grad(): fake = runs.load_generator(study.run("no_tr", 0))(pairs.sketch, pairs.reference).fake
    ours = np.asarray(tables.strip_of(study, "no_tr"))
    assert all((ours[:, k * 32:k * 32 + 32] == np.asarray(to_image(x))).all() for k, x in enumerate(fake))
    assert not (ours == np.asarray(tables.strip_of(study, "same_place"))).all()
    figure = tables.strips(study, ["no_tr", "full", "same_place"])
    labels = [t.get_text().replace("\n", " ") for t in figure.axes[0].get_yticklabels()]
    assert labels == ["sketch", "reference", ROWS["no_tr"].title, ROWS["same_place"].title, "true answer"], "in order; what was not drawn is left out"
    shown = figure.axes[0].images[0].get_array()
    assert (shown[64:96] == ours).all() and (shown[-32:] == sheet[64:]).all() and figure.axes[0].get_yticks()[2] == 80


def test_a_strip_of_other_weights_is_not_shown_and_is_drawn_anew(copied, trained, no_training):
    own = copied.path("no_tr", 0).with_suffix(".png")
    shutil.copy(copied.path("same_place", 0).with_suffix(".png"), own)                   # of another run
    assert tables.strip_of(copied, "no_tr") is None and tables.strip_of(copied, "same_place")
    tables.draw_rows(copied, ["no_tr", "same_place"])
    assert own.read_bytes() == trained.study.path("no_tr", 0).with_suffix(".png").read_bytes()
    own.unlink()
    shutil.rmtree(copied.run("no_tr", 0))
    said = []
    tables.draw_rows(copied, ["no_tr", "full"], said.append)
    assert len(said) == 1 and said[0].startswith("no pictures of no_tr: ") and not own.exists(), "full has no result: nothing to say"
    assert tables.strips(copied, ["full"]) is None


# Tables

def test_the_headline_names_the_distance_truly_and_shows_what_can_be_known(tmp_path):
    study = study_in(tmp_path)
    assert tables.headline(study, ["full"]) == ("region_error", "region_error_hair", "psnr", "ssim", "correspondence", "fd_lite0_n128", "seconds")
    put(study, "full", 0, np.full((30, 3), 0.1), region_error=0.1, fd_lite0_n16=3., ssim=0.5)
    assert "fd_lite0_n16" in tables.headline(study, ["fade", "full"])
    row = table_of(study, ["full"], ("ssim", "fd_lite0_n16", "seconds"))[1]
    assert row[1:4] == ("0.500", "3.0", "0")
    photos = replace(study, data="imagenet")
    put(photos, "full", 0, np.full((30, 3), np.nan), self_psnr=20., fid_n16=3.)
    assert tables.headline(photos, ["full"]) == ("self_psnr", "self_ssim", "correspondence", "fid_n16", "seconds")


def test_the_cost_is_in_minutes_of_all_threads_and_of_gpus_apart(tmp_path):
    study = study_in(tmp_path, steps=None)
    for seed, (seconds, device) in enumerate([(240., "x86_64 CPU, 2 threads"), (300., "x86_64 CPU, 1 threads"), (60., "NVIDIA H200")]):
        put(study, "addition", seed, np.zeros((30, 3)))
        mend(study.path("addition", seed), lambda r: r.update(seconds=seconds, device=device))
    put(study, "no_tr_long", 0, np.zeros((30, 3)))
    mend(study.path("no_tr_long", 0), lambda r: r.update(seconds=1800., device="x86_64 CPU, 1 threads"))
    rows = {row[0]: row[3:] for row in tables.experiment_rows(study)[1:]}
    assert rows["`refcolor reproduce modules`"] == ("5 – 8", "26", "1 – 1"), "four rows of 6.5"
    assert rows["`refcolor reproduce triplet`"] == ("10 – 10", "100", "–"), "three times the steps count as three rows"
    assert rows["`refcolor reproduce table1`"][1] == f"{6.5 * 3 * 6:.0f}", "what is not trained costs nothing"


def test_conflict_rows_count_what_was_measured(tmp_path):
    study = study_in(tmp_path)
    lines = [{"step": 0, "conflict_reference": 1., "conflict_sketch": 1.}]                # before any step: not counted
    lines += [{"step": k, "conflict_reference": v, "conflict_sketch": None} for k, v in enumerate((-0.5, -0.1, 0.3, 0.1), 1)]
    put(study, "full", 0, np.zeros((30, 3)), curve=lines)
    put(study, "full", 1, np.zeros((30, 3)), curve=[{"step": 9, "conflict_reference": -0.8, "conflict_sketch": -0.2}])
    put(study, "addition", 0, np.zeros((30, 3)), curve=[{"step": 4}])
    rows = tables.conflict_rows(study, ["full", "addition", "adain"])
    assert rows[1][1:] == ("-0.200", "60%", "-0.200", "100%", "5 times")
    assert rows[2][1:] == (*"––––", "1 times") and rows[3][1:] == (*"––––", "not run")


def test_what_was_not_trained_has_no_curve(tmp_path):
    study = study_in(tmp_path)
    put(study, "copy", 0, np.full((30, 3), 0.1))
    put(study, "full", 0, np.full((30, 3), 0.1), curve=[{"step": k, "psnr": 10. + k} for k in range(3)])
    figure = tables.learning_curves(study, ["copy", "full"], {"psnr": "PSNR"})
    line, = figure.axes[0].lines
    assert line.get_label() == ROWS["full"].title and line.get_ydata().tolist() == [10., 11., 12.]
    assert tables.conflict_rows(study, ["copy"])[1] == (ROWS["copy"].title, *"––––", "not trained")


def test_departures_are_measured_against_the_papers_recipe(tmp_path):
    study, base = study_in(tmp_path), noisy(2, 30, 3)
    for seed in range(2):
        put(study, "full", seed, base[seed])
        put(study, "warp05", seed, base[seed] + 0.25)
    rows = {row[0]: row[3] for row in tables.departure_rows(study)[1:]}
    assert len(rows) == len(tables.DEPARTURES) and all(rows.values())
    assert rows["warp s(·)"] == f"{ROWS['warp05'].title}: +0.250 ± 0.000 (+0.250 +0.250); {ROWS['warp25'].title}: not run"
    for name in ("warp05", "full"): study.path(name, 1).unlink()
    assert {row[0]: row[3] for row in tables.departure_rows(study)[1:]}["warp s(·)"].startswith(f"{ROWS['warp05'].title}: +0.250, one seed; ")
    compared = {name for *_, what in tables.DEPARTURES if not isinstance(what, str) for name in what}
    assert compared <= set(ROWS) and compared - {"fade", "margin3"} == (set(EXPERIMENTS["departures"]) | set(EXPERIMENTS["tint"])) - {"full"}


# Mutants

@pytest.fixture
def attention():
    "Logits of a small attention, the warp that belongs to them, and its generator."
    torch.manual_seed(0)
    noise = uniform(0, 0, [0, 1], noise_size(DataConfig()))[:, 3:].reshape(2, -1, 2)
    grid = spatial_transform(torch.zeros(2, 3, 16, 16), 0.5 * noise)[1]
    return SimpleNamespace(generator=SimpleNamespace(fusion=SCFT(6)), v_s=torch.randn(2, 16, 6), v_r=torch.randn(2, 16, 6),
                           grid=grid, still=pixel_centres(16, 16).expand(2, -1, -1, -1))


def term(logits, grid, margin=12., loss=triplet_loss):
    "L_tr as the training computes it."
    picture = torch.zeros(2, 3, 16, 16)
    return generator_losses(picture, picture, logits, grid, torch.zeros(2, 1), lambda x: [x], margin, correspondence_loss=loss)["tr"]


def test_the_identity_grid_of_same_place_means_the_own_position(attention):
    logits = attention.generator.fusion(attention.v_s, attention.v_r)[1].detach()
    right, still = (triplet_loss(logits, g, 3.) for g in (attention.grid, attention.still))
    others = ~torch.eye(16, dtype=torch.bool).expand_as(logits)
    by_hand = (logits - logits.diagonal(dim1=1, dim2=2)[..., None] + 3).relu()[others].mean()
    wrong = term(logits, attention.grid, 3., wrong_loss("same_place", attention.generator))
    assert float(wrong) == pytest.approx(float(still)) and float(still) == pytest.approx(float(by_hand))
    assert abs(float(wrong - right)) > 0.01 and torch.equal(term(logits, attention.grid, 3.), right)


def test_reversed_pushes_the_positive_away(attention):
    logits = attention.generator.fusion(attention.v_s, attention.v_r)[1].detach().requires_grad_()
    index, valid, _ = correspondence(attention.grid, 16)
    for loss, sign in ((triplet_loss, -1), (wrong_loss("reversed", attention.generator), 1)):
        slope, = torch.autograd.grad(term(logits, attention.grid, loss=loss), logits)
        at_positive = slope.gather(-1, index[..., None])[..., 0][valid]
        assert len(at_positive) and (sign * at_positive > 0).all(), sign


def test_flattened_is_the_ready_made_loss_of_the_last_forward_pass(attention):
    fusion = attention.generator.fusion
    loss = wrong_loss("flattened", attention.generator)
    fusion(attention.v_r, attention.v_s)
    logits = fusion(attention.v_s, attention.v_r)[1]
    found, elsewhere = term(logits, attention.grid, 3., loss), term(logits * 2, attention.still, 3., loss)
    q, k, v = (w(x).flatten(1) for w, x in ((fusion.w_q, attention.v_s), (fusion.w_k, attention.v_r), (fusion.w_v, attention.v_r)))
    assert torch.equal(found, F.triplet_margin_loss(q, k, v, margin=3.)) and found > 0
    assert torch.equal(found, elsewhere), "it knows nothing of the warp"
    found.backward()
    assert all(w.weight.grad.abs().sum() > 0 for w in (fusion.w_q, fusion.w_k, fusion.w_v)), "it does train"


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_its_learners_alone(name):
    "Whoever trains beside it, or after it, trains by Eq. 6."
    data = open_dataset("avatars", split="valid", size=32)
    study = Study(replace(LITTLE, data=replace(LITTLE.data, characters=16)))
    before, wrong, after = (runs.row_learner(study, row, 0, data, device="cpu") for row in ("full", name, "full"))
    first = [learner.step()["loss/tr"] for learner in (before, wrong, after)]
    assert first[0] == first[2] != first[1] and before.correspondence_loss is after.correspondence_loss is triplet_loss


# Other papers' ideas

def contexts_of(fusion, v_s, v_r):
    "Cosines between the positions of a context, by hand: (b, n, n)."
    c = fusion(v_s, v_r)[0].double()
    return torch.stack([torch.stack([F.cosine_similarity(x[i:i + 1], x) for i in range(len(x))]) for x in c])


def test_gram_regularisation_by_hand(attention):
    "L_tr, plus the mean squared difference of the cosines with the reference of another sketch; the aligned branch is fixed."
    fusion, loss = attention.generator.fusion, rows.gram_regularised(attention.generator)
    v_s, v_r = (x.requires_grad_() for x in (attention.v_s, attention.v_r))
    fusion(v_r, v_s)                                                 # an earlier pass does not count
    context, logits = fusion(v_s, v_r)
    found = term(logits, attention.grid, 3., loss)
    assert found == term(logits, attention.grid, 3., loss), "its own pass is not the next one's aligned branch"
    aligned, other = contexts_of(fusion, v_s, v_r), contexts_of(fusion, v_s, v_r[[1, 0]])
    gram = found - term(logits, attention.grid, 3.)
    assert gram.item() == pytest.approx((other - aligned).square().mean().item(), rel=1e-4) and gram > 1e-3
    slopes = torch.autograd.grad(gram, [v_s, v_r, *fusion.parameters()], retain_graph=True)
    wanted = torch.autograd.grad((other - aligned.detach()).square().mean(), [v_s, v_r, *fusion.parameters()], retain_graph=True)
    pulled = torch.autograd.grad((other - aligned).square().mean(), [v_s, v_r, *fusion.parameters()])
    for a, b, c in zip(slopes, wanted, pulled): assert torch.allclose(a, b.float(), atol=1e-5) and not torch.allclose(a, c.float(), atol=1e-5)


def test_gram_regularisation_is_its_learners_alone():
    "It adds to L_tr and to nothing else, and trains all that makes c."
    data = open_dataset("avatars", split="valid", size=32)
    before, gram, after = (runs.row_learner(Study(LITTLE), row, 0, data, device="cpu") for row in ("posed", "gram", "posed"))
    first = [learner.step() for learner in (before, gram, after)]
    assert first[0] == first[2] and before.correspondence_loss is after.correspondence_loss is triplet_loss
    assert first[1]["loss/tr"] > first[0]["loss/tr"] + 1e-4
    assert all(first[1][f"loss/{k}"] == first[0][f"loss/{k}"] for k in ("rec", "adv_g", "perc", "style", "adv_d"))
    one, other = (dict(learner.generator.named_parameters()) for learner in (before, gram))
    assert any("reference" in k and not torch.equal(v, other[k]) for k, v in one.items())


def shuffled_batches(seed=0, *split, row="shuffle"):
    data = open_dataset("avatars", split="valid", size=32)
    return runs.row_learner(Study(LITTLE), row, seed, data, device="cpu", **({"accumulate": split[0]} if split else {})).batches


def test_shuffled_references_carry_their_grid_along():
    "What the positive of each position shows stays what it was; only where it lies is new."
    plain, mixed = (shuffled_batches(row=row)[3][0] for row in ("posed", "shuffle"))
    for a, b, moves in zip(plain, mixed, (False, False, True, True, False, True)):
        assert torch.equal(a, b) != moves or not a.any(), "sketch, target and their parts stay"
    (at, valid, inside), (there, still_valid, still_inside) = (correspondence(t.grid, 64) for t in (plain, mixed))
    assert torch.equal(valid, still_valid) and valid.float().mean() > 0.2 and torch.equal(inside.sum(1), still_inside.sum(1))
    shown = lambda t, index: F.adaptive_avg_pool2d(t.reference, 8).flatten(2).gather(2, index[:, None].expand(-1, 3, -1))       # noqa: E731
    gap = lambda t, index: (shown(t, index) - shown(plain, at)).abs().amax(1)[valid].max()                                       # noqa: E731
    assert gap(mixed, there) < 1e-5 < 0.1 < gap(mixed, at), "the grid does not belong to the picture"
    pixels = lambda t: t.reference.flatten(2).sort().values                                                                      # noqa: E731
    assert torch.equal(pixels(plain), pixels(mixed))


def test_patches_are_four_by_four_and_whole():
    "Each patch comes whole, each once, in the order of the sample's own numbers; the part map with it."
    place = torch.arange(64.).view(1, 1, 8, 8).expand(2, 3, -1, -1)                      # patches of 2×2 pixels
    grid, parts = place[:, :2].permute(0, 2, 3, 1), place[:, 0].byte()
    order = torch.stack([torch.randperm(16, generator=torch.Generator().manual_seed(k)) for k in range(2)])
    mixed = rows.shuffle_patches(rows.Triple(place, place, place, grid, parts, parts), order.argsort(1) / 16)
    for k in range(2):
        for to, source in enumerate(order[k].tolist()):
            y, x, v, u = *divmod(to, 4), *divmod(source, 4)
            here, there = (slice(2 * y, 2 * y + 2), slice(2 * x, 2 * x + 2)), (slice(2 * v, 2 * v + 2), slice(2 * u, 2 * u + 2))
            assert torch.equal(mixed.reference[k, :, *here], place[k, :, *there]) and torch.equal(mixed.grid[k][here], grid[k][there])
            assert torch.equal(mixed.reference_parts[k][here], parts[k][there])
    assert torch.equal(mixed.parts, parts) and mixed.reference.dtype == torch.float32 and mixed.reference_parts.dtype == torch.uint8


def test_each_sample_is_shuffled_by_numbers_of_its_own(monkeypatch):
    "Of seed, step and index alone: the same again, and in another process's share; and not those that posed it."
    monkeypatch.setattr(rows, "shuffle_patches", lambda triple, noise: noise)
    batches = shuffled_batches()
    drawn = torch.cat([*batches[0], *batches[1], *batches[33], *shuffled_batches(1)[0]])      # 33: the second epoch
    assert drawn.shape == (8, 16) and len({*map(tuple, drawn.argsort(1).tolist())}) == 8, "an order came twice"
    assert torch.equal(torch.cat(shuffled_batches(0, 2)[1]), batches[1][0]) and torch.equal(batches[1][0], shuffled_batches()[1][0])
    index = train.batch_index(16, 2, 0, 0)
    posing = uniform(0, 0, index, 600)
    assert not any(torch.equal(batches[0][0], posing[:, k:k + 16]) for k in range(585)), "the numbers of its pose"


# Measures

def test_attention_entropy_is_a_share_of_the_largest():
    n = 16
    even, one = torch.zeros(1, n, n), torch.eye(n)[None] * 1e4
    two = torch.full((1, n, n), -1e4)
    two[..., :2] = 7.                                     # the level of the logits does not count
    found = [float(attention_entropy(x)) for x in (even, one, two)]
    assert found == pytest.approx([1, 0, math.log(2) / math.log(n)], abs=1e-5)
    assert attention_entropy(torch.cat([even, one])).tolist() == pytest.approx([1, 0], abs=1e-5)      # image by image
    assert attention_entropy(torch.cat([even, one], 1)).tolist() == pytest.approx([0.5], abs=1e-5)    # the mean over rows
    assert float(attention_entropy(torch.zeros(1, 4, 64))) == pytest.approx(1)                         # as many as there are keys


def noisy(*shape, seed=0): return np.random.default_rng(seed).normal(size=shape)


def test_the_interval_over_seeds_is_students():
    from scipy.stats import t
    for n in range(2, 11):
        values = noisy(n, seed=n)
        low, high = statistics.seed_interval(values)
        exact = t.interval(0.95, n - 1, values.mean(), values.std(ddof=1) / n ** 0.5)
        assert (low, high) == pytest.approx(exact, abs=1e-3 * (high - low)), n
    values = noisy(40)
    low, high = statistics.seed_interval(values)
    exact = t.interval(0.95, 39, values.mean(), values.std(ddof=1) / 40 ** 0.5)
    assert low < exact[0] and high > exact[1], "never narrower than it is called"
    assert statistics.seed_interval([0.3]) is None and statistics.seed_interval([0.3, 0.3]) == pytest.approx((0.3, 0.3))


def test_an_interval_over_seeds_does_not_know_how_many_pairs_there_are(tmp_path):
    "Three seeds that differ by a constant: a thousand pairs tell no more than ten."
    for n in (10, 1000):
        study = study_in(tmp_path / str(n))
        for seed in range(3):
            put(study, "full", seed, noisy(n, 3))
            put(study, "fade", seed, noisy(n, 3) + seed)
        assert difference(study, "fade", "full", "region_error")["ci"] == pytest.approx((1 - 4.303 / 3 ** 0.5, 1 + 4.303 / 3 ** 0.5), abs=1e-6)


def put(study, name, seed, region, psnr=None, **metrics):
    "A result as a run would have written it."
    pairs, parts = {"region_error": region.tolist()} | ({} if psnr is None else {"psnr": psnr.tolist()}), ["hair", "skin", "shirt"]
    means = {k: mean_of(np.array(v)) for k, v in pairs.items()} | {f"region_error_{p}": mean_of(region[:, [k]]) for k, p in enumerate(parts)}
    means = {k: v for k, v in means.items() if math.isfinite(v)}
    metrics = {"mutant": ROWS[name].mutant, "pairs": pairs, "parts": parts} | means | metrics
    save_result(study.path(name, seed), metrics, "x", study.row_preset(name), seed, 1., ("tps",))    # few modules: a quick digest


def test_difference_is_paired_and_takes_the_seeds_that_both_have(tmp_path):
    study, base = study_in(tmp_path), noisy(3, 30, 3)
    for seed in range(3): put(study, "full", seed, base[seed])
    for seed in (1, 2): put(study, "fade", seed, base[seed] + 0.1 * seed)
    put(study, "no_tr", 0, base[0] - 1)
    found, back = difference(study, "fade", "full", "region_error"), difference(study, "full", "fade", "region_error")
    assert found["seeds"] == pytest.approx([0.1, 0.2]) and found["mean"] == pytest.approx(0.15) and found["n"] == 30
    reach = 12.706 * 0.05
    assert found["ci"] == pytest.approx((0.15 - reach, 0.15 + reach)), "pair by pair: the pairs' spread, ten times as large, cancels"
    assert back["mean"] == pytest.approx(-found["mean"]) and back["ci"] == pytest.approx([-x for x in found["ci"][::-1]])
    same = difference(study, "full", "full", "region_error")
    assert same["mean"] == 0 and same["ci"] == (0, 0) and same["seeds"] == [0, 0, 0]
    assert difference(study, "fade", "no_tr", "region_error") is None, "no seed in common"
    assert difference(study, "margin3", "full", "region_error") is None and difference(study, "fade", "full", "psnr") is None
    put(study, "no_tr", 1, base[1], diverged="step 3: loss/rec is nan; there is no checkpoint yet")
    assert difference(study, "fade", "no_tr", "region_error") is None, "a diverged run is compared with nothing"
    hair = difference(study, "full", "no_tr", "region_error_hair")
    assert hair["mean"] == pytest.approx(1) and hair["seeds"] == pytest.approx([1]) and hair["ci"] is None, "one seed has no interval"


def test_the_table_shows_means_over_seeds_and_what_is_missing(tmp_path):
    study = study_in(tmp_path)
    for seed in range(2): put(study, "full", seed, np.full((30, 3), 0.1 + 0.2 * seed), psnr=np.full((30, 1), 20. + seed))
    titles, full, fade = table_of(study, ["full", "fade"], ("region_error", "region_error_hair", "psnr", "correspondence"), range(3))
    error = "0.200 ± 1.271 (0.100 0.300)"                                          # t of two seeds: 12.7
    assert full == (ROWS["full"].title, error, error, "20.5 ± 6.4 (20.0 21.0)", "–", "2 seeds")
    assert table_of(study, ["full"], ("region_error", "psnr"), range(1))[1][1:3] == ("0.100", "20.0"), "one seed: no interval"
    assert table_of(study, ["full"], ("region_error", "psnr"), interval=False)[1][1:3] == ("0.200", "20.5")
    assert fade == (ROWS["fade"].title, "–", "–", "–", "–", "not run") and len(titles) == len(full) == len(fade)
    assert row_status(study, "full", [1, 2]) == "1 seed"
    experiments = dict(zip(EXPERIMENTS, tables.experiment_rows(study)[1:]))
    runs = {name: 3 * sum(not ROWS[n].untrained for n in names) for name, names in EXPERIMENTS.items()}
    runs["table1"] *= len(tables.TABLE1_DATA)
    assert {name: row[2] for name, row in experiments.items()} == {name: f"{2 * ('full' in EXPERIMENTS[name])} of {n}" for name, n in runs.items()}
    rows = tables.difference_rows(study, ["full", "fade"], "full", ("region_error", "psnr"))
    assert len(rows) == 1, "neither the base itself nor what was not run"
    for seed in range(2): put(study, "fade", seed, np.full((30, 3), 0.05 + 0.2 * seed), psnr=np.full((30, 1), 22. + seed))
    row = tables.difference_rows(study, ["full", "fade"], "full", ("region_error", "psnr"))[1]
    assert row == (ROWS["fade"].title, "-0.050 ± 0.000 (-0.050 -0.050)", "+2.0 ± 0.0 (+2.0 +2.0)", "2")
    row = tables.difference_rows(study, ["full", "fade"], "full", ("region_error", "psnr"), range(1))[1]
    assert row == (ROWS["fade"].title, "-0.050", "+2.0", "1"), "one seed: no interval"


# Data

class Marked:
    "A data set whose sample i is a picture of `mark`, and whose line art is of i."
    def __init__(self, mark, n): self.mark, self.n, self.asked = mark, n, []
    def __len__(self): return self.n

    def batch(self, index, noise=None):
        assert all(0 <= i < self.n for i in index), "an index of another set"
        self.asked.append(len(index))
        lines = torch.tensor(np.asarray(index)).float().view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
        return Samples(torch.full((len(index), 3, 2, 2), float(self.mark)), lines, torch.full((len(index), 2, 2), 2 + self.mark, dtype=torch.uint8))

    def partners(self, index, noise): return (np.asarray(index) + 1) % self.n


def test_mixed_gives_each_index_its_own_sample_in_order():
    mixed = Mixed([Marked(0, 3), Marked(1, 1), Marked(2, 4)])
    assert len(mixed) == 8
    whole = [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (2, 1), (2, 2), (2, 3)]
    for index in ([*range(8)], [7, 0, 3, 4, 2, 5, 1, 6], [4, 4, 0, 7, 0], [3], np.array([6, 2])):
        image, line, parts = mixed.batch(index)
        assert [(int(a[0, 0, 0]), int(b[0, 0, 0])) for a, b in zip(image, line)] == [whole[i] for i in index]
        assert image.shape == (len(index), 3, 2, 2) and line.shape == (len(index), 1, 2, 2)
        assert [int(p[0, 0]) - 2 for p in parts] == [whole[i][0] for i in index], "label 2 is hair in one set and something else in another"
    assert mixed.partners(np.array([7, 0, 3, 4, 2]), torch.zeros(5)).tolist() == [4, 1, 3, 5, 0], "a partner is of the same set"


@pytest.fixture(scope="module")
def emoji(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REFCOLOR_CACHE", str(tmp_path_factory.mktemp("cache")))
        return open_dataset("openmoji", split="test", size=64, n=128)


def main_colour(picture, mask):
    colours, times = torch.unique(picture.permute(1, 2, 0)[mask], dim=0, return_counts=True)
    return colours[times.argmax()]


def test_emoji_people_are_people_and_never_the_same_drawing(emoji):
    pairs = EmojiPeople(emoji, 40)
    assert 2 <= pairs.people < 40 == len(pairs.a) == len(pairs.b)
    for i in {*pairs.a, *pairs.b}:
        assert all((emoji.parts[i] == emoji.part_labels[p]).sum() >= 40 for p in ("hair", "skin")), emoji_code(emoji.seeds[i])
    keys = [[shape_key("openmoji", emoji.seeds[i]) for i in side] for side in (pairs.a, pairs.b)]
    assert all(a != b for a, b in zip(*keys))
    assert len(set(pairs.a[:pairs.people])) == pairs.people, "all of them, before one comes again"


def test_an_emoji_never_meets_another_seed_of_its_own_lines():
    "Two seeds, a round of the groups apart, draw the same lines."
    seeds = [5, 5 + len(emoji_groups()), 6]
    stub = SimpleNamespace(part_labels={"hair": 2, "skin": 3}, people=np.arange(3), seeds=seeds)
    pairs = EmojiPeople(stub, 60)
    assert {tuple(p) for p in np.stack([pairs.a, pairs.b], 1).tolist()} == {(0, 2), (1, 2), (2, 0), (2, 1)}


def test_an_emoji_in_the_references_colours_has_its_hair(emoji):
    pairs = EmojiPeople(emoji, 24)
    sketch, reference, truth, parts, reference_parts, *_ = pairs.batch(list(range(24)))
    label = pairs.labels["hair"]
    hair, theirs, own = ([main_colour(x, m == label) for x, m in zip(pictures, masks)] for pictures, masks in
                         ((truth, parts), (reference, reference_parts), (emoji.batch(pairs.a).image, parts)))
    assert torch.stack(hair).sub(torch.stack(theirs)).abs().max() < 3 / 127.5
    assert torch.stack(hair).sub(torch.stack(own)).abs().amax(1).median() > 0.3          # and not the colours of its own
    # the drawing is the sketch's: where its ink is, the truth is dark
    ink = (sketch < -0.9).expand_as(truth)
    assert truth[ink].mean() < -0.7


def test_a_bent_reference_takes_its_parts_along():
    dataset, n = open_dataset("avatars", split="test", size=64, n=16), 16
    plain, bent = CrossReference(dataset, n), BentReference(dataset, n)
    a, b = (source.batch(list(range(n))) for source in (plain, bent))
    assert torch.equal(a.sketch, b.sketch) and torch.equal(a.truth, b.truth) and torch.equal(a.parts, b.parts)
    assert (a.reference - b.reference).abs().mean((1, 2, 3)).min() > 0.02, "a reference was not bent"
    assert b.reference_parts.dtype == a.reference_parts.dtype == torch.uint8
    assert set(b.reference_parts.unique().tolist()) <= set(a.reference_parts.unique().tolist()), "labels were mixed"
    labels = [*bent.labels.values()]
    unbent, along, behind = (region_means(r, p, labels)[0] for r, p in
                             ((a.reference, a.reference_parts), (b.reference, b.reference_parts), (b.reference, a.reference_parts)))
    size = torch.stack([(b.reference_parts == k).sum((1, 2)) for k in labels], 1) >= 40
    gap, wrong = (float((x - unbent).abs().mean(-1)[size].mean()) for x in (along, behind))
    assert gap < 0.05 < wrong / 2, (gap, wrong)
    alone = bent.batch([5])
    assert torch.allclose(alone.reference[0], b.reference[5], atol=1e-5), "how a pair is bent depends on the batch that it is in"
    assert bent.prefix and bent.prefix not in ("", "self_")


# The committed results

def committed(): return sorted(p for p in RESULTS.glob("*.json") if not p.name.startswith("."))
def rows_of(paths): return [p for p in paths if p.name.split("-")[0] in ("tiny", "small", "paper")]


@pytest.mark.parametrize("path", committed(), ids=lambda p: p.stem)
def test_a_committed_result_says_where_it_comes_from(path):
    result = strict(path)
    assert {"command", "digest", "modules", "preset", "seed", "seconds", "device", "libraries", "metrics"} <= set(result)
    assert result["command"].startswith("refcolor ") and len(result["digest"]) == 12 and result["device"]
    assert {"torch", "numpy"} <= set(result["libraries"]) and isinstance(result["seed"], int) and result["metrics"]


@pytest.mark.parametrize("path", rows_of(committed()), ids=lambda p: p.stem)
def test_a_committed_row_is_a_row_and_is_whole(path):
    result, (preset, data, name, seed, *on) = strict(path), path.stem.split("-")
    metrics = result["metrics"]
    assert name in ROWS and str(result["seed"]) == seed and result["preset"]["name"].lower() == preset
    assert "reproduce" in result["command"] and result["modules"] == list(ROOTS)
    assert metrics["precision"] in ("fp32", "bf16") and metrics["mutant"] == ROWS[name].mutant and metrics.get("extra", "") == ROWS[name].extra
    assert not on or (on[0] == "on" and on[1] in rows.TABLE1_DATA and on[1] != data)
    if on or ROWS[name].untrained: assert "curve" not in metrics
    else:
        done = [line["step"] for line in metrics["curve"]]
        assert done == sorted(set(done)) and done[0] == 0
    if "diverged" in metrics: return
    assert ("training" in result["probe"]) == (not ROWS[name].untrained) and result["probe"]["judging"] and result["probe"]["processor"]
    if ROWS[name].untrained: assert result["seconds"] == 0 and not on and seed == "0"
    else: assert result["seconds"] > 0 and (on or done[-1] == result["preset"]["train"]["steps"])
    assert {"region_error", "psnr", "self_psnr"} <= set(metrics["pairs"]) and len({len(v) for v in metrics["pairs"].values()}) == 1
    for metric, values in metrics["pairs"].items():
        if metrics[metric] is not None: assert mean_of(np.array(values, dtype=float)) == pytest.approx(metrics[metric], abs=1e-3), metric
