"""15_attention beyond the lesson: rows and columns, ties, parts, looks that are not the generator's, bad input."""
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
import torch

from refcolor.attention import attention_row, cell_colours, entropy, heat_map, look, move_cells, part_mass, part_point, part_shares, strongest
from refcolor.core import TINY, UserError
from refcolor.data.datasets import open_dataset
from refcolor.generator import Generator, load_generator
from refcolor.scft import SCFT

WEIGHTS = files("refcolor") / "weights" / "tiny"


@pytest.fixture(scope="module")
def pair():
    torch.set_num_threads(1)
    batch = open_dataset("avatars", split="valid", size=64, n=32).batch([0, 13])
    return batch.sketch[:1], batch.image[1:]


@pytest.mark.parametrize("point", [(-1., -1.), (1., 1.), (0., 0.3), (1.2, -7.)])
def test_rows_sum_to_one_also_on_the_very_edge(point):
    logits = torch.randn(256, 256, generator=torch.Generator().manual_seed(0))
    assert attention_row(logits, *point).sum().item() == pytest.approx(1, abs=1e-4)


def test_x_goes_to_the_right_and_y_down():
    one = torch.full((4, 4), -20.)
    one[1, 2] = 20.                                          # upper right looks at lower left
    assert attention_row(one, 0.5, -0.5).argmax() == 2 != attention_row(one, -0.5, 0.5).argmax()


def test_of_equal_matches_the_first_comes_first():
    assert strongest(torch.tensor([0.125, 0.5, 0.125, 0.25]), 3) == [(1, 0.5), (3, 0.25), (0, 0.125)]
    assert len(strongest(torch.ones(2, 2) / 4, 9)) == 4


def test_the_surest_row_has_an_entropy():
    sure = torch.eye(256)[3]
    assert entropy(sure) == 0 and not torch.isfinite(-(sure * sure.log()).sum())


def test_the_table_of_parts_has_rows_of_looks():
    s, t = (part_shares(torch.tensor(x), [2], 2) for x in ([[2, 0], [2, 0]], [[2, 0], [0, 0]]))
    alpha = torch.eye(4)[[0, 1, 3, 3]]
    assert part_mass(alpha, s, t).sum(1).tolist() == [1, 1]
    assert ((s.T @ alpha @ t / t.sum(0)).sum(1) - 1).abs().max() > 0.3      # divided by what is looked at
    assert part_mass(alpha, s * 0, t).isnan().all()


def test_cells_are_moved_and_a_part_s_point_lies_deep_inside():
    assert move_cells(torch.tensor([[2, 0], [2, 0]]), torch.tensor([1, 0, 2, 3])).tolist() == [[0, 2], [2, 0]]
    square = torch.zeros(8, 8, dtype=torch.uint8)
    square[1:6, 2:7] = 5                                     # rows 1–5, columns 2–6: the middle is row 3, column 4
    assert part_point(square, 5) == ((4 * 2 + 1) / 8 - 1, (3 * 2 + 1) / 8 - 1)


def test_a_heat_map_is_brighter_where_more_is():
    layer = heat_map(torch.tensor([0., 0.25, 0.5, 1.]))
    luma = layer[..., :3].reshape(4, 3) @ [0.299, 0.587, 0.114]
    assert (np.diff(luma) > 20).all() and (np.diff(layer[..., 3].flatten().astype(int)) > 0).all()


def test_a_look_is_the_generator_and_a_generator_without_the_sketch_s_own_vectors_is_another(pair):
    generator = load_generator(WEIGHTS)
    with torch.no_grad(): plain = generator(*pair)
    seen = look(generator, *pair)
    assert torch.equal(seen.fake, plain.fake[0]) and torch.equal(seen.logits, plain.logits[0])
    generator.fusion.forward = lambda v_s, v_r, *rest: (SCFT.forward(generator.fusion, v_s, v_r)[0] - v_s, None)
    with torch.no_grad(): assert not torch.allclose(generator(*pair).fake, plain.fake)


def test_with_the_fusion_off_or_a_blank_reference_there_is_nothing_to_see(pair):
    generator = load_generator(WEIGHTS)
    off = look(generator, pair[0], pair[1], ablation="fusion off")
    assert torch.equal(off.fake, look(generator, pair[0], -pair[1], ablation="fusion off").fake) and not off.alpha.any()
    blank = look(generator, *pair, ablation="blank reference")
    assert (blank.alpha @ cell_colours(blank.reference, 16)).numpy() == pytest.approx(255, abs=1e-2)


def test_bad_input_is_one_sentence(pair):
    generator = load_generator(WEIGHTS)
    with pytest.raises(ValueError, match="temperature: expected above 0"): look(generator, *pair, temperature=0.)
    with pytest.raises(ValueError, match="ablation: expected one of"): look(generator, *pair, ablation="blind")
    with pytest.raises(UserError, match="no attention"): look(Generator(replace(TINY.model, fusion="addition")), *pair)
