#!/usr/bin/env python3
"""bf16 attention of a chunk of queries at the end of a history by PyTorch, on uncompressed keys and values (8 KV heads).

    prefill_baseline.py      prints "chunk history group head_dim microseconds # flash, cudnn" per shape, for tq_gpu_prefill_bench --baseline

Flash attention computes exactly the task (causal, aligned at the end). cuDNN's is not reachable with that alignment through PyTorch: it is
timed without a mask, which is the same work but for half the chunk's square. The faster of the two counts.
"""
import statistics

import torch
import torch.nn.functional as functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.bias import causal_lower_right

HEADS = 8


def microseconds(call):
    for _ in range(3):
        call()
    times = []
    for _ in range(9):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(3):
            call()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) / 3)
    return statistics.median(times) * 1e3


def flash(query, key, value):
    bias = causal_lower_right(query.shape[2], key.shape[2])
    def call():
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    return call


def cudnn(query, key, value):
    def call():
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            return functional.scaled_dot_product_attention(query, key, value)
    return call


def main():
    torch.manual_seed(1)
    for head_dim, group, chunk, history in [(128, 4, c, h) for c in (512, 2048) for h in (0, 8192, 32768, 131072)] + [
            (128, 8, 2048, 32768), (64, 8, 2048, 32768), (256, 2, 2048, 32768), (192, 4, 2048, 32768), (96, 4, 2048, 32768)]:
        query = torch.randn(1, HEADS * group, chunk, head_dim, device="cuda", dtype=torch.bfloat16)
        # Each query head has its own copy, so that every implementation may be used; what they take of the time is small here.
        key, value = (torch.randn(1, HEADS, history + chunk, head_dim, device="cuda", dtype=torch.bfloat16).repeat_interleave(group, dim=1).contiguous() for _ in range(2))
        found = []
        for make in (flash, cudnn):
            try:
                found.append(microseconds(make(query, key, value)))
            except Exception:
                found.append(float("inf"))
        print(chunk, history, group, head_dim, f"{min(found):.1f}", f"# flash {found[0]:.1f} cudnn {found[1]:.1f}", flush=True)


if __name__ == "__main__":
    main()
