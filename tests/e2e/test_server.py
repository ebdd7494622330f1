"""Unmodified llama-server with four slots on a k4v4 cache.

Counting shows whether a slot still reads its own cells: the model goes on correctly only when it sees where it was,
and each number is three or four tokens, so that all but the newest 64 to 128 tokens are read from codes.
"""

import concurrent.futures
import struct

import numpy
import pytest

from engine import held, lines_of_ours

KEPT_KEYS = 4  # per tile and KV head at most: Spec::kept_keys
LAYOUTS = [pytest.param("-no-kvu", id="a stream per slot"), pytest.param("-kvu", id="one stream")]


def counting(first, numbers=60):
    return "".join(f" {number}," for number in range(first, first + numbers))


def counts_on(text, first, numbers):
    assert text.startswith(counting(first, numbers)), text
    return True


@pytest.fixture(scope="module", params=LAYOUTS)
def server(request, engine, smollm2, tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    # -cram 0: what a slot no longer needs is gone, so that nothing but our buffers can answer
    arguments = ["-c", 4096, "-np", 4, request.param, "-cram", 0, "--slot-save-path", folder, "--cache-reuse", 16]
    with engine.server(folder, smollm2, *arguments, preset="k4v4") as server:
        server.folder = folder
        server.streams = 1 if request.param == "-kvu" else 4
        yield server
    assert lines_of_ours(server.log) == []
    assert held(server.log)["packed"] == 60 and held(server.log)["plain"] == 0


def test_concurrent_requests_keep_apart(server):
    starts = [100, 300, 500, 700, 150, 350]  # more than slots: two of them wait
    with concurrent.futures.ThreadPoolExecutor(len(starts)) as threads:
        answers = list(threads.map(lambda first: server.complete(counting(first), 25), starts))
    for first, answer in zip(starts, answers):
        assert counts_on(answer["content"], first + 60, 5)
    assert len({answer["id_slot"] for answer in answers}) == 4


def test_one_prompt_in_several_slots(server):
    """The engine copies the stream of the first to the others."""
    answers = server.complete(counting(200), 25, n_cmpl=3, cache_prompt=False)
    assert len(answers) == 3
    for answer in answers:
        assert counts_on(answer["content"], 260, 5)


def test_a_saved_slot_goes_on_in_another_one(server):
    prompt = counting(400)
    server.complete(prompt, 1, slot=0, cache_prompt=False)
    saved = server.post("/slots/0?action=save", filename="a.bin")
    restored = server.post("/slots/2?action=restore", filename="a.bin")
    assert restored["n_restored"] == saved["n_saved"] >= 240
    here = server.complete(prompt, 32, slot=0)
    there = server.complete(prompt, 32, slot=2)
    assert there["timings"]["cache_n"] >= saved["n_saved"] - 1 and there["timings"]["prompt_n"] <= 2
    assert there["content"] == here["content"] and counts_on(there["content"], 460, 6)


def saved_rows(path, layers=30, numbers=192):
    """Keys and values of a saved slot, [layer][cell][number], from the engine's own file format."""
    raw = path.read_bytes()
    tensor_head = struct.pack("<iQ", 1, 2 * numbers)  # f16, bytes of a row
    at = raw.index(struct.pack("<II", 0, layers) + tensor_head) + 8
    next_head = raw.index(tensor_head, at + len(tensor_head))
    cells = (next_head - at) // (2 * numbers)
    tensors = []
    for _ in range(2 * layers):
        assert raw.startswith(tensor_head, at)
        at += len(tensor_head)
        tensors.append(numpy.frombuffer(raw, numpy.float16, cells * numbers, at).reshape(cells, numbers).astype(numpy.float32))
        at += 2 * numbers * cells
    return numpy.array(tensors[:layers]), numpy.array(tensors[layers:])


def root_mean_square(array, axis):
    return numpy.sqrt((array**2).mean(axis))


def test_saving_and_restoring_keeps_all_codes(server):
    """A state holds decoded numbers. Where the tiles lie alike, writing them again makes the very same codes.

    What may move: the last bit of a scale, which keys stay exact (the queries of then and now decide), and a tile's key
    reference, which is computed anew (all decoded keys of the tile together, by .01 of their spread). In one stream the slot's cells follow another slot's, so that no tile holds
    the same keys as before: they are coded a second time, with a second rounding.
    """
    server.complete(counting(600), 1, slot=0, cache_prompt=False)
    server.post("/slots/0?action=save", filename="first.bin")
    server.post("/slots/1?action=restore", filename="first.bin")
    server.post("/slots/1?action=save", filename="again.bin")
    (keys, values), (keys_again, values_again) = (saved_rows(server.folder / name) for name in ("first.bin", "again.bin"))
    moved = root_mean_square((values_again - values).reshape(-1, 64), axis=1)
    moved_most = (moved / root_mean_square(values.reshape(-1, 64), axis=1)).max()
    assert moved_most < (1e-3 if server.streams > 1 else 0.15)
    for tile in range(0, keys.shape[1], 64):
        before, after = keys[:, tile : tile + 64], keys_again[:, tile : tile + 64]
        spread = root_mean_square(before - before.mean(axis=1, keepdims=True), axis=(1, 2))
        moved = after - before
        assert (root_mean_square(moved, axis=(1, 2)) < (0.02 if server.streams > 1 else 0.15) * spread).all()
        if server.streams > 1:
            moved_apart = root_mean_square(moved - numpy.median(moved, axis=1, keepdims=True), axis=2)
            coded = numpy.sort(moved_apart, axis=1)[:, :-KEPT_KEYS]  # kept ones do not move with the reference
            assert (root_mean_square(coded, axis=1) < 0.005 * spread).all()


def test_a_shared_prefix_is_not_computed_again(server):
    prompt = counting(800)
    fresh = server.complete(prompt, 16, slot=1, cache_prompt=False)
    assert fresh["timings"]["cache_n"] == 0
    longer = prompt + fresh["content"]
    again = server.complete(longer, 16, slot=1)
    assert again["timings"]["cache_n"] >= fresh["timings"]["prompt_n"] - 1
    assert again["timings"]["prompt_n"] <= 20
    assert counts_on((fresh["content"] + again["content"]), 860, 6)


def test_a_chunk_that_moves_is_shifted_not_computed_again(server):
    """--cache-reuse: the engine moves cells to new positions by rotating their keys in place."""
    beginning, middle, end = "A list of numbers.", " I wrote them down this morning, before breakfast.", counting(300, 50)
    server.complete(beginning + middle + end, 1, slot=2, cache_prompt=False)
    moved = server.complete(beginning + end, 25, slot=2)
    assert moved["timings"]["cache_n"] >= 250 and moved["timings"]["prompt_n"] <= 5
    assert counts_on(moved["content"], 350, 5)


def test_context_shift(engine, smollm2, tmp_path):
    """More text than fits: twice, the engine drops half of the cells and rotates the keys of the others."""
    with engine.server(tmp_path, smollm2, "-c", 512, "-np", 1, "--context-shift", preset="k4v4") as server:
        answer = server.complete(counting(100, 95), 310, n_keep=16)
    assert server.log.count("slot context shift") == 2
    assert counts_on(answer["content"], 195, 62)
    assert lines_of_ours(server.log) == []
