"""End-to-end tests: unmodified llama.cpp programs, real models, our plug-in.

scripts/test prepares everything and says where it is:

    TQ_BUILD_DIR       a build of this project (default: build/ of this checkout)
    TQ_ENGINE_DIR      llama.cpp, prepared by scripts/engine
    TQ_MODEL_SMOLLM2, TQ_MODEL_GEMMA3, TQ_MODEL_QWEN, TQ_TEXT_PROSE     prepared by scripts/models

What is missing fails the tests that need it; nothing is skipped.
"""

import os
import pathlib
import sys

import pytest

import tiny_model
from engine import Engine

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))  # quality.py measures for the tests as well


def path_from(variable, default=None):
    value = os.environ.get(variable) or default
    if not value:
        pytest.fail(f"{variable} is not set; run scripts/test, which prepares what the tests need", pytrace=False)
    path = pathlib.Path(value)
    if not path.exists():
        pytest.fail(f"{variable}={path} does not exist; run scripts/test, which prepares what the tests need", pytrace=False)
    return path


@pytest.fixture(scope="session")
def engine(tmp_path_factory):
    build = path_from("TQ_BUILD_DIR", ROOT / "build")
    plugin = build / "adapters" / "ggml" / "libggml-turboquant.so"
    if not plugin.exists():
        pytest.fail(f"{plugin} does not exist; run scripts/test, which builds it", pytrace=False)
    return Engine(path_from("TQ_ENGINE_DIR") / "build" / "bin", plugin, tmp_path_factory.mktemp("engine"))


@pytest.fixture(scope="session")
def smollm2():
    return path_from("TQ_MODEL_SMOLLM2")


@pytest.fixture(scope="session")
def gemma3():
    return path_from("TQ_MODEL_GEMMA3")


@pytest.fixture(scope="session")
def qwen():
    return path_from("TQ_MODEL_QWEN")


@pytest.fixture(scope="session")
def prose():
    return path_from("TQ_TEXT_PROSE")


@pytest.fixture(scope="session")
def random_model(tmp_path_factory):
    """random_model(shape): the path of a small llama with random weights."""
    folder = tmp_path_factory.mktemp("models")
    made = {}

    def make(shape):
        if shape not in made:
            made[shape] = tiny_model.write(folder / f"random-{len(made)}.gguf", shape)
        return made[shape]

    return make
