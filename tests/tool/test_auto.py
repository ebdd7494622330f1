"""turboquant auto, and the preset auto@BITS of the other subcommands."""

import pytest

from support import MODEL, PROSE, answer, needs_model, needs_plugin, one_clear_line, tool


@pytest.fixture(scope="module")
def plan():
    [result] = answer("auto", "-m", MODEL, "--bits", 4.5, "-c", 4096, "--json")["results"]
    return result


@needs_plugin
def test_json_keeps_the_budget_and_says_why(plan):
    assert 4.3 < plan["bits"] <= plan["budget_bits"] == 4.5
    assert [layer["layer"] for layer in plan["layers"]] == list(range(30))
    assert sum(layer["share_of_harm"] for layer in plan["layers"]) == pytest.approx(1, abs=0.01)
    assert plan["bytes"] == pytest.approx(plan["bits"] / 8 * 30 * 2 * 3 * 64 * 4096, rel=1e-4)
    noisiest = max(plan["layers"], key=lambda layer: layer["key_noise"])
    assert "as noisy as usual" in noisiest["why"]
    assert noisiest["key_bits"] > sorted(layer["key_bits"] for layer in plan["layers"])[15]


@needs_plugin
def test_memory_is_the_same_budget_in_bytes(plan):
    [result] = answer("auto", "-m", MODEL, "--memory", 30 * 2 * 3 * 64 * 4096 * 4.5 / 8 / 2**20, "-c", 4096, "--json")["results"]
    assert (result["preset"], result["layers_text"]) == (plan["preset"], plan["layers_text"])


@needs_plugin
def test_a_text_of_ones_own_gives_nearly_the_same_noise(plan):
    [other] = answer("auto", "-m", MODEL, "--bits", 4.5, "-c", 4096, "-f", PROSE, "--json")["results"]
    for one, two in zip(plan["layers"], other["layers"]):
        assert 0.6 < one["key_noise"] / two["key_noise"] < 1.6, (one, two)


@needs_plugin
def test_the_text_ends_in_a_command_that_exec_takes():
    done = tool("auto", "-m", MODEL, "--bits", 4.25, "-c", 8192)
    assert done.returncode == 0, done.stderr
    command = done.stdout.strip().splitlines()[-1].split()
    assert command[:3] == ["turboquant", "exec", "--preset"] and command[-2:] == ["-c", "8192"]
    printed = tool(*command[1:2], "--print", *command[2:])
    assert printed.returncode == 0, printed.stderr


@needs_plugin
def test_the_cache_that_auto_chooses_holds_no_more_than_its_budget():
    bench = answer("bench", "-m", MODEL, "--cache", "auto@4.9,k4v4", "-d", 2048, "-p", 0, "-n", 4, "-r", 1, "--json")["results"]
    bits = {result["cache"]: result["bits_per_value"] for result in bench}
    assert bits["auto@4.9"] <= 4.9 < bits["k4v4"]


@needs_plugin
def test_exec_chooses_for_the_programs_model_and_lets_exceptions_win():
    [result] = answer("exec", "--print", "--json", "--preset", "auto@4.5", "--layers", "3=f16", "--", "llama-server", "-m", MODEL, "--ctx-size=4096")["results"]
    assert result["variables"]["TQ_PRESET"][0] == "k" and result["variables"]["TQ_LAYERS"].endswith(",3=f16")
    assert result["command"] == ["llama-server", "-m", MODEL, "--ctx-size=4096", "-dev", "TQ0"]


@needs_model
@pytest.mark.parametrize(
    "arguments, code, says",
    [
        (["auto", "-m", MODEL], 2, "either --bits or --memory"),
        (["auto", "-m", MODEL, "--bits", 4, "--memory", 4], 2, "either --bits or --memory"),
        (["auto", "-m", MODEL, "--bits", 2, "-c", 4096], 2, "the smallest plan takes"),
        (["auto", "-m", MODEL, "--bits", 4, "-f", "no-such-file"], 2, "no-such-file"),
        (["auto", "-m", "no-such-file", "--bits", 4], 1, "no model file"),
        (["run", "-m", MODEL, "-p", "x", "--cache", "auto"], 2, "auto@4.25"),
        (["run", "-m", MODEL, "-p", "x", "--cache", "auto@x"], 2, "auto@4.25"),
        (["exec", "--preset", "auto@4", "--", "llama-server"], 2, "given none with -m"),
    ],
)
def test_what_cannot_be_planned(arguments, code, says):
    assert says in one_clear_line(tool(*arguments), code)


@needs_model
def test_a_short_text_is_too_little(tmp_path):
    (tmp_path / "short.txt").write_text("Too short.")
    assert "text is too short" in one_clear_line(tool("auto", "-m", MODEL, "--bits", 5, "-f", tmp_path / "short.txt"), 1)
