#!/usr/bin/env python3
"""Writes tests/golden/data: bytes that every implementation of the format must produce.

An implementation of its own, from the definition (docs/format.md), sharing nothing with the library: codebooks are solved
by Newton's method in double precision, vectors are encoded with NumPy in binary32 in the defined order.
(Over 500 lines: one program from counter to bytes, to be read beside docs/format.md.)

    make_golden.py           write the data
    make_golden.py --check   compare with the data that is checked in (exit code 77 without NumPy)
"""
import functools
import math
import pathlib
import statistics
import sys

try:
    import numpy as np
except ImportError:
    print("NumPy is missing: golden data not checked", file=sys.stderr)
    sys.exit(77)

import records
import trellis

DATA = pathlib.Path(__file__).parent / "data"
SEED = 0x54515F76315F0001  # Spec's default
KEY, VALUE = 0, 1
SIDES = {"key": KEY, "value": VALUE}
HEAD_DIMS = (64, 80, 96, 112, 128, 192, 256, 576)
BITS = (2, 3, 4, 5, 6, 8)
TOKENS = 64
LANES = {KEY: 4, VALUE: 16}  # of the layout simd64: how far apart neighbours of the trellis are
F32, F16 = np.float32, np.float16
GAINS = np.array([0.80, 0.85, 0.90, 0.95, 1.00, 1.05, 1.10, 1.15, 1.20], F32)


# --- counter-based generator ---

def mix64(z):
    mask = (1 << 64) - 1
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def word(seed, stream, index):
    golden, mask = 0x9E3779B97F4A7C15, (1 << 64) - 1
    return mix64((mix64((seed + golden * (stream + 1)) & mask) + golden * (index + 1)) & mask)


@functools.lru_cache
def signs(seed, stream, num):
    """+1 or -1: bit i is bit i mod 64 of word i div 64; a set bit is minus."""
    return np.array([-1 if word(seed, stream, i // 64) >> (i % 64) & 1 else 1 for i in range(num)], np.int8)


@functools.lru_cache
def test_numbers(seed, shape):
    """Roughly normal, and exact: sums of twelve 16-bit uniforms."""
    num = math.prod(shape)
    words = np.array([word(seed, 99, i) for i in range(3 * num)], np.uint64)
    parts = np.stack([(words >> np.uint64(16 * k)) & np.uint64(0xFFFF) for k in range(4)]).astype(np.int64)
    sums = parts.sum(axis=0).reshape(num, 3).sum(axis=1) - 6 * 65535
    return (sums / 65536.0).reshape(shape).astype(F32)


# --- codebooks ---

def density(x):
    return math.exp(-0.5 * x * x) / math.sqrt(2 * math.pi) if math.isfinite(x) else 0.0


def upper(x):
    return 0.5 * math.erfc(x / math.sqrt(2)) if math.isfinite(x) else 0.0


def cells(levels):
    cuts = [0.0] + [(a + b) / 2 for a, b in zip(levels, levels[1:])] + [math.inf]
    return list(zip(cuts, cuts[1:]))


def mass(a, b):
    return upper(a) - upper(b)


def first_moment(a, b):
    return density(a) - density(b)


def distortion(levels):
    """E (x - nearest level)^2 of a standard normal: 1 - 2 E x l + E l^2, over both halves."""
    return 1 + 2 * math.fsum(l * l * mass(a, b) - 2 * l * first_moment(a, b) for l, (a, b) in zip(levels, cells(levels)))


def lloyd_max(bits):
    """Newton on  l_k * mass_k = first moment_k,  from the companding approximation (density of levels ~ f^(1/3))
    improved by enough of Lloyd's steps for Newton to converge."""
    half = 2 ** (bits - 1)
    levels = [math.sqrt(3) * statistics.NormalDist().inv_cdf(0.5 + (k + 0.5) / (2 * half)) for k in range(half)]
    for _ in range(50 * bits):
        levels = [first_moment(a, b) / mass(a, b) for a, b in cells(levels)]
    for _ in range(50):
        jacobian, residual = np.zeros((half, half)), np.zeros(half)
        for k, (a, b) in enumerate(cells(levels)):
            residual[k] = levels[k] * mass(a, b) - first_moment(a, b)
            jacobian[k, k] += mass(a, b)
            if k + 1 < half:
                slope = 0.5 * (levels[k] - b) * density(b)
                jacobian[k, k] += slope
                jacobian[k, k + 1] += slope
            if k > 0:
                slope = -0.5 * (levels[k] - a) * density(a)
                jacobian[k, k] += slope
                jacobian[k, k - 1] += slope
        step = np.linalg.solve(jacobian, residual)
        levels = [l - s for l, s in zip(levels, step)]
        if max(abs(step)) < 1e-14:
            break
    return levels


def best_step(integers):
    """The factor s for which levels s * integers are best: E x i = s E i^2 over their own cells, by bisection."""
    def excess(s):
        pieces = cells([s * i for i in integers])
        return (s * math.fsum(i * i * mass(a, b) for i, (a, b) in zip(integers, pieces))
                - math.fsum(i * first_moment(a, b) for i, (a, b) in zip(integers, pieces)))
    low, high = 1.0 / integers[-1], 8.0 / integers[-1]
    for _ in range(60):
        middle = (low + high) / 2
        if excess(middle) < 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def int8_levels(levels):
    """Best integers with the largest between 64 and 127; of equally good ones the smallest. Every rounding is tried once."""
    edges = sorted({(m + 0.5) / l for l in levels for m in range(128)})
    found = []
    for s in ((a + b) / 2 for a, b in zip(edges, edges[1:])):
        integers = [round(s * l) for l in levels]
        if 64 <= integers[-1] <= 127 and integers[0] > 0 and len(set(integers)) == len(integers):
            found.append((distortion([i / s for i in integers]), integers))
    refined = []
    for _, integers in sorted(found)[:64]:  # the scale at hand is already close: the best is among these
        step = best_step(integers)
        refined.append((distortion([step * i for i in integers]), integers, 1 / step))
    least = min(refined)[0]
    return min((r for r in refined if r[0] <= least * (1 + 1e-9)), key=lambda r: r[1][-1])


class Book:
    def __init__(self, bits):
        self.exact = lloyd_max(bits)
        self.exact_mse = distortion(self.exact)
        self.mse, integers, alpha = int8_levels(self.exact)
        self.levels = np.array(integers, F32)
        self.alpha = F32(f"{alpha:.6f}")
        self.thresholds = ((self.levels[1:] + self.levels[:-1]) / F32(2)).astype(F32)  # between neighbours


BOOKS = {bits: Book(bits) for bits in BITS if bits != 8}


# --- rotation ---

@functools.lru_cache
def paley(order):
    """Hadamard matrices: Paley I for 12, 20 and 60, Paley II for 28 and 36, in int64."""
    if order == 1:
        return np.ones((1, 1), np.int64)
    prime = {12: 11, 20: 19, 28: 13, 36: 17, 60: 59}[order]
    squares = {x * x % prime for x in range(1, prime)}
    jacobsthal = np.array([[0 if i == j else (1 if (i - j) % prime in squares else -1) for j in range(prime)] for i in range(prime)])
    skew = prime % 4 == 3
    border = np.zeros((prime + 1, prime + 1), np.int64)
    border[0, 1:] = 1
    border[1:, 0] = -1 if skew else 1
    border[1:, 1:] = jacobsthal
    identity = np.eye(prime + 1, dtype=np.int64)
    if skew:
        matrix = border + identity
    else:
        matrix = np.kron(border, [[1, 1], [1, -1]]) + np.kron(identity, [[1, -1], [-1, -1]])
    assert (matrix @ matrix.T == order * np.eye(order, dtype=np.int64)).all()
    return matrix


def factors(head_dim):
    run = head_dim & -head_dim
    return (1, run) if run == head_dim else (head_dim // run * 4, run // 4)


def hadamard_stages(x, head_dim, transposed):
    """P (x) S over the last axis of binary32 numbers, unscaled: butterflies of S, highest index bit first, then P."""
    base, run = factors(head_dim)
    shape = x.shape
    bit = run // 2
    while bit:
        x = x.reshape(-1, 2, bit)
        x = np.stack([x[:, 0] + x[:, 1], x[:, 0] - x[:, 1]], axis=1)
        bit //= 2
    x = x.reshape(-1, base, run)
    if base > 1:
        matrix = paley(base).astype(F32)
        matrix = matrix.T if transposed else matrix
        total = matrix[:, 0, None] * x[:, None, 0]
        for a in range(1, base):
            total = total + matrix[:, a, None] * x[:, None, a]
        x = total
    return x.reshape(shape)


def norm(head_dim):
    return F32(1 / math.sqrt(head_dim))


def rotate(x, side, seed=SEED):
    d = x.shape[-1]
    return hadamard_stages(x * signs(seed, side, d).astype(F32), d, False) * norm(d)


def unrotate(y, side, seed=SEED):
    d = y.shape[-1]
    return hadamard_stages(y, d, True) * (norm(d) * signs(seed, side, d).astype(F32))


def haar(d, seed, stream):
    """Rows of normals (Box-Muller on the counter generator), each made orthonormal to the ones before, twice."""
    def normal(i):
        u = ((word(seed, stream, 2 * i) >> 11) + 0.5) * 2.0 ** -53
        v = (word(seed, stream, 2 * i + 1) >> 11) * 2.0 ** -53
        return math.sqrt(-2 * math.log(u)) * math.cos(2 * math.pi * v)
    rows = []
    for i in range(d):
        row = [normal(i * d + j) for j in range(d)]
        for _ in range(2):
            for other in rows:
                along = math.fsum(a * b for a, b in zip(row, other))
                row = [a - along * b for a, b in zip(row, other)]
            size = math.sqrt(math.fsum(a * a for a in row))
            row = [a / size for a in row]
        rows.append(row)
    return np.array(rows)


# --- encode and decode ---

def tree_sum(terms):
    """Over the last axis: zero-padded to a power of two, then the upper half is added to the lower until one is left."""
    size = 1
    while size < terms.shape[-1]:
        size *= 2
    sums = np.zeros(terms.shape[:-1] + (size,), F32)
    sums[..., :terms.shape[-1]] = terms
    while sums.shape[-1] > 1:
        half = sums.shape[-1] // 2
        sums = sums[..., :half] + sums[..., half:]
    return sums[..., 0]


def kept_scale(norm2, dot, power, side):
    """Norm-matched for keys, unbiased for values."""
    scale = np.sqrt(norm2 / power) if side == KEY else norm2 / dot
    return np.minimum(scale, F32(65504)).astype(F16).view(np.uint16)


def encode(x, bits, side, gain_search=True, along_trellis=False):
    """x [num, head_dim] binary32 -> codes [num, head_dim] uint8, scales [num] binary16 bits."""
    y = rotate(x.astype(F32), side)
    codes = np.full(y.shape, 2 ** (bits - 1), np.uint8)
    scales = np.zeros(len(y), np.uint16)
    for i, row in enumerate(y):
        norm2 = tree_sum(row * row)
        if norm2 == 0:
            continue
        if not np.isfinite(norm2):
            scales[i] = 0x7E00
            continue
        if bits == 8:
            units = F32(127) / np.abs(row).max()
            rounded = np.rint(np.clip(row * units, F32(-127), F32(127)))
            codes[i] = (rounded + F32(128)).astype(np.uint8)
            scales[i] = kept_scale(norm2, tree_sum(row * rounded), F32((rounded.astype(np.int64) ** 2).sum()), side)
            continue
        if along_trellis:
            codes[i], level = trellis.encode(row, norm2, bits, LANES[side])
            scales[i] = kept_scale(norm2, tree_sum(row * level), F32((level.astype(np.int64) ** 2).sum()), side)
            continue
        book = BOOKS[bits]
        half = len(book.levels)
        units = book.alpha / np.sqrt(norm2 / F32(len(row)))
        magnitude, minus = np.abs(row), np.signbit(row)
        gains = GAINS if gain_search else GAINS[4:5]
        trials = []
        for gain in gains:
            k = np.searchsorted(book.thresholds, magnitude * (gain * units), side="right")
            level = book.levels[k]
            trials.append((k, tree_sum(magnitude * level), F32((level.astype(np.int64) ** 2).sum())))
        score = [float(dot * dot / power) for _, dot, power in trials]
        k, dot, power = trials[score.index(max(score))]  # the first of the best
        codes[i] = np.where(minus, half - 1 - k, half + k)
        scales[i] = kept_scale(norm2, dot, power, side)
    return codes, scales


def codewords(codes, bits):
    if bits == 8:
        return codes.astype(F32) - F32(128)
    levels = BOOKS[bits].levels
    return np.concatenate([-levels[::-1], levels])[codes]


def decode(codes, scales, bits, side, along_trellis=False):
    levels = trellis.codewords(codes, bits, LANES[side]) if along_trellis else codewords(codes, bits)
    return unrotate(scales.view(F16).astype(F32)[:, None] * levels, side)


# --- layouts ---

def pack_rows(codes, bits):
    """[num, head_dim] -> [num, head_dim * bits / 8]: a little-endian bit string per row."""
    expanded = (codes[..., None] >> np.arange(bits, dtype=np.uint8)) & 1
    return np.packbits(expanded.reshape(len(codes), -1), axis=-1, bitorder="little")


def pack_tile(codes, bits, side):
    """[64, head_dim] -> the codes of a simd64 tile: chunks of eight vectors of 64 lanes, main plane, then extra plane."""
    d = codes.shape[1]
    if side == KEY:
        vectors = codes.reshape(4, 16, d // 4, 4).transpose(2, 0, 1, 3)
    else:
        vectors = codes.reshape(16, 4, d // 16, 16).transpose(2, 0, 3, 1)
    chunks = vectors.reshape(d // 8, 8, 64)

    def plane(values, width):
        grouped = values.reshape(len(values), width, 8 // width, 64)  # width byte rows of 8 / width vectors
        shifted = grouped << (width * np.arange(8 // width, dtype=np.uint8))[:, None]
        return np.bitwise_or.reduce(shifted, axis=2).reshape(len(values), -1)
    main = {2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 8: 8}[bits]
    planes = [plane(chunks & np.uint8(2 ** main - 1), main)]
    if bits > main:
        planes.append(plane(chunks >> np.uint8(main), bits - main))
    return np.concatenate(planes, axis=1).reshape(-1)


def seal(rows, counted, bits, side, centred, balance=None, along_trellis=False):
    """rows [64, head_dim] binary16 -> (blob bytes, codes, scales, reference)."""
    used = np.array([counted >> t & 1 for t in range(TOKENS)], bool)
    numbers = np.where(used[:, None], rows.astype(F32), F32(0))
    mean = np.zeros(rows.shape[1], F16)
    summed = used & np.isfinite(numbers).all(axis=1)
    if centred and summed.any():
        mean = (tree_sum(np.where(summed[:, None], numbers, F32(0)).T) / F32(summed.sum())).astype(F16)
    x = np.where(used[:, None], numbers - mean.astype(F32), F32(0))
    if balance is not None:
        x = np.ldexp(x, balance.astype(np.int32))
    codes, scales = encode(x, bits, side, along_trellis=along_trellis)
    parts = [pack_tile(codes, bits, side), scales.view(np.uint8)]
    if side == KEY:
        parts.append(mean.view(np.uint8))
    return np.concatenate(parts), codes, scales, mean


def open_tile(codes, scales, mean, bits, side, balance=None, along_trellis=False):
    x = decode(codes, scales, bits, side, along_trellis)
    if balance is not None:
        x = np.ldexp(x, -balance.astype(np.int32))
    return (x + mean.astype(F32)).astype(F16)


# --- the data ---

def test_vectors(d):
    x = np.zeros((7, d), F32)
    x[0:3] = test_numbers(d, (3, d))
    x[1] *= F32(1000)
    x[1, 5] *= F32(40)             # an outlier
    x[2] *= F32(2.0 ** -13)        # scales become binary16 subnormals
    x[3, d // 3] = -2              # flat when rotated
    x[4, 1], x[4, d - 2] = 3, 3    # zeros of both signs when rotated
    x[5] = test_numbers(d + 1, (d,)).astype(F16).astype(F32)
    x[5, 7] = np.nan
    return x                       # the last one stays zero


@functools.lru_cache
def tile_rows(d):
    mean = 3 * test_numbers(7000 + d, (d,))
    mean[11] *= 20
    rows = (test_numbers(8000 + d, (TOKENS, d)) + mean).astype(F16)
    rows[20, 5] = -np.inf          # counts for nothing but itself
    return rows


def make_signs(put):
    for seed in (SEED, 0, 1, 2 ** 64 - 1):
        for stream in (0, 1):
            put(f"{seed:016x}/{stream}", signs(seed, stream, 576))


def make_codebooks(put):
    for bits, book in BOOKS.items():
        put(f"{bits}/exact", np.array(book.exact))
        put(f"{bits}/mse", np.array([book.exact_mse, book.mse]))
        put(f"{bits}/levels", book.levels.astype(np.int8))
        put(f"{bits}/alpha", np.array([book.alpha], F32))
        put(f"{bits}/thresholds", book.thresholds)


def make_rotations(put):
    for d in HEAD_DIMS:
        x = test_numbers(20 + d, (2, d))
        put(f"{d}/x", x)
        for name, side in SIDES.items():
            put(f"{d}/{name}/forward", rotate(x, side))
            put(f"{d}/{name}/inverse", unrotate(x, side))
    put("haar/64", haar(64, SEED, KEY).astype(F32))


def make_encoded(put):
    for d in HEAD_DIMS:
        x = test_vectors(d)
        put(f"{d}/x", x)
        for bits in BITS:
            for name, side in SIDES.items():
                codes, scales = encode(x, bits, side)
                put(f"{d}/{bits}/{name}/codes", codes)
                put(f"{d}/{bits}/{name}/scales", scales)
                if bits in trellis.TABLES:
                    codes, scales = encode(x, bits, side, along_trellis=True)
                    put(f"{d}/{bits}/trellis-{name}/codes", codes)
                    put(f"{d}/{bits}/trellis-{name}/scales", scales)
            if d in (80, 128) and bits < 8:
                codes, scales = encode(x, bits, KEY, gain_search=False)
                put(f"{d}/{bits}/one-gain/codes", codes)
                put(f"{d}/{bits}/one-gain/scales", scales)


def make_tiles(put):
    everything = 2 ** 64 - 1
    cases = [(64, bits, everything - 15) for bits in BITS] + [(80, 3, everything), (128, 4, everything - 15), (96, 5, 0x00FFFF0000FF1234)]
    for d in sorted({case[0] for case in cases}):
        put(f"{d}/rows", tile_rows(d))
    for d, bits, counted in cases:
        put(f"{d}/{bits}/counted", np.array([counted], np.uint64))
        balance = np.array([word(5, 5, j) % 17 - 8 for j in range(d)], np.int8)
        if bits == 4:
            put(f"{d}/{bits}/balance", balance)
        for name, side, centred, exponents, along_trellis in (("key", KEY, True, None, False), ("balanced-key", KEY, True, balance, False),
                                                        ("plain-key", KEY, False, None, False), ("value", VALUE, False, None, False),
                                                        ("trellis-key", KEY, True, None, True), ("trellis-value", VALUE, False, None, True)):
            if name in ("balanced-key", "plain-key") and bits != 4 or along_trellis and bits not in trellis.TABLES:
                continue
            blob, codes, scales, mean = seal(tile_rows(d), counted, bits, side, centred, exponents, along_trellis)
            put(f"{d}/{bits}/{name}/blob", blob)
            if d == 64 and bits in (3, 4):
                put(f"{d}/{bits}/{name}/opened", open_tile(codes, scales, mean, bits, side, exponents, along_trellis).view(np.uint16))


def make_row_records(put):
    """Layout `rows`: K codes, K scale, V codes, V scale. The codes are those of the tiles."""
    for d, key_bits, value_bits in ((64, 3, 6), (64, 5, 2)):
        counted = 2 ** 64 - 16
        _, key_codes, key_scales, _ = seal(tile_rows(d), counted, key_bits, KEY, True)
        _, value_codes, value_scales, _ = seal(tile_rows(d), counted, value_bits, VALUE, False)
        packed = np.concatenate([pack_rows(key_codes, key_bits), key_scales.view(np.uint8).reshape(TOKENS, 2),
                                 pack_rows(value_codes, value_bits), value_scales.view(np.uint8).reshape(TOKENS, 2)], axis=1)
        put(f"{d}/{key_bits}/{value_bits}", packed)


# --- schemes: one vector to one record ---

SKETCH_STREAM = 2


def plain_codes(y, bits):
    """Rotated vectors [num, n] -> codes, factors (binary16), and what they decode to."""
    levels = BOOKS[bits].levels / BOOKS[bits].alpha if bits > 1 else np.array([math.sqrt(2 / math.pi)], F32)
    thresholds, half = F32(0.5) * (levels[1:] + levels[:-1]), len(levels)
    codes, factors = np.full(y.shape, half, np.uint8), np.zeros(len(y), F16)
    for i, row in enumerate(y):
        norm2 = tree_sum(row * row)
        if norm2 == 0 or not np.isfinite(norm2):
            factors[i] = 0 if norm2 == 0 else np.array(0x7E00, np.uint16).view(F16)
            continue
        k = np.searchsorted(thresholds, np.abs(row) * (np.sqrt(F32(len(row))) / np.sqrt(norm2)), side="right")
        codes[i] = np.where(np.signbit(row), half - 1 - k, half + k)
        factors[i] = min(np.sqrt(norm2), F32(65504))
    signed = np.concatenate([-levels[::-1], levels])[codes]
    return codes, factors, (factors.astype(F32) * norm(y.shape[1]))[:, None] * signed


def bit_string(codes, bits):
    return np.packbits(((codes[..., None] >> np.arange(bits, dtype=np.uint8)) & 1).reshape(len(codes), -1), axis=-1, bitorder="little")


def halves(factors):
    return factors.reshape(len(factors), -1).astype(F16).view(np.uint8)


@functools.lru_cache
def normal_matrix(d, seed, stream):
    def normal(i):
        u = ((word(seed, stream, 2 * i) >> 11) + 0.5) * 2.0 ** -53
        v = (word(seed, stream, 2 * i + 1) >> 11) * 2.0 ** -53
        return math.sqrt(-2 * math.log(u)) * math.cos(2 * math.pi * v)
    return np.array([normal(i) for i in range(d * d)], F32).reshape(d, d)


def prod_records(x, bits, orthogonal):
    d = x.shape[1]
    y = rotate(x, KEY)
    codes, factors, decoded = plain_codes(y, bits - 1)
    residual = y - decoded
    if orthogonal:
        sketch = rotate(residual * np.sqrt(F32(d)), SKETCH_STREAM)
    else:
        matrix, sketch = normal_matrix(d, SEED, SKETCH_STREAM), np.zeros_like(y)
        for j in range(d):
            sketch = sketch + residual[:, j, None] * matrix[:, j]
    norms = np.minimum(np.sqrt(tree_sum(residual * residual)), F32(65504)).astype(F16)
    special = (factors == 0) | np.isnan(factors)
    norms = np.where(special, factors, norms)
    minus = (sketch < 0) & ~special[:, None]
    return np.concatenate([bit_string(codes, bits - 1), np.packbits(minus, axis=-1, bitorder="little"),
                           halves(np.stack([factors, norms], axis=1))], axis=1)


def group_records(x, bits):
    steps = F32(2 ** bits - 1)
    codes, parameters = np.zeros(x.shape, np.uint8), []
    for begin in range(0, x.shape[1], 32):
        part = x[:, begin:begin + 32]
        finite = np.isfinite(part).all(axis=1)
        low, high = part.min(axis=1), part.max(axis=1)
        scale = np.minimum((high - low) / steps, F32(65504)).astype(F16)
        zero = np.clip(low, F32(-65504), F32(65504)).astype(F16)
        nan = np.array(0x7E00, np.uint16).view(F16)
        scale, zero = np.where(finite, scale, nan), np.where(finite, zero, nan)
        used = finite & (scale > 0)
        spread = np.where(used, scale, F16(1)).astype(F32)[:, None]
        exact = np.clip((part - zero.astype(F32)[:, None]) / spread, F32(0), steps)
        codes[:, begin:begin + 32] = np.where(used[:, None], np.rint(np.where(used[:, None], exact, F32(0))), F32(0)).astype(np.uint8)
        parameters += [scale, zero]
    return np.concatenate([bit_string(codes, bits), halves(np.stack(parameters, axis=1))], axis=1)


def split_records(x, bits, side, outliers):
    others = [j for j in range(x.shape[1]) if j not in set(outliers)]
    codes, factors, _ = plain_codes(rotate(x[:, outliers], 4 + side), bits + 1)
    other_codes, other_factors, _ = plain_codes(rotate(x[:, others], 6 + side), bits)
    return np.concatenate([bit_string(codes, bits + 1), bit_string(other_codes, bits), halves(np.stack([factors, other_factors], axis=1))], axis=1)


def make_schemes(put):
    for d in (64, 80, 128):
        x = test_vectors(d)
        put(f"{d}/x", x)
        for bits in (2, 3, 4):
            put(f"{d}/prod-orthogonal/{bits}", prod_records(x, bits, True))
        if d == 64:
            put(f"{d}/prod-gaussian/3", prod_records(x, 3, False))
        for bits in (2, 4):
            put(f"{d}/group/{bits}", group_records(x, bits))
        power = np.array([word(6, 6, j) % 1000 for j in range(d)], np.float64)
        outliers = sorted(sorted(range(d), key=lambda j: (-power[j], j))[:d // 4])
        put(f"{d}/power", power)
        put(f"{d}/outliers", np.array(outliers, np.uint16))
        for bits in (2, 3):
            for name, side in SIDES.items():
                put(f"{d}/split/{name}/{bits}", split_records(x, bits, side, outliers))


def make_record_pages(put):
    """Layout `records64`: 64 key records, the reference where keys are codes, 64 value records, zeros up to a multiple of 128 bytes."""
    def code_part(d, bits, side, along_trellis):
        _, codes, scales, mean = seal(tile_rows(d), 2 ** 64 - 1, bits, side, side == KEY, along_trellis=along_trellis)
        part = np.concatenate([pack_rows(codes, bits), scales.view(np.uint8).reshape(TOKENS, 2)], axis=1).reshape(-1)
        return np.concatenate([part, mean.view(np.uint8)]) if side == KEY else part

    def page(name, keys, values):
        blob = np.concatenate([keys, values])
        put(name, np.concatenate([blob, np.zeros(-len(blob) % 128, np.uint8)]))

    numbers = {d: tile_rows(d).astype(F32) for d in (64, 80)}
    page("64/prod3/group2", prod_records(numbers[64], 3, False).reshape(-1), group_records(numbers[64], 2).reshape(-1))
    page("80/prod2-orthogonal/codes8", prod_records(numbers[80], 2, True).reshape(-1), code_part(80, 8, VALUE, False))
    page("80/codes3/group4", code_part(80, 3, KEY, False), group_records(numbers[80], 4).reshape(-1))
    page("64/trellis4/trellis3", code_part(64, 4, KEY, True), code_part(64, 3, VALUE, True))
    page("80/trellis2/codes8", code_part(80, 2, KEY, True), code_part(80, 8, VALUE, False))


FILES = {"signs": make_signs, "codebooks": make_codebooks, "rotations": make_rotations, "encoded": make_encoded,
         "tiles": make_tiles, "records": make_row_records, "schemes": make_schemes, "record_pages": make_record_pages}


def main():
    differences = 0
    for name, make in FILES.items():
        path = DATA / f"{name}.bin"
        made = records.collect(make)
        if "--check" not in sys.argv[1:]:
            DATA.mkdir(exist_ok=True)
            records.write(path, made)
            print(f"{path}: {len(made)} records, {path.stat().st_size} bytes")
            continue
        found = records.read(path)
        for record in sorted(made.keys() | found.keys()):
            if record not in made or record not in found or not records.same(made[record], found[record]):
                print(f"{path.name}: record {record} differs")
                differences += 1
    if differences:
        print("Run tests/golden/make_golden.py to write the data anew; if that changes bytes, the format has changed.")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
