#!/usr/bin/env python3
"""bf16 decode attention by PyTorch (flash and cuDNN, whichever is fastest), in CUDA graphs over rotating buffers.

    baseline.py      prints "batch context group microseconds" per shape (8 KV heads, head_dim 128), for tq_gpu_bench --baseline
"""
import statistics
import sys

import torch
import torch.nn.functional as functional
from torch.nn.attention import SDPBackend, sdpa_kernel

HEADS, HEAD_DIM, ROTATE_BYTES = 8, 128, 600 << 20


def graph_microseconds(calls, launches, replays=7):
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for call in calls[:2]:
            call()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for i in range(launches):
            calls[i % len(calls)]()
    times = []
    for i in range(replays):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        if i >= 2:
            times.append(begin.elapsed_time(end))
    return statistics.median(times) * 1e3 / launches


def best(query, caches, launches):
    """Microseconds and name of the fastest form: one query per head, or the group packed as query rows."""
    packed = query.view(query.shape[0], HEADS, -1, HEAD_DIM)
    forms = {
        "flash": (SDPBackend.FLASH_ATTENTION, lambda k, v: functional.scaled_dot_product_attention(query, k, v, enable_gqa=True)),
        "cudnn": (SDPBackend.CUDNN_ATTENTION, lambda k, v: functional.scaled_dot_product_attention(query, k, v, enable_gqa=True)),
        "flash packed": (SDPBackend.FLASH_ATTENTION, lambda k, v: functional.scaled_dot_product_attention(packed, k, v)),
        "cudnn packed": (SDPBackend.CUDNN_ATTENTION, lambda k, v: functional.scaled_dot_product_attention(packed, k, v)),
    }
    times = {}
    for name, (backend, form) in forms.items():
        try:
            with sdpa_kernel(backend):
                form(*caches[0])
                torch.cuda.synchronize()
                times[name] = graph_microseconds([lambda k=k, v=v: form(k, v) for k, v in caches], launches)
        except RuntimeError as error:
            print(name, str(error).splitlines()[0], file=sys.stderr)
    return min((us, name) for name, us in times.items())


def main():
    torch.manual_seed(0)
    print(torch.__version__, torch.cuda.get_device_name(), "cuDNN", torch.backends.cudnn.version(), file=sys.stderr)
    for batch in (1, 8, 64):
        for context in (1024, 8192, 32768, 131072):
            size = 2 * batch * HEADS * context * HEAD_DIM * 2
            if size > 20 << 30:
                continue
            torch.cuda.empty_cache()
            rotate = max(1, min(150, ROTATE_BYTES // size + 1))
            shape = (batch, HEADS, context, HEAD_DIM)
            caches = [tuple(torch.randn(shape, device="cuda", dtype=torch.bfloat16) for _ in range(2)) for _ in range(rotate)]
            for group in (4, 8):
                query = torch.randn(batch, HEADS * group, 1, HEAD_DIM, device="cuda", dtype=torch.bfloat16)
                us, name = best(query, caches, max(rotate, 20 if size < 200 << 20 else 3))
                print(batch, context, group, f"{us:.3f}", flush=True)
                print(f"{batch} x {context}, G {group}: {name} {us:.1f} us", file=sys.stderr, flush=True)
            del caches


if __name__ == "__main__":
    main()
