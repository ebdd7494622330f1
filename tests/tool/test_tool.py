"""The command line tool, from outside (support.py says what that needs)."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import pytest

from support import INFO, MODEL, TOOL, answer, clean_environment, needs_engine, needs_model, needs_plugin, one_clear_line, tool


SUBCOMMANDS = re.findall(r"^  ([a-z]+) ", tool("--help").stdout, re.MULTILINE)


@pytest.fixture
def plugin(tmp_path):
    """exec only looks whether the file is there."""
    path = tmp_path / "libggml-turboquant.so"
    path.write_bytes(b"")
    return path


# --- usage ---


@pytest.mark.parametrize(
    "arguments, says",
    [
        ([], "subcommand is required"),
        (["frobnicate"], "no subcommand 'frobnicate'"),
        (["info", "--frob"], "--frob"),
        (["exec"], "put it after --"),
        (["exec", "--json", "--", "ls"], "--print"),
    ],
)
def test_usage_errors_exit_with_2_and_one_line(arguments, says):
    assert says in one_clear_line(tool(*arguments), 2)


def test_a_wrong_subcommand_names_all_there_are():
    says = one_clear_line(tool("frobnicate"), 2)
    assert {"run", "bench", "auto", "eval", "needle", "exec", "info"} <= set(SUBCOMMANDS)
    assert says.endswith("there are " + ", ".join(SUBCOMMANDS[:-1]) + f" and {SUBCOMMANDS[-1]}\n")


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in SUBCOMMANDS), ["--version"]])
def test_help_is_not_an_error(arguments):
    done = tool(*arguments)
    assert done.returncode == 0 and done.stdout and not done.stderr


def test_no_colour_codes_where_nobody_looks():
    assert "\033" not in tool("info", environment={"TERM": "xterm"}).stdout


# --- info ---


def test_info_json():
    environment = INFO["environment"]
    assert environment["cpu"] and environment["threads"] >= 1 and environment["date"]
    chosen = [isa for isa in environment["isa_candidates"] if isa["chosen"]]
    assert len(chosen) == 1 and chosen[0]["name"] == environment["isa"]
    assert all(isa["reason"] for isa in environment["isa_candidates"])
    forced = next(variable["meaning"] for variable in environment["variables"] if variable["name"] == "TQ_FORCE_ISA")
    assert all(isa["name"] in re.findall(r"\w+", forced) for isa in environment["isa_candidates"])
    assert {"TQ_PRESET", "TQ_LAYERS"} <= {variable["name"] for variable in environment["variables"]}
    presets = {result["preset"]: result for result in INFO["results"]}
    assert [name for name, result in presets.items() if result["default"]] == ["k4v4"]
    at_128 = presets["k4v4"]["code_bits_at_head_dim"]["128"]
    assert 4 < at_128["mean"] < presets["k4v4"]["code_bits_at_head_dim"]["64"]["mean"] < 4.6


def test_info_says_what_there_is_for_gpus():
    cuda = INFO["environment"]["cuda"]
    text = tool("info").stdout
    if not cuda["built"]:
        assert cuda == {"built": False} and "CUDA       none in this build (configure with TQ_CUDA=ON)" in text
        return
    assert {kernel["verb"] for kernel in cuda["kernels"]} == {"attend", "prefill"}
    assert all(device["name"] in text and device["processors"] > 0 and device["memory_bytes"] > 0 for device in cuda["devices"])


def test_the_readme_lists_the_presets_as_they_are():
    readme = pathlib.Path(__file__).resolve().parents[2].joinpath("README.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:6]] for line in readme.splitlines() if line.startswith(("| `k", "| `paper-"))]
    expected = []
    for result in INFO["results"]:
        bits = [f"{result['code_bits_at_head_dim'][dim]['mean']:.3f}".rstrip("0") for dim in ("64", "128")]
        expected.append([f"`{result['preset']}`", str(result["key_bits"]), str(result["value_bits"]), *bits])
    assert rows == expected


def test_info_text_names_every_preset_and_variable():
    text = tool("info").stdout
    for result in INFO["results"]:
        assert result["preset"] in text
    for variable in INFO["environment"]["variables"]:
        assert variable["name"] in text


def test_info_shows_the_value_of_a_variable():
    shown = answer("info", "--json", environment={"TQ_PRESET": "k3v2"})["environment"]["variables"]
    assert {v["name"]: v["value"] for v in shown}["TQ_PRESET"] == "k3v2"


# --- exec ---


def test_exec_wrong_preset_names_all_and_the_nearest(plugin):
    says = one_clear_line(tool("exec", "--plugin", plugin, "--preset", "k4v7", "--", "no-such-program"), 2)
    assert "k4v7" in says and "k3v2" in says and "did you mean" in says


def test_exec_missing_plugin(tmp_path):
    assert "--plugin" in one_clear_line(tool("exec", "--plugin", tmp_path / "no.so", "--", "ls"), 1)


def test_exec_missing_program(plugin):
    assert "no-such-program" in one_clear_line(tool("exec", "--plugin", plugin, "--", "no-such-program"), 127)


@pytest.mark.parametrize(
    "program, ends",
    [
        (["llama-server", "-m", "M"], ["-dev", "TQ0"]),
        (["/opt/x/llama-cli"], ["-dev", "TQ0"]),
        (["llama", "serve"], ["-dev", "TQ0"]),
        (["llama-server", "-dev", "TQ0", "-m", "M"], ["-m", "M"]),
        (["llama-server", "--device", "none"], ["--device", "none"]),
        (["llama-server", "--device=none"], ["--device=none"]),
        (["llama-quantize", "a", "b"], ["a", "b"]),
        (["python3", "x.py"], ["python3", "x.py"]),
    ],
)
def test_exec_names_the_device_for_llama_programs_only(plugin, program, ends):
    [result] = answer("exec", "--print", "--json", "--plugin", plugin, "--preset", "k3v2", "--", *program)["results"]
    assert result["command"][: len(program)] == program
    assert result["command"][-len(ends) :] == ends
    assert result["command"] == program + (["-dev", "TQ0"] if ends == ["-dev", "TQ0"] else [])
    assert result["variables"] == {"GGML_BACKEND_PATH": str(plugin), "TQ_PRESET": "k3v2"}


def test_exec_print_is_a_shell_command(plugin):
    printed = tool("exec", "--print", "--plugin", plugin, "--", sys.executable, "-c", "import os; print(os.environ['TQ_PRESET'], \"it's\")").stdout
    assert subprocess.run(["sh", "-c", printed], capture_output=True, text=True).stdout == "k4v4 it's\n"


def test_exec_starts_the_program_with_its_environment_and_exit_code(plugin):
    code = "import os, sys; print(os.environ['TQ_PRESET'], os.environ['TQ_LAYERS'], os.environ['GGML_BACKEND_PATH'], *sys.argv[1:]); sys.exit(7)"
    done = tool("exec", "--preset", "k3v2", "--layers", "0=k8v4", "--plugin", plugin, "--", sys.executable, "-c", code, "--", "--preset")
    assert done.returncode == 7
    assert done.stdout == f"k3v2 0=k8v4 {plugin} -- --preset\n"


def test_exec_keeps_the_preset_of_the_environment(plugin):
    [result] = answer("exec", "--print", "--json", "--plugin", plugin, "--", "ls", environment={"TQ_PRESET": "k3v3"})["results"]
    assert result["variables"]["TQ_PRESET"] == "k3v3"
    one_clear_line(tool("exec", "--plugin", plugin, "--", "ls", environment={"TQ_PRESET": "zz"}), 2)


# --- run and bench: what goes wrong ---


@needs_engine
@pytest.mark.parametrize("command", [["run", "-p", "x"], ["bench"]])
def test_missing_model(command):
    assert "/no/such.gguf" in one_clear_line(tool(*command, "-m", "/no/such.gguf"), 1)


@needs_engine
@pytest.mark.parametrize("command", [["run", "-p", "x", "--preset"], ["bench", "--cache"]])
def test_wrong_cache_names_ours_and_the_engines(command):
    says = one_clear_line(tool(*command, "k4v7", "-m", "/no/such.gguf"), 2)
    assert "k4v4" in says and "q8_0" in says


@needs_engine
def test_not_a_model(tmp_path):
    path = tmp_path / "text.gguf"
    path.write_text("this is no model")
    assert "not a GGUF file" in one_clear_line(tool("run", "-p", "x", "-m", path), 1)


@needs_model
@pytest.mark.parametrize("size", [4, 5000, 50_000_000])
def test_truncated_model(tmp_path, size):
    path = tmp_path / "short.gguf"
    with open(MODEL, "rb") as whole:
        path.write_bytes(whole.read(size))
    assert "short.gguf" in one_clear_line(tool("run", "-p", "x", "--cache", "f16", "-m", path), 1)


@needs_model
def test_no_prompt_and_no_room():
    assert "no prompt" in one_clear_line(tool("run", "-m", MODEL), 2)
    assert "raise -c" in one_clear_line(tool("run", "-m", MODEL, "-p", "x", "-c", 2, "--cache", "f16"), 2)


# --- run and bench: what goes right ---


@needs_model
def test_run_takes_the_prompt_from_anywhere(tmp_path):
    prompt = "Name three colours."
    (tmp_path / "prompt.txt").write_text(prompt)
    common = ["run", "-m", MODEL, "-n", 8, "--cache", "f16", "-t", 1]
    texts = {
        tool(*common, "-p", prompt).stdout,
        tool(*common, "-f", tmp_path / "prompt.txt").stdout,
        tool(*common, stdin=prompt).stdout,
        answer(*common, "-p", prompt, "--json")["results"][0]["text"] + "\n",
    }
    assert len(texts) == 1 and texts.pop().strip()


@needs_model
def test_run_compare_with_itself_is_the_same_text():
    results = answer("run", "-m", MODEL, "-p", "Tell me about rivers.", "-n", 12, "-t", 1, "--cache", "f16", "--compare", "--json")["results"]
    assert [r["cache"] for r in results] == ["f16", "f16"]
    assert results[0]["text"] == results[1]["text"] and results[1]["first_different_token"] is None
    assert results[0]["bits_per_value"] == 16


@needs_model
def test_run_sampling_is_reproducible():
    common = ["run", "-m", MODEL, "-p", "Tell me a story.", "-n", 12, "-t", 1, "--cache", "f16", "--temp", 1.0]
    assert tool(*common, "--seed", 5).stdout == tool(*common, "--seed", 5).stdout != tool(*common, "--seed", 6).stdout


def check_bench(parsed, caches, depths):
    assert parsed["environment"]["model"] == os.path.basename(MODEL) and parsed["environment"]["complete"] is True
    seen = {(r["cache"], r["test"], r["depth"]) for r in parsed["results"]}
    assert seen == {(c, t, d) for c in caches for t in ("decode", "prefill") for d in depths}
    for result in parsed["results"]:
        assert result["tokens_per_second"] > 0 and result["stddev"] >= 0
        assert len(result["samples"]) == result["repetitions"] == 2
        assert result["cells"] >= result["depth"] + result["tokens"]
        assert isinstance(result["cache_bytes"], int)


@needs_model
def test_bench_of_the_engines_caches():
    bits = {"f16": 16, "q8_0": 8.5, "q4_0": 4.5}
    parsed = answer("bench", "-m", MODEL, "--cache", ",".join(bits), "-d", "0,128", "-p", 64, "-n", 4, "-r", 2, "-t", 1, "--fill-threads", 2, "--json")
    check_bench(parsed, bits, (0, 128))
    for result in parsed["results"]:
        assert result["bits_per_value"] == bits[result["cache"]]
        if result["cache"] == "f16":  # 30 layers, 3 heads of 64, K and V, two bytes
            assert result["cache_bytes"] == result["cells"] * 30 * 3 * 64 * 2 * 2


@needs_model
@pytest.mark.parametrize("output, number", [(["--json"], signal.SIGINT), ([], signal.SIGTERM)])
def test_bench_gives_what_it_has_when_it_is_interrupted(output, number):
    program = subprocess.Popen([TOOL, "bench", "-m", MODEL, "--cache", "f16,q4_0", "-d", "0,30000", "-p", "0", "-n", "2", "-r", "2", "-t", "1", *output],
                               env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               preexec_fn=lambda: signal.signal(number, signal.SIG_DFL))  # a shell's background ignores SIGINT
    try:
        seen = []
        for line in program.stderr:  # the first depth is measured by now, the second one takes minutes to fill
            seen.append(line)
            if re.search("filling the f16 cache: .* of 30000", line):
                program.send_signal(number)
                break
        answer, errors = program.communicate(timeout=120)
    finally:
        program.kill()
    assert program.returncode == 128 + number, "".join(seen) + errors
    assert "interrupted; this is what was measured by then" in errors
    if output:
        parsed = json.loads(answer)
        assert parsed["environment"]["complete"] is False
        assert [(r["cache"], r["depth"], r["repetitions"]) for r in parsed["results"]] == [("f16", 0, 2), ("q4_0", 0, 2)]
    else:
        assert "decode 2" in answer and "30000" not in answer


@needs_plugin
def test_bench_of_our_caches():
    parsed = answer("bench", "-m", MODEL, "--cache", "f16,k4v4,k3v2", "-d", "1024", "-p", 64, "-n", 4, "-r", 2, "-t", 1, "--json")
    check_bench(parsed, ("f16", "k4v4", "k3v2"), (1024,))
    size = {r["cache"]: r["cache_bytes"] for r in parsed["results"] if r["test"] == "decode"}
    assert size["k3v2"] < size["k4v4"] < size["f16"] / 2
    cells = {(r["cache"], r["test"]): r["cache_bytes"] / r["bits_per_value"] for r in parsed["results"]}
    for test in ("decode", "prefill"):  # bits per value of all caches are over the same numbers
        assert cells["k4v4", test] == pytest.approx(cells["f16", test], rel=1e-3)
        assert cells["k3v2", test] == pytest.approx(cells["f16", test], rel=1e-3)


@needs_plugin
def test_run_compare_with_ours():
    done = tool("run", "-m", MODEL, "-p", "Tell me about rivers.", "-n", 24, "-t", 1, "--compare")
    assert done.returncode == 0, done.stderr
    assert "--- f16 cache ---" in done.stdout and "--- k4v4 cache ---" in done.stdout and "bits per value" in done.stdout


@needs_plugin
@pytest.mark.skipif(not shutil.which("env"), reason="needs env")
def test_exec_finds_the_plugin_by_itself():
    done = tool("exec", "--", "env")
    assert f"GGML_BACKEND_PATH={INFO['environment']['plugin']}\n" in done.stdout
