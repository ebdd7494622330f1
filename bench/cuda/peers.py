#!/usr/bin/env python3
"""Decode attention of other libraries over compressed caches, on the shapes of attend_bench, in CUDA graphs over rotating buffers:
FlashInfer's XQA with an fp8 cache, and vLLM's Triton kernels for its TurboQuant and int4_per_token_head caches.

    peers.py [--peers NAME,...] [--vllm-source DIR] [--largest TOKENS]
        prints "peer batch context group microseconds" per shape (8 KV heads, head_dim 128, bf16 queries, pages in random order)

A peer that is not installed, or fails, is one line on stderr. Each is first checked against float32 attention on the numbers before compression.
A time is the whole call as the library makes it, rotation of queries and outputs included. --vllm-source: a folder with vLLM's Python files, where
vLLM itself is not installed (vllm_source.py). --largest: no shapes with more tokens than this.
"""
import argparse
import math
import sys

import torch

from baseline import HEAD_DIM, HEADS, ROTATE_BYTES, graph_microseconds

SHAPES = [(batch, context) for batch in (64, 8, 1) for context in (131072, 32768, 8192, 1024) if batch * context <= 64 * 32768]
BASE_TOKENS = 32768                      # different ones; a larger pool repeats them


class Xqa:
    """FlashInfer's XQA, whose Hopper kernel multiplies in fp8. One scale of 1 for the whole cache."""
    page = 64

    def __init__(self, overlapped):
        from flashinfer.decode import xqa_batch_decode_with_kv_cache
        self.attend, self.overlapped = xqa_batch_decode_with_kv_cache, overlapped
        self.workspace = torch.zeros(512 << 20, dtype=torch.uint8, device="cuda")

    def store(self, keys, values):
        return [x.view(-1, self.page, HEADS, HEAD_DIM).transpose(1, 2).contiguous().to(torch.float8_e4m3fn).view(torch.uint8) for x in (keys, values)]

    def call(self, pool, query, table, context):
        keys, values = (x.view(torch.float8_e4m3fn) for x in pool)
        output = torch.empty_like(query)
        lengths = torch.full((query.shape[0],), context, dtype=torch.int32, device="cuda").view(torch.uint32)
        return lambda: self.attend(query, (keys, values), self.workspace, table, lengths, context, bmm1_scale=1 / math.sqrt(HEAD_DIM), bmm2_scale=1.0, out=output,
                                   kv_layout="HND", enable_pdl=self.overlapped)


class TurboQuant:
    """vLLM's TurboQuant backend: rotation as a matrix product, one warp per query head and split."""
    page = 16

    def __init__(self, preset):
        from vllm.model_executor.layers.quantization.turboquant.centroids import solve_lloyd_max
        from vllm.model_executor.layers.quantization.turboquant.config import TurboQuantConfig
        from vllm.v1.attention.ops.triton_turboquant_decode import triton_turboquant_decode_attention
        from vllm.v1.attention.ops.triton_turboquant_store import triton_turboquant_store
        self.attend, self.write = triton_turboquant_decode_attention, triton_turboquant_store
        self.config = TurboQuantConfig.from_cache_dtype("turboquant_" + preset, HEAD_DIM)
        matrix = torch.ones(1, 1)
        while matrix.shape[0] < HEAD_DIM:
            matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
        self.rotation = (matrix / math.sqrt(HEAD_DIM)).cuda()
        centroids = solve_lloyd_max(HEAD_DIM, self.config.centroid_bits)[0]
        self.centroids, self.bounds = centroids.cuda(), ((centroids[1:] + centroids[:-1]) / 2).cuda()

    def widths(self):
        return dict(mse_bits=self.config.mse_bits, key_packed_size=self.config.key_packed_size, value_quant_bits=self.config.value_quant_bits, key_fp8=self.config.key_fp8)

    def store(self, keys, values):
        pool = torch.zeros(keys.shape[0] // self.page, self.page, HEADS, self.config.slot_size_aligned, dtype=torch.uint8, device="cuda")
        self.write(keys, values, pool, torch.arange(keys.shape[0], device="cuda", dtype=torch.int32), self.rotation.T.contiguous(), self.bounds, **self.widths())
        return [pool]

    def call(self, pool, query, table, context):
        batch, heads, _ = query.shape
        arguments = dict(query=query, kv_cache=pool[0], block_table=table, seq_lens=torch.full((batch,), context, dtype=torch.int32, device="cuda"), Pi=self.rotation,
                         PiT=self.rotation.T.contiguous(), centroids=self.centroids, scale=1 / math.sqrt(HEAD_DIM), norm_correction=self.config.norm_correction, max_num_kv_splits=32,
                         mid_o_buf=torch.empty(batch, heads, 32, HEAD_DIM + 1, device="cuda"), lse_buf=torch.empty(batch, heads, device="cuda"),
                         output_buf=torch.empty_like(query), **self.widths())
        return lambda: self.attend(**arguments)


class Int4:
    """vLLM's unified attention over int4 codes with a scale per token and head."""
    page, side = 16, HEAD_DIM // 2 + 4   # bytes of a key: codes, then its scale

    def __init__(self):
        from vllm.v1.attention.ops.triton_reshape_and_cache_flash import triton_reshape_and_cache_flash_per_token_head_quant
        from vllm.v1.attention.ops.triton_unified_attention import unified_attention
        from vllm.v1.kv_cache_interface import KVQuantMode
        self.attend, self.write, self.mode = unified_attention, triton_reshape_and_cache_flash_per_token_head_quant, KVQuantMode.INT4_PER_TOKEN_HEAD

    def views(self, pool):
        scales, last = pool.view(torch.float32), self.side // 4 - 1
        return pool[..., :self.side], pool[..., self.side:], scales[..., last], scales[..., 2 * last + 1]

    def store(self, keys, values):
        pool = torch.zeros(keys.shape[0] // self.page, self.page, HEADS, 2 * self.side, dtype=torch.uint8, device="cuda")
        self.write(keys, values, *self.views(pool), torch.arange(keys.shape[0], device="cuda"), self.mode)
        return [pool]

    def call(self, pool, query, table, context):
        batch, heads, _ = query.shape
        keys, values, key_scales, value_scales = self.views(pool[0])
        output = torch.empty_like(query)
        arguments = dict(q=query, k=keys, v=values, out=output, cu_seqlens_q=torch.arange(batch + 1, dtype=torch.int32, device="cuda"), max_seqlen_q=1,
                         seqused_k=torch.full((batch,), context, dtype=torch.int32, device="cuda"), max_seqlen_k=context, softmax_scale=1 / math.sqrt(HEAD_DIM), causal=True,
                         window_size=(-1, -1), block_table=table, softcap=0.0, q_descale=None, k_descale=None, v_descale=None, kv_quant_mode=self.mode, k_scale_cache=key_scales,
                         v_scale_cache=value_scales, seq_threshold_3D=16, num_par_softmax_segments=16, softmax_segm_output=torch.empty(16, heads, 16, HEAD_DIM, device="cuda"),
                         softmax_segm_max=torch.empty(16, heads, 16, device="cuda"), softmax_segm_expsum=torch.empty(16, heads, 16, device="cuda"))

        def call():
            self.attend(**arguments)
            return output
        return call


PEERS = {
    "xqa_fp8": lambda: Xqa(False),
    "xqa_fp8_overlapped": lambda: Xqa(True),       # programmatic dependent launch
    "vllm_int4": Int4,
    "vllm_tq_k8v4": lambda: TurboQuant("k8v4"),
    "vllm_tq_4bit": lambda: TurboQuant("4bit_nc"),
    "vllm_tq_3bit": lambda: TurboQuant("3bit_nc"),
}


def rows():
    generator = torch.Generator(device="cuda").manual_seed(1)
    return [torch.randn(BASE_TOKENS, HEADS, HEAD_DIM, device="cuda", generator=generator).to(torch.bfloat16) for _ in range(2)]


def table_of(peer, batch, context):
    order = torch.randperm(batch * context // peer.page, generator=torch.Generator().manual_seed(7))
    return order.view(batch, -1).to(torch.int32).cuda()


def relative_error(peer, stored, keys, values, batch=3, context=2048, group=4):
    query = (torch.randn(batch, HEADS * group, HEAD_DIM, device="cuda") * 2.5).to(torch.bfloat16)
    table = table_of(peer, batch, context)
    got = peer.call([x[:batch * context // peer.page] for x in stored], query, table, context)().view(batch, HEADS, group, HEAD_DIM).float()
    tokens = (table.long()[:, :, None] * peer.page + torch.arange(peer.page, device="cuda")).view(batch, context)
    k, v = (x[tokens].transpose(1, 2).float() for x in (keys, values))
    weights = torch.softmax(query.view(batch, HEADS, group, HEAD_DIM).float() @ k.transpose(-1, -2) / math.sqrt(HEAD_DIM), -1)
    want = weights @ v
    return ((got - want).norm() / want.norm()).item()


def measure(name, peer, largest):
    keys, values = rows()
    stored = peer.store(keys, values)
    print(f"{name}: relative error {relative_error(peer, stored, keys, values):.3f}", file=sys.stderr, flush=True)
    page_bytes = sum(x[0].numel() for x in stored)
    shapes = [(batch, context) for batch, context in SHAPES if batch * context <= largest]
    most = max(max(batch * context for batch, context in shapes) // peer.page * page_bytes, ROTATE_BYTES + (ROTATE_BYTES >> 1)) // page_bytes
    pool = [x.repeat(-(-most // x.shape[0]), *[1] * (x.dim() - 1)) for x in stored]
    for batch, context in shapes:
        pages = batch * context // peer.page
        size = pages * page_bytes
        rotate = max(1, min(150, ROTATE_BYTES // size + 1, pool[0].shape[0] // pages))
        table = table_of(peer, batch, context)
        for group in (4, 8):
            query = torch.randn(batch, HEADS * group, HEAD_DIM, device="cuda").to(torch.bfloat16)
            calls = [peer.call([x[i * pages:(i + 1) * pages] for x in pool], query, table, context) for i in range(rotate)]
            print(name, batch, context, group, f"{graph_microseconds(calls, max(rotate, 20 if size < 100 << 20 else 3)):.3f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--vllm-source")
    parser.add_argument("--largest", type=int, default=1 << 30)
    options = parser.parse_args()
    if options.vllm_source:
        import vllm_source
        vllm_source.use(options.vllm_source)
    for name in options.peers.split(","):
        try:
            measure(name, PEERS[name](), options.largest)
        except Exception as error:  # whatever another library does: the others are still to be measured
            print(f"{name}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}", file=sys.stderr, flush=True)
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
