#!/usr/bin/env python3
"""Writes a GGUF file of a random llama, for measuring the speed of head sizes that no small real model has.

    bench/random_model.py model.gguf --head-dim 128 --heads 32 --kv-heads 8
"""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "e2e"))
import tiny_model  # noqa: E402

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("file", type=pathlib.Path)
parser.add_argument("--head-dim", type=int, default=128)
parser.add_argument("--heads", type=int, default=32)
parser.add_argument("--kv-heads", type=int, default=8)
parser.add_argument("--layers", type=int, default=4)
parser.add_argument("--context", type=int, default=32768)
options = parser.parse_args()
tiny_model.write(
    options.file,
    tiny_model.Shape(options.head_dim, options.layers, options.heads, options.kv_heads, context=options.context),
)
