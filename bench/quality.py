#!/usr/bin/env python3
"""What a compressed cache costs in quality, measured by the engine's own llama-perplexity.

Every cache is compared with the f16 cache of the same engine and the same weights: the Kullback-Leibler divergence of the
distribution of the next token, over prose, while the compressed cache feeds attention. Batches of 64 tokens, so that no
more rows are exact than while a text is being generated.

Each figure is written as soon as it is known; a run that was stopped goes on where it was. A cache of ours is measured
again when the plug-in has changed.

    bench/quality.py                                        # everything: hours on two cores
    bench/quality.py --models smollm2 --caches k4v4,q8_0
    bench/quality.py --context 512 --chunks 1               # a first impression

Needs what scripts/test prepares: TQ_ENGINE_DIR, TQ_MODEL_SMOLLM2, TQ_MODEL_GEMMA3, TQ_MODEL_QWEN, TQ_TEXT_PROSE, and a build
(TQ_BUILD_DIR, default build/).
"""

import argparse
import dataclasses
import datetime
import hashlib
import json
import math
import os
import pathlib
import platform
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
MODELS = {"smollm2": "TQ_MODEL_SMOLLM2", "gemma3": "TQ_MODEL_GEMMA3", "qwen": "TQ_MODEL_QWEN"}
PRESETS = ["k8v8", "k8v4", "k6v4", "k5v4", "k4v4", "k4v3", "k3v3", "k4v2", "k3v2", "k2v2", "k4v4-plain", "k3v2-plain", "paper-3.5", "paper-k3v2", "paper-2.5"]
ENGINE_CACHES = {"q8_0": 8.5, "q5_0": 5.5, "iq4_nl": 4.5, "q4_0": 4.5}  # and their bits per value
FLOOR = "floor"  # the f16 cache without flash attention: what other rounding costs by itself

FIGURES = {
    "mean_kl": r"Mean +KLD: +(\S+)",
    "mean_kl_error": r"Mean +KLD: +\S+ ± +(\S+)",
    "median_kl": r"Median +KLD: +(\S+)",
    "kl_99_9": r"99\.9% +KLD: +(\S+)",
    "max_kl": r"Maximum KLD: +(\S+)",
    "same_top": r"Same top p: +(\S+)",  # per cent
    "perplexity": r"Mean PPL\(Q\) +: +(\S+)",
    "perplexity_f16": r"Mean PPL\(base\) +: +(\S+)",
}
OPTIONAL = {"bits_per_value": r"turboquant: the cache held [\d.]+ MiB, (\S+) bits per value"}


@dataclasses.dataclass(frozen=True)
class Setting:
    context: int = 2048
    chunks: int = 3
    batch: int = 64
    threads: int = min(2, os.cpu_count() or 1)


class Perplexity:
    """llama-perplexity on one model and text."""

    def __init__(self, engine_dir, plugin, model, text, setting):
        self.program = pathlib.Path(engine_dir) / "build" / "bin" / "llama-perplexity"
        self.plugin = plugin
        self.setting = setting
        self.arguments = [
            "-m", model, "-f", text, "-c", setting.context, "-b", setting.batch, "-ub", setting.batch, "--chunks", setting.chunks,
            "-t", setting.threads, "--no-warmup", "-lv", 4,
        ]  # fmt: skip

    def save_f16_logits(self, path):
        self._run({}, "--kl-divergence-base", path)
        return path

    def compare(self, cache, logits):
        """Figures of a cache (one of ours, or the engine's, or FLOOR) against the saved logits."""
        variables, extra = {}, []
        if cache == FLOOR:
            extra = ["-fa", "off"]
        elif cache in ENGINE_CACHES:
            extra = ["-ctk", cache, "-ctv", cache]
        else:
            variables = {"GGML_BACKEND_PATH": str(self.plugin), "TQ_PRESET": cache}
        log = self._run(variables, "--kl-divergence", "--kl-divergence-base", logits, *extra)
        figures = {}
        for name, pattern in (FIGURES | OPTIONAL).items():
            found = re.findall(pattern, log)
            if not found and name in FIGURES:
                raise RuntimeError(f"llama-perplexity printed no {name}:\n{log[-4000:]}")
            if found:
                figures[name] = float(found[-1])
        if cache in ENGINE_CACHES:
            figures["bits_per_value"] = ENGINE_CACHES[cache]
        return figures

    def _run(self, variables, *arguments):
        command = [str(part) for part in (self.program, *self.arguments, *arguments)]
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("TQ_", "GGML_", "LLAMA_", "OMP_"))}
        clean["OMP_WAIT_POLICY"] = "passive"  # others may use the machine
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env=clean | variables)
        log = (done.stdout + done.stderr).decode(errors="replace")
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}\nexit code {done.returncode}\n{log[-4000:]}")
        return log


# --- the program ---


def needed(variable, default=None):
    value = os.environ.get(variable) or default
    if not value or not pathlib.Path(value).exists():
        sys.exit(f"quality.py: {variable} ({value or 'not set'}) names nothing; scripts/test prepares what this needs")
    return pathlib.Path(value)


def say(text):
    print(text, file=sys.stderr, flush=True)


def cpu_name():
    found = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    return found[1] if found else platform.machine()


def write_safely(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(path.suffix + ".new")
    fresh.write_text(text)
    fresh.replace(path)


def markdown(parsed):
    environment = parsed["environment"]
    setting = environment["setting"]
    lines = [
        "# Quality of compressed caches",
        "",
        f"KL divergence of the next token's distribution against the f16 cache of the same engine: {setting['context']} tokens of context, "
        f"{setting['chunks']} chunks of prose, batches of {setting['batch']}. {environment['cpu']}, llama.cpp of {environment['engine']}, "
        f"{environment['date']}. Written by bench/quality.py.",
        "",
        "Bits per value: all bytes in memory, exact rows included, at this context. Floor: the stock f16 cache with flash attention "
        "switched off, that is, the same cache and other rounding in attention.",
    ]
    for model in dict.fromkeys(result["model"] for result in parsed["results"]):
        lines += ["", f"## {model}", "", "| cache | bits per value | mean KL | median | 99.9 % | maximum | same top token | perplexity (f16) |"]
        lines += ["|---|---|---|---|---|---|---|---|"]
        rows = [result for result in parsed["results"] if result["model"] == model]
        for row in sorted(rows, key=lambda row: row["mean_kl"]):
            bits = f"{row['bits_per_value']:.2f}" if "bits_per_value" in row else "16"
            lines.append(
                f"| {row['cache']} | {bits} | {row['mean_kl']:.4f} ± {row['mean_kl_error']:.4f} | {row['median_kl']:.4f} | "
                f"{row['kl_99_9']:.3f} | {row['max_kl']:.2f} | {row['same_top']:.1f} % | {row['perplexity']:.2f} ({row['perplexity_f16']:.2f}) |"
            )
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog="see the top of this file for more")
    everything = [*ENGINE_CACHES, *PRESETS]
    parser.add_argument("--models", default=",".join(MODELS), help="default: %(default)s")
    parser.add_argument("--caches", default=",".join(everything), help="default: all presets and the engine's own")
    parser.add_argument("--context", type=int, default=Setting.context, help="default: %(default)s")
    parser.add_argument("--chunks", type=int, default=Setting.chunks, help="default: %(default)s")
    parser.add_argument("--batch", type=int, default=Setting.batch, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=Setting.threads, help="default: %(default)s")
    parser.add_argument("--output", type=pathlib.Path, help="without suffix; default: bench/results/quality, or quality-cCONTEXT-nCHUNKS-bBATCH")
    arguments = parser.parse_args()
    setting = Setting(arguments.context, arguments.chunks, arguments.batch, arguments.threads)
    models, caches = arguments.models.split(","), arguments.caches.split(",")
    for given, known in ((models, MODELS), (caches, everything)):
        if wrong := [name for name in given if name not in known]:
            parser.error(f"unknown: {', '.join(wrong)}; there are: {', '.join(known)}")

    engine_dir, text = needed("TQ_ENGINE_DIR"), needed("TQ_TEXT_PROSE")
    plugin = needed("TQ_BUILD_DIR", ROOT / "build") / "adapters" / "ggml" / "libggml-turboquant.so"
    if not plugin.exists():
        sys.exit(f"quality.py: {plugin} is not built; scripts/test builds it")
    plugin_hash = hashlib.sha256(plugin.read_bytes()).hexdigest()[:12]
    name = "quality" if setting == Setting(threads=setting.threads) else f"quality-c{setting.context}-n{setting.chunks}-b{setting.batch}"
    output = arguments.output or ROOT / "bench" / "results" / name
    json_path, markdown_path = output.with_suffix(".json"), output.with_suffix(".md")

    results = json.loads(json_path.read_text())["results"] if json_path.exists() else []
    measured_by = {cache: engine_dir.name if cache in ENGINE_CACHES or cache == FLOOR else plugin_hash for cache in [*everything, FLOOR]}

    def is_known(model, cache):
        return any((r["model"], r["cache"], r["measured_by"]) == (model, cache, measured_by[cache]) for r in results)

    def note(model, cache, figures):
        results[:] = [r for r in results if (r["model"], r["cache"]) != (model, cache)]
        results.append({"model": model, "cache": cache, "measured_by": measured_by[cache], **figures})
        environment = {
            "cpu": cpu_name(), "engine": engine_dir.name, "plugin": plugin_hash, "date": datetime.date.today().isoformat(),
            "setting": dataclasses.asdict(setting), "text": text.name,
        }  # fmt: skip
        parsed = {"environment": environment, "results": results}
        write_safely(json_path, json.dumps(parsed, indent=1) + "\n")
        write_safely(markdown_path, markdown(parsed))

    for model in models:
        missing = [cache for cache in [FLOOR, *caches] if not is_known(model, cache)]
        if not missing:
            say(f"{model}: all known")
            continue
        perplexity = Perplexity(engine_dir, plugin, needed(MODELS[model]), text, setting)
        with tempfile.TemporaryDirectory(prefix="tq-quality-", dir=os.environ.get("TMPDIR")) as folder:
            start = time.monotonic()
            say(f"{model}: logits with the f16 cache ...")
            logits = perplexity.save_f16_logits(pathlib.Path(folder) / "logits")
            for number, cache in enumerate(missing, 1):
                say(f"{model}: {cache} ({number} of {len(missing)}, {time.monotonic() - start:.0f} s so far) ...")
                figures = perplexity.compare(cache, logits)
                if not all(math.isfinite(figure) for figure in figures.values()):
                    say(f"{model}: {cache} gave {figures}")
                note(model, cache, figures)
                say(f"{model}: {cache}: mean KL {figures['mean_kl']:.4f}, same top token {figures['same_top']:.1f} %")
    say(f"written: {json_path} and {markdown_path}")


if __name__ == "__main__":
    main()
