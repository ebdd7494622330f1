"""Which layers take 8-bit keys by themselves, and that a preset without them says so (docs/decisions/0004-wide-keys.md)."""

import re

import pytest

from engine import held
from tiny_model import LARGE, Shape

LINES = {
    "wide": re.compile(r"layer (\d+) takes 8-bit keys: with (\d) bits they would add noise of ([\d.]+) to attention's logits \(limit 1\.00\)"),
    "narrow": re.compile(r"layer (\d+) keeps (\d)-bit keys: noise of attention's logits ([\d.]+)"),
    "noisy": re.compile(
        r"layer (\d+): coding its keys with (\d) bits adds noise of ([\d.]+) to attention's logits \(limit 1\.00\) and this preset has no 8-bit keys "
        r"to take instead; expect (?:worse|wrong) output; use k4v4, or leave the layer in f16 with TQ_LAYERS=\1=f16"
    ),
}
LAYERS = {"smollm2": 30, "gemma3": 18, "qwen": 24}


@pytest.fixture(scope="module")
def judged(engine, smollm2, gemma3, qwen, prose, random_model, tmp_path_factory):
    """judged(model, preset): for each kind of line the noise by layer, and the run itself. The prompt is three tiles and more."""
    models = {"smollm2": smollm2, "gemma3": gemma3, "qwen": qwen}
    prompt = tmp_path_factory.mktemp("wide") / "prompt.txt"
    prompt.write_text(prose.read_text()[2000:3600])

    def judge(model, preset):
        path = models.get(model) or random_model(model)
        done = engine.complete(path, prompt, 1, "-c", 2048, preset=preset, TQ_VERBOSE=1).ok()
        found = {kind: {int(m[1]): float(m[3]) for m in line.finditer(done.log)} for kind, line in LINES.items()}
        print(model, preset, found)
        return found, done

    return judge


@pytest.mark.parametrize("model", LAYERS)
def test_no_layer_of_these_models_needs_them_at_four_bits(judged, model):
    found, done = judged(model, "k4v4")
    assert found["wide"] == found["noisy"] == {}
    assert sorted(found["narrow"]) == list(range(LAYERS[model]))  # every layer was judged
    assert 0 < max(found["narrow"].values()) < 0.75  # none is near the limit
    assert held(done.log)["wide"] == 0


def test_without_balance_the_first_layer_of_qwen_does(judged):
    found, done = judged("qwen", "k4v4:balanced_keys=0")
    assert list(found["wide"]) == [0] and 4 < found["wide"][0] < 10
    assert max(found["narrow"].values()) < 0.75 and len(found["narrow"]) == 23
    assert held(done.log)["wide"] == 1


def test_two_bits_are_too_few_for_four_layers_of_qwen(judged):
    """Decision 0004 has their noise; layers 11 (1.04) and 23 (.93) lie near the limit."""
    found, done = judged("qwen", "k2v2")
    assert sorted(found["wide"]) == [0, 8, 9, 11] and max(found["wide"].values()) < 2
    assert held(done.log)["wide"] == 4


def test_exactly_the_layer_with_large_keys_does(judged):
    shape = Shape(head_dim=64, layers=3, large_keys=(1,))
    found, done = judged(shape, "k4v4")
    assert list(found["wide"]) == [1] and sorted(found["narrow"]) == [0, 2]
    assert held(done.log)["wide"] == 1
    ordinary, done = judged(Shape(head_dim=64, layers=3), "k4v4")
    assert ordinary["wide"] == {} and held(done.log)["wide"] == 0
    assert found["wide"][1] == pytest.approx(LARGE * ordinary["narrow"][1], rel=0.15)


# --- presets that have none ---


def test_a_preset_without_them_says_which_layers_would_need_them(judged):
    found, done = judged(Shape(head_dim=64, layers=3, large_keys=(1,)), "k4v4:wide_keys=0")
    assert found["wide"] == {} and list(found["noisy"]) == [1] and sorted(found["narrow"]) == [0, 2]
    assert len([line for line in done.ours if "expect wrong output" in line]) == 1  # not "worse": 7
    assert held(done.log)["wide"] == 0


def test_the_papers_presets_say_so_on_qwen(judged):
    """Without a reference, keys are as large as their bias: paper-3.5 has a mean KL divergence above 1 there."""
    found, _ = judged("qwen", "paper-3.5")
    assert found["wide"] == {} and {0, 1, 2, 4, 8} <= set(found["noisy"]) and found["noisy"][0] > 10
    assert len(found["noisy"]) + len(found["narrow"]) == 24
    ordinary, done = judged("smollm2", "paper-3.5")
    assert set(ordinary["noisy"]) <= {18} and len(ordinary["noisy"]) + len(ordinary["narrow"]) == 30
    assert not any("expect wrong output" in line for line in done.ours)


def test_without_a_tail_nobody_knows(judged):
    """Rows are coded before any query has come: docs/llamacpp.md says that there is no such line."""
    found, done = judged("qwen", "k4v4-plain")
    assert found == {"wide": {}, "narrow": {}, "noisy": {}} and done.ours == []
