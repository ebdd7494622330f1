"""What the plug-in cannot do, or is asked for wrongly: correct text or one clear line, never a crash, never garbage."""

import subprocess

import pytest

from engine import held
from tiny_model import Shape

PROMPT = "1, 2, 3, 4, 5, 6, 7, 8,"
CONTINUED = " 9, 10, 11, 12,"


def one_line(done):
    assert len(done.ours) == 1, done.ours
    return done.ours[0]


# --- caches that stay as the engine makes them ---


def test_without_flash_attention(engine, smollm2):
    arguments = [smollm2, "The water cycle begins when", 24, "-c", 512, "-fa", "off"]
    done = engine.complete(*arguments, preset="k4v4").ok()
    assert done.text == engine.complete(*arguments).ok().text
    assert "plain f16" in one_line(done) and "-fa on" in one_line(done)


def test_partial_offload(engine, smollm2):
    done = engine.complete(smollm2, PROMPT, 16, "-c", 512, "-ngl", 2, preset="k4v4").ok()
    assert done.text.startswith(CONTINUED)
    assert "-ngl" in one_line(done)


def test_cache_kept_on_the_cpu(engine, smollm2):
    done = engine.complete(smollm2, PROMPT, 16, "-c", 512, "-nkvo", preset="k4v4").ok()
    assert done.text.startswith(CONTINUED)
    assert "-nkvo" in one_line(done)


@pytest.mark.parametrize("types", [["-ctk", "q8_0"], ["-ctv", "q8_0"], ["-ctk", "q8_0", "-ctv", "q8_0"], ["-ctk", "f32", "-ctv", "f32"]])
def test_another_cache_type(engine, smollm2, types):
    done = engine.complete(smollm2, PROMPT, 16, "-c", 512, *types, preset="k4v4").ok()
    assert done.text.startswith(CONTINUED)
    assert f"plain {types[1]}" in one_line(done) and "-ctk and -ctv" in one_line(done)


def test_heads_of_72(engine, random_model):
    arguments = [random_model(Shape(head_dim=72)), "What a random model says does not matter,", 48, "-c", 512]
    done = engine.complete(*arguments, preset="k4v4").ok()
    assert done.text == engine.complete(*arguments).ok().text
    assert "72" in one_line(done)


def test_one_head_size_of_each_kind(engine, random_model):
    """All sizes with codes, on random weights: the same text as f16 while everything is exact."""
    for head_dim in (64, 80, 96, 112, 128, 192, 256):
        arguments = [random_model(Shape(head_dim)), "What a random model says does not matter,", 24, "-c", 256]
        done = engine.complete(*arguments, preset="k4v4").ok()
        assert done.text == engine.complete(*arguments).ok().text, head_dim
        assert done.ours == [] and held(done.log)["packed"] == 4


# --- wrong requests ---


def test_wrong_preset(engine, smollm2):
    says = engine.complete(smollm2, PROMPT, 4, "-c", 512, preset="k4v7").refused()
    assert "'k4v7'" in says and "did you mean 'k4v4'" in says and "k3v2" in says


@pytest.mark.parametrize("layers", ["nonsense", "0-3", "3-1=f16", "-1=f16", "0=k9v9", "0=f16,,1=f16", "a-b=f16"])
def test_wrong_layers(engine, smollm2, layers):
    says = engine.complete(smollm2, PROMPT, 4, "-c", 512, preset="k4v4", TQ_LAYERS=layers).refused()
    assert "TQ_LAYERS" in says and "0=k8v4,5-7=f16" in says


@pytest.mark.parametrize("size", [4, 5_000, 50_000_000])
def test_truncated_model(engine, smollm2, tmp_path, size):
    short = tmp_path / "short.gguf"
    with open(smollm2, "rb") as whole:
        short.write_bytes(whole.read(size))
    done = engine.complete(short, PROMPT, 4, "-c", 512, preset="k4v4")
    assert done.code == 1 and done.text.strip() == ""
    assert "failed to load model" in done.log  # the engine's line; nothing from us
    assert done.ours == []


# --- plug-ins and engines that do not fit ---


def compiled(folder, name, source):
    (folder / f"{name}.c").write_text(source)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", folder / f"{name}.so", folder / f"{name}.c"], check=True)
    return folder / f"{name}.so"


def test_a_plug_in_for_another_api_version(engine, smollm2, tmp_path):
    """What a build of ours for an engine with backend API version 999 looks like to this engine."""
    plugin = compiled(
        tmp_path,
        "libggml-turboquant",
        """
        struct registration { int api_version; void *interface[4]; void *context; };
        struct registration *ggml_backend_init(void) {
            static struct registration registration = {999};
            return &registration;
        }
        """,
    )
    done = engine.complete(smollm2, PROMPT, 16, "-c", 512, preset="k4v4", plugin=plugin).ok()
    assert done.text.startswith(CONTINUED)
    assert done.log.count("incompatible API version (backend: 999, current: 2)") == 1


def test_an_engine_with_other_operations(engine, smollm2, tmp_path):
    """The API version does not change with every change of the engine; the plug-in looks for itself."""
    other_ggml = compiled(tmp_path, "other_ggml", 'const char *ggml_op_name(int op) { (void)op; return "SOMETHING_ELSE"; }')
    done = engine.complete(smollm2, PROMPT, 16, "-c", 512, preset="k4v4", LD_PRELOAD=other_ggml).ok()
    assert done.text.startswith(CONTINUED)
    assert "built for another ggml" in one_line(done) and "0.25.3" in one_line(done)


def test_no_plug_in_at_this_path(engine, smollm2, tmp_path):
    done = engine.complete(smollm2, PROMPT, 16, "-c", 512, preset="k4v4", plugin=tmp_path / "none.so").ok()
    assert done.text.startswith(CONTINUED)
    assert done.log.count("none.so: cannot open shared object file") == 1


# --- engines that do other things with a cache ---


def test_two_contexts_in_one_process(engine, smollm2):
    """Speculative decoding with the model as its own draft: two caches, and cells of refused tokens written again."""
    plain = engine.complete(smollm2, PROMPT, 24, "-c", 512, preset="k4v4").ok()
    assert plain.text.startswith(CONTINUED)
