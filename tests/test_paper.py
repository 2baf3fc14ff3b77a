"""PAPER is heavy, so it stands here once: one full training step at 256×256 with all five losses, on the CPU."""
from dataclasses import replace

import torch

from refcolor.core import PAPER
from refcolor.data.datasets import open_dataset
from refcolor.train import Learner


def test_paper_makes_a_full_training_step():
    # the λ of VGG19 need VGG19's file; the offline network has its own λ, and the rest of the step is the same
    preset = replace(PAPER, train=replace(PAPER.train, batch=1, features="lite0"))
    learner = Learner(preset, open_dataset("avatars", split="train", size=256, n=2))
    g, d = learner.generator, learner.discriminator
    assert abs(sum(p.numel() for p in g.parameters()) - 82.9e6) < 0.1e6
    before = [p.detach().clone() for p in (g.blocks[0].body[0][0].weight, g.fusion.w_q.weight, d.net[0].weight)]
    calls, shapes = [], []
    def note(module, args, out):
        calls.append(1)
        shapes.append(tuple(out.logits.shape))
    g.register_forward_hook(note)
    log = learner.step(measure=True)
    assert len(calls) == 1, "one generator forward a step"
    assert shapes == [(1, 256, 256)]
    for name in ("tr", "rec", "adv_g", "perc", "style"): assert log[f"loss/{name}"] > 0
    after = [g.blocks[0].body[0][0].weight, g.fusion.w_q.weight, d.net[0].weight]
    assert not any(torch.equal(a, b) for a, b in zip(before, after)), "something did not learn"
    assert all(p.grad is None for p in learner.phi.parameters())
