"""Unmodified llama-completion on our caches."""

import pytest

from engine import held

# Prompts whose continuation is certain: the engine gives the same text with and without flash attention, which differ in
# rounding. Of others, the engine's own kernels make different texts.
COUNTING = "1, 2, 3, 4, 5, 6, 7, 8,"
ALPHABET = "The letters of the alphabet are A, B, C, D,"
WEEK = "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday, Monday,"


@pytest.mark.parametrize("prompt", [COUNTING, ALPHABET, WEEK])
def test_within_the_exact_tail_the_text_is_that_of_f16(engine, smollm2, prompt):
    stock = engine.complete(smollm2, prompt, 32, "-c", 512).ok()
    ours = engine.complete(smollm2, prompt, 32, "-c", 512, preset="k4v4").ok()
    assert ours.text == stock.text
    assert ours.ours == [] and held(ours.log)["packed"] == 60


@pytest.mark.parametrize("preset", ["k4v4", "k3v2"])
def test_a_long_prompt_is_remembered(engine, smollm2, preset, tmp_path):
    """A fact from hundreds of tokens ago, of which only codes are left."""
    prompt = tmp_path / "prompt.txt"
    numbers = "".join(f" {number}," for number in range(100, 220))
    prompt.write_text(f"The name of the ship is Aurora Borealis. I count:{numbers} and so on. The name of the ship is Aurora")
    done = engine.complete(smollm2, prompt, 4, "-c", 1024, preset=preset).ok()
    assert done.text.lower().startswith(" borealis"), done.text
    assert held(done.log)["bits"] < 8


def test_all_layers_in_f16_is_exactly_the_stock_engine(engine, smollm2):
    prompt = "The water cycle begins when"  # far from certain
    stock = engine.complete(smollm2, prompt, 32, "-c", 512).ok()
    ours = engine.complete(smollm2, prompt, 32, "-c", 512, preset="k4v4", TQ_LAYERS="0-29=f16").ok()
    assert ours.text == stock.text


def test_some_layers_in_f16(engine, smollm2):
    done = engine.complete(smollm2, COUNTING, 16, "-c", 512, preset="k4v4", TQ_LAYERS="0-3=f16,7=k8v4").ok()
    assert done.text.startswith(" 9, 10, 11,")
    assert held(done.log)["packed"] == 52 and held(done.log)["plain"] == 8


@pytest.mark.parametrize("isa", ["scalar", "avx2", "avx512vnni", "avx512vbmi"])
def test_every_processor(engine, smollm2, isa):
    """An instruction set that this machine lacks gives the best one it has."""
    done = engine.complete(smollm2, WEEK, 24, "-c", 512, preset="k4v4", TQ_FORCE_ISA=isa).ok()
    assert done.text.startswith(" Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday, Monday, Tuesday,")


def test_prompt_cache_file(engine, smollm2, tmp_path):
    """--prompt-cache: the state goes to a file, and the next process starts from it."""
    prompt = "".join(f" {number}," for number in range(100, 150))
    arguments = ["-c", 512, "--prompt-cache", tmp_path / "state.bin"]
    first = engine.complete(smollm2, prompt, 25, *arguments, preset="k4v4").ok()
    second = engine.complete(smollm2, prompt, 25, *arguments, preset="k4v4").ok()
    assert "session file" in second.log or "saved session" in second.log
    assert second.text == first.text
    assert first.text.startswith(" 150, 151, 152, 153, 154,")


def test_gemma_with_its_sliding_window(engine, gemma3, tmp_path):
    """Heads of 256, and layers whose cache is a ring of cells that are written again and again."""
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("".join(f" {number}," for number in range(100, 400)))  # 1,500 tokens; the window is 512
    done = engine.complete(gemma3, prompt, 25, "-c", 2048, preset="k4v4").ok()
    assert done.text.startswith(" 400, 401, 402, 403, 404"), done.text
    assert held(done.log)["plain"] == 0


def test_qwen_with_its_large_keys(engine, qwen):
    done = engine.complete(qwen, "def fibonacci(n):\n    if n <= 1:\n        return", 16, "-c", 512, preset="k4v4").ok()
    assert done.text.startswith(" n\n"), done.text
    assert held(done.log)["plain"] == 0
