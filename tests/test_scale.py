"""The benchmark as a command, and the result file that engine/scale and the README read."""
import json

import pytest
import torch

from refcolor.app.cli import main
from refcolor.core import TINY
from refcolor.engine.scale import (GROUPS, attention_cases, bench, choice_cases, flat_cases, step_learner,
                                   time_of)


def test_bench_prints_a_table_and_one_json_object(tmp_path, capsys):
    out = tmp_path / "bench.json"
    threads = torch.get_num_threads()
    assert main(["bench", "--preset", "TINY", "--what", "warp,sketch", "--repeats", "1", "--json", "--out", str(out)]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert set(result["rows"]) == {"warp, 16 pictures", "a, s and XDoG, 16 pictures", "XDoG, 16 pictures"}
    assert "XDoG, 16 pictures" in captured.err and "GFLOP/s" in captured.err
    assert json.loads(out.read_text())["metrics"] == result and torch.get_num_threads() == threads


@pytest.mark.parametrize("arguments,expected", [
    (["--what", "speed"], "unknown 'speed'"), (["--preset", "TINY", "--what", "warp", "--repeats", "1", "--out", "/proc/no/bench.json"], "cannot write")])
def test_bench_refuses_in_one_line(arguments, expected, capsys):
    assert main(["bench", *arguments]) == 2
    lines = [l for l in capsys.readouterr().err.splitlines() if l.startswith("refcolor")]
    assert len(lines) == 1 and expected in lines[0]


def test_every_group_has_cases_that_run():
    "Each case once, for the smallest preset; the groups that are left out have tests of their own."
    torch.set_num_threads(1)
    for name in set(GROUPS) - {"fid", "step", "attention", "flat"}:
        for case, f in GROUPS[name](TINY).items(): f()
    for advice, pair in choice_cases(TINY).items():
        if "compile" not in advice:                   # a minute of compiling
            for f in pair: f()


def test_flat_drawings_are_coloured_from_weights_to_picture():
    for size in (200, 900):
        (name, f), = flat_cases(TINY, (size,)).items()
        picture = f()
        assert name == f"colour flat, {size}²" and picture.size == (size, size)
        assert len(picture.getcolors(2 ** 20)) > 3


def test_the_pieces_of_a_step_are_what_the_step_computes():
    "A piece that was left out of the table would show as a gap; so the whole must not be much more than its pieces."
    torch.set_num_threads(1)
    rows = bench(["step"], TINY, repeats=3)["rows"]
    parts = ("generator forward + backward", "discriminator", "lite0", "augmentation", "Adam, average")
    whole, pieces = rows["step, lite0"]["cpu_s"], sum(rows[p]["cpu_s"] for p in parts)
    assert 0.6 < whole / pieces < 1.6, (whole, pieces)       # TINY: calls of microseconds, and a busy machine


def test_a_step_runs_each_network_as_often_as_it_must():
    "The waste that a benchmark hides when its baseline has it too: count the calls."
    learner, calls = step_learner(TINY), []
    networks = {"G": learner.generator, "D": learner.discriminator, "phi": learner.phi}
    for name, network in networks.items(): network.register_forward_hook(lambda *_, name=name: calls.append(name))
    learner.step()
    assert {n: calls.count(n) for n in networks} == {"G": 1, "D": 2, "phi": 2}      # D: real and fake in one; then for G


def test_attention_without_its_map_needs_less_than_a_tenth_of_the_memory():
    cases = attention_cases(TINY)
    lean, naive = (time_of(cases[f"{kind}4096 positions"], repeats=1).memory for kind in ("attention, ", "naive attention, "))
    if lean is None: pytest.skip("this system does not tell how much memory was in use")
    vectors = 4 * 4096 * TINY.model.d_v * 4 / 1e6           # q, k, v and the result, which both need
    assert max(0, lean - vectors) < (naive - vectors) / 10, (lean, naive)
