"""The generator beside its lesson: shapes, gradients, references, checkpoints, the figure."""
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import matplotlib.pyplot as plt
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from refcolor.core import PAPER, SMALL, TINY, UserError, preset_to_dict
from refcolor.data.datasets import open_dataset
from refcolor.generator import Generator, ResidualBlock, draw_architecture, load_generator, part_shapes


@pytest.fixture(scope="module")
def samples(): return open_dataset("avatars", split="valid", size=64, n=32).batch([0, 1, 2, 3])


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Generator(TINY.model).requires_grad_(False)


@pytest.mark.parametrize("preset", (TINY, SMALL, PAPER), ids=lambda p: p.name)
def test_the_logits_are_alive_at_step_0(preset):
    "Without a norm they would be about 1e-7, and no gradient would tell one position from another."
    batch = open_dataset("avatars", split="valid", size=preset.model.size, n=4).batch([0, 1])
    with torch.no_grad(): assert Generator(preset.model)(batch.sketch, batch.image.flip(0)).logits.std() > 0.1


def test_without_logits_the_picture_is_the_same(net, samples):
    quiet, full = (net(samples.sketch, samples.image.roll(1, 0), need) for need in (False, True))
    assert quiet.logits is None and full.logits.shape == (4, 256, 256)
    torch.testing.assert_close(quiet.fake, full.fake, atol=1e-4, rtol=0)


def test_pictures_need_not_be_square(net):
    assert net(torch.randn(2, 1, 128, 64), torch.randn(2, 3, 128, 64)).fake.shape == (2, 3, 128, 64)


def test_gradients_of_the_picture_reach_all_weights(samples):
    net = Generator(TINY.model)
    net(samples.sketch, samples.image).fake.square().mean().backward()
    dead = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not [n for n in dead if not n.endswith("bias")]


def test_a_block_without_a_correction_lets_x_pass():
    block, x = ResidualBlock(8), torch.randn(2, 8, 6, 6)
    torch.nn.init.zeros_(block.body[2].weight)
    assert block(x).equal(x)


def test_references_stand_side_by_side(net, samples):
    one, two = samples.image, samples.image.flip(0)
    both = net(samples.sketch, [one, two])
    assert both.logits.shape == (4, 256, 512)
    same = dict(atol=1e-4, rtol=0)
    torch.testing.assert_close(net(samples.sketch, [two, one]).fake, both.fake, **same)
    torch.testing.assert_close(net(samples.sketch, [one, one]).fake, net(samples.sketch, one).fake, **same)
    only_two = torch.zeros(256, 512)
    only_two[:, :256] = -torch.inf
    masked = net(samples.sketch, [one, two], mask=only_two).fake
    torch.testing.assert_close(masked, net(samples.sketch, two).fake, **same)
    assert not torch.allclose(both.fake, masked, atol=1e-6)


def test_the_fine_detail_comes_over_the_skips(net, samples):
    def on_ink(x):
        detail = (x - F.avg_pool2d(x, 5, 1, 2)).abs().mean(1)
        return torch.corrcoef(torch.stack([detail.flatten(), (samples.sketch < 0).float().flatten()]))[0, 1]
    full = net(samples.sketch, samples.image).fake
    net.decoder.register_forward_pre_hook(lambda part, given: (given[0], [torch.zeros_like(m) for m in given[1]]))
    assert on_ink(net(samples.sketch, samples.image).fake) < 0.7 * on_ink(full)


@pytest.mark.parametrize("sketch, reference, message", [
    ((4, 3, 64, 64), (4, 3, 64, 64), r"x: expected floating \(b, 1, h, w\)"),
    ((2, 1, 64, 64), (4, 3, 64, 64), "sketch and reference: expected one batch"),
    ((2, 1, 64, 64), (2, 3, 64, 32), "sketch and reference: expected one batch")])
def test_pictures_that_do_not_fit_are_named(net, sketch, reference, message):
    with pytest.raises(ValueError, match=message): net(torch.zeros(sketch), torch.zeros(reference))
    with pytest.raises(ValueError, match="at least one"): net(torch.zeros(1, 1, 64, 64), [])


def test_what_was_saved_comes_back(net, tmp_path):
    net.save_pretrained(tmp_path)
    again = Generator.from_pretrained(tmp_path)
    assert again.preset == TINY and not again.training
    state = net.state_dict()
    assert state.keys() == again.state_dict().keys() and all(v.equal(state[k]) for k, v in again.state_dict().items())
    with pytest.raises(UserError, match="is no folder, and the Hub"): Generator.from_pretrained(tmp_path / "nowhere")


def test_a_push_uploads_that_folder(net):
    "A stand-in takes the place of the network, and keeps the files' names."
    uploaded, hub = [], "huggingface_hub.HfApi"
    def upload(api, folder_path, **rest): uploaded.extend(p.name for p in Path(folder_path).iterdir())
    def create(api, name, **rest): return SimpleNamespace(repo_id=name)
    with patch(f"{hub}.create_repo", create), patch(f"{hub}.upload_folder", upload):
        net.push_to_hub("me/my-colours", token="none")
    assert {"generator.safetensors", "preset.json", "README.md"} <= set(uploaded)


def test_bad_checkpoints_are_named(net, tmp_path):
    with pytest.raises(UserError, match="no generator.safetensors"): load_generator(tmp_path)
    save_file(net.state_dict(), tmp_path / "generator.safetensors")
    (tmp_path / "preset.json").write_text(json.dumps(preset_to_dict(SMALL)))
    with pytest.raises(UserError, match="belongs to another preset"): load_generator(tmp_path)
    (tmp_path / "preset.json").write_text("{}")
    with pytest.raises(UserError, match="preset.json is damaged"): load_generator(tmp_path)


def test_the_figure_is_drawn_from_what_the_parts_return(net, samples):
    "The shapes are those of a run with numbers; noting them draws no random number."
    real, state = {}, torch.get_rng_state()
    shapes, ghost = part_shapes(TINY.model)
    assert state.equal(torch.get_rng_state())
    for name in ("narrow", "blocks.3", "decoder.first", "decoder.blocks.4", "decoder.last", "sketch_encoder.blocks.5"):
        net.get_submodule(name).register_forward_hook(lambda part, given, x, name=name: real.update({name: tuple(x.shape[1:])}))
    net(samples.sketch, samples.image)
    assert real == {name: shapes[name] for name in real}
    assert shapes["fusion"] == (256, TINY.model.d_v) and {p.device.type for p in ghost.parameters()} == {"meta"}


def figure(config):
    fig = draw_architecture(config)
    texts, boxes = [t.get_text() for t in fig.axes[0].texts], len(fig.axes[0].patches)
    plt.close(fig)
    return texts, boxes


def test_the_figure_counts_parameters_and_boxes():
    texts, boxes = figure(PAPER.model)
    assert {"4 residual blocks, 70.9 M", "decoder, 6.7 M", "9 skips", "scft\n256 × 256"} <= set(texts)
    assert boxes == 10 + 10 + 1 + 1 + 4 + 11 + 3          # maps, attention, c, blocks, decoder, pictures
    for blocks in (2, 0):
        texts, fewer = figure(replace(PAPER.model, blocks=blocks))
        assert boxes - fewer == 4 - blocks and any(t.startswith(f"{blocks} residual blocks") for t in texts)


def test_the_figure_leads_each_skip_to_the_block_of_its_size_and_shows_the_pictures():
    pictures = -torch.ones(1, 4, 4), torch.zeros(3, 4, 4), torch.ones(3, 4, 4)
    fig = draw_architecture(PAPER.model, pictures)
    skips = [line.get_ydata() for line in fig.axes[0].lines if line.get_color() == (0.25, 0.45, 0.7)]
    assert len(skips) == 9 and all(y[0] == y[-1] < y[1] == y[2] for y in skips)       # boxes are as high as maps
    shown = [(image.get_extent(), image.get_array().mean()) for image in fig.axes[0].images]
    (left, *_), (_, _, low, _), (right, _, high, _) = (box for box, _ in shown)
    assert left < right and low < high and [round(grey) for _, grey in shown] == [0, 128, 255]
    plt.close(fig)
