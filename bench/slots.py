#!/usr/bin/env python3
"""How fast llama-server decodes in several slots at once, by cache: tokens per second of all slots together.

Every slot first reads a text of its own of --depth tokens; then all are asked for --tokens more at the same moment, and the
time until the last one has answered counts (one token of each text is read again in it). The caches take turns, each with a
server of its own, so that a machine that gets slower meanwhile slows all of them.

    bench/slots.py --model MODEL                                      # f16 and k4v4, four slots, depth 2,048
    bench/slots.py --model MODEL --cache f16,q8_0,k4v4 --slots 8 --json

Needs what scripts/test prepares: TQ_ENGINE_DIR and a build (TQ_BUILD_DIR, default build/).
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import random
import statistics
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
from engine import Engine  # noqa: E402

ENGINE_CACHES = ("f16", "q8_0", "q5_1", "q5_0", "q4_0", "iq4_nl")


def measure(engine, folder, options, cache):
    """Tokens per second of all slots together."""
    ours = cache not in ENGINE_CACHES
    context = options.slots * (options.depth + options.tokens + 64)
    arguments = ["-c", context, "-np", options.slots, "-no-kvu", "-cram", 0, "-fa", "on", "-t", options.threads]
    arguments += ["-dev", "TQ0"] if ours else ["-ctk", cache, "-ctv", cache]
    words = random.Random(1)
    with engine.server(folder, options.model, *arguments, preset=cache if ours else None) as server:
        # Numbers are ordinary tokens of every vocabulary; what they mean does not matter here.
        prompts = [[words.randrange(100, 200) for _ in range(options.depth)] for _ in range(options.slots)]
        for slot, prompt in enumerate(prompts):
            server.complete(prompt, 1, slot=slot, cache_prompt=True)
        start = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(options.slots) as pool:
            answers = list(pool.map(lambda job: server.complete(job[1], options.tokens, slot=job[0], cache_prompt=True), enumerate(prompts)))
        seconds = time.monotonic() - start
        for answer in answers:
            assert answer["tokens_predicted"] == options.tokens, answer
            assert answer["timings"]["prompt_n"] < 64, f"the text was read again: {answer['timings']}"
    return options.slots * options.tokens / seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True, help="a GGUF file")
    parser.add_argument("--cache", default="f16,k4v4", help="caches, the one to compare with first (default: %(default)s)")
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--depth", type=int, default=2048, help="tokens in each slot before (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=32, help="tokens asked of each slot (default: %(default)s)")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    if "TQ_ENGINE_DIR" not in os.environ:
        parser.error("TQ_ENGINE_DIR is not set; TQ_ENGINE_DIR=$(scripts/engine) makes it")
    build = pathlib.Path(os.environ.get("TQ_BUILD_DIR", ROOT / "build"))
    caches = options.cache.split(",")
    speeds = {cache: [] for cache in caches}
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(pathlib.Path(os.environ["TQ_ENGINE_DIR"]) / "build" / "bin", build / "adapters" / "ggml" / "libggml-turboquant.so", folder)
        for repetition in range(options.repetitions):
            for cache in caches:
                print(f"{cache}, {repetition + 1} of {options.repetitions}", file=sys.stderr)
                speeds[cache].append(measure(engine, folder, options, cache))
    base = statistics.median(speeds[caches[0]])
    results = [
        {"cache": cache, "slots": options.slots, "depth": options.depth, "tokens_per_second": statistics.median(all_of),
         "low": min(all_of), "high": max(all_of), "ratio": statistics.median(all_of) / base}
        for cache, all_of in speeds.items()
    ]  # fmt: skip
    if options.json:
        print(json.dumps({"model": options.model.name, "threads": options.threads, "tokens": options.tokens, "results": results}, indent=1))
        return
    print(f"{'cache':<12}{'tokens/s':>10}{'low':>9}{'high':>9}{'of ' + caches[0]:>10}")
    for row in results:
        print(f"{row['cache']:<12}{row['tokens_per_second']:>10.1f}{row['low']:>9.1f}{row['high']:>9.1f}{row['ratio']:>9.2f}x")


if __name__ == "__main__":
    main()
