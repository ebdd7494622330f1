"""Writes GGUF files of small random llamas, for head sizes that no small real model has.

A token is a byte: the vocabulary holds the 256 bytes as GPT-2 spells them, one end token, and no merges.
"""

import dataclasses
import struct

import numpy

UINT32, INT32, FLOAT32, STRING, ARRAY = 4, 5, 6, 8, 9
F32, F16 = 0, 1  # tensor types
ALIGNMENT = 32


@dataclasses.dataclass(frozen=True)
class Shape:
    head_dim: int
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    embedding: int = 256
    feed_forward: int = 256
    context: int = 16384
    large_keys: tuple = ()  # layers whose keys are LARGE times as long


LARGE = 80


def write(path, shape, seed=1):
    random = numpy.random.default_rng(seed)

    def matrix(outputs, inputs):
        return (random.standard_normal((outputs, inputs), numpy.float32) / numpy.sqrt(inputs)).astype(numpy.float16)

    ones = numpy.ones(shape.embedding, numpy.float32)
    query, key_value = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    vocabulary = [*byte_tokens(), "<|endoftext|>"]
    tensors = {"token_embd.weight": matrix(len(vocabulary), shape.embedding), "output_norm.weight": ones}
    for layer in range(shape.layers):
        tensors |= {
            f"blk.{layer}.attn_norm.weight": ones,
            f"blk.{layer}.attn_q.weight": matrix(query, shape.embedding),
            f"blk.{layer}.attn_k.weight": matrix(key_value, shape.embedding) * numpy.float16(LARGE if layer in shape.large_keys else 1),
            f"blk.{layer}.attn_v.weight": matrix(key_value, shape.embedding),
            f"blk.{layer}.attn_output.weight": matrix(shape.embedding, query),
            f"blk.{layer}.ffn_norm.weight": ones,
            f"blk.{layer}.ffn_gate.weight": matrix(shape.feed_forward, shape.embedding),
            f"blk.{layer}.ffn_up.weight": matrix(shape.feed_forward, shape.embedding),
            f"blk.{layer}.ffn_down.weight": matrix(shape.embedding, shape.feed_forward),
        }
    metadata = {
        "general.architecture": "llama",
        "general.name": f"a random llama with heads of {shape.head_dim}",
        "llama.block_count": shape.layers,
        "llama.context_length": shape.context,
        "llama.embedding_length": shape.embedding,
        "llama.feed_forward_length": shape.feed_forward,
        "llama.attention.head_count": shape.heads,
        "llama.attention.head_count_kv": shape.kv_heads,
        "llama.attention.key_length": shape.head_dim,
        "llama.attention.value_length": shape.head_dim,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": shape.head_dim,
        "llama.vocab_size": len(vocabulary),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": vocabulary,
        "tokenizer.ggml.token_type": [1] * 256 + [3],  # normal, control
        "tokenizer.ggml.merges": [],
        "tokenizer.ggml.bos_token_id": 256,
        "tokenizer.ggml.eos_token_id": 256,
    }
    write_gguf(path, metadata, tensors)
    return path


def byte_tokens():
    """GPT-2's printable stand-ins for the 256 bytes, in the order of the bytes."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def write_gguf(path, metadata, tensors):
    with open(path, "wb") as file:
        file.write(struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(metadata)))
        for name, value in metadata.items():
            file.write(packed_string(name) + packed_value(value))
        offset = 0
        for name, tensor in tensors.items():
            kind = F16 if tensor.dtype == numpy.float16 else F32
            dimensions = tensor.shape[::-1]
            file.write(packed_string(name) + struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, kind, offset))
            offset += aligned(tensor.nbytes)
        file.write(bytes(-file.tell() % ALIGNMENT))
        for tensor in tensors.values():
            file.write(tensor.tobytes())
            file.write(bytes(-file.tell() % ALIGNMENT))


def aligned(size):
    return size + -size % ALIGNMENT


def packed_string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def packed_value(value):
    if isinstance(value, list):
        kind = INT32 if value and isinstance(value[0], int) else STRING
        items = (struct.pack("<i", item) if kind == INT32 else packed_string(item) for item in value)
        return struct.pack("<IIQ", ARRAY, kind, len(value)) + b"".join(items)
    if isinstance(value, str):
        return struct.pack("<I", STRING) + packed_string(value)
    if isinstance(value, float):
        return struct.pack("<If", FLOAT32, value)
    return struct.pack("<II", UINT32, value)
