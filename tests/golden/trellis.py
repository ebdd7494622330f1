"""Trellis codes for make_golden.py: level = 4 * (code >> 1) + 2 * (lowest bit of the code ^ that of the code before last) + that of
the last code, along an order in which neighbours are `lanes` dimensions apart (docs/format.md, sections 4 and 5)."""
import pathlib
import re

import numpy as np

F32 = np.float32
GAINS = np.array([0.8, 0.9, 1.0, 1.1, 1.2], F32)


def read_tables():
    """{bits: (alpha, levels ascending)}: the tables are part of the format and checked against their solver elsewhere."""
    text = (pathlib.Path(__file__).parents[2] / "src" / "core" / "trellis_tables.inc").read_text()
    tables = {}
    for bits, alpha, levels in re.findall(r"TQ_TRELLIS\((\d), ([\d.]+)f, ([\d, ]+)\)", text):
        positive = np.array([int(level) for level in levels.split(",")], F32)
        tables[int(bits)] = F32(float(alpha)), np.concatenate([-positive[::-1], positive])
    return tables


TABLES = read_tables()


def order_of(d, lanes):
    return np.arange(d).reshape(-1, lanes).T.ravel()


def best_codes(x, levels):
    """Viterbi over states (last, one before last): (squared error, codes) of the nearest sequence to x."""
    paths = {(0, 0): (F32(0), None)}  # state: error, linked list of codes from the end
    for number in x:
        nearest = []
        for subset in range(4):
            own = levels[subset::4]
            nearest.append(int(np.searchsorted(F32(0.5) * (own[:-1] + own[1:]), number, side="right")))
        grown = {}
        for last in (0, 1):
            for before in (0, 1):  # ascending: of equals the first stays
                if (last, before) not in paths:
                    continue
                error, codes = paths[last, before]
                for low in (0, 1):
                    subset = 2 * (low ^ before) + last
                    upper = nearest[subset]
                    distance = number - levels[4 * upper + subset]
                    candidate = error + distance * distance
                    if (low, last) not in grown or candidate < grown[low, last][0]:
                        grown[low, last] = candidate, (2 * upper + low, codes)
        paths = grown
    error, linked = min((paths[state] for state in ((0, 0), (0, 1), (1, 0), (1, 1)) if state in paths), key=lambda path: path[0])
    codes = []
    while linked is not None:
        codes.append(linked[0])
        linked = linked[1]
    return error, np.array(codes[::-1], np.uint8)


def codewords(codes, bits, lanes):
    """[num, head_dim] codes -> levels."""
    order = order_of(codes.shape[-1], lanes)
    along = codes[:, order].astype(np.int64)
    low = np.pad(along & 1, ((0, 0), (2, 0)))
    out = np.empty(codes.shape, F32)
    out[:, order] = TABLES[bits][1][4 * (along >> 1) + 2 * (low[:, 2:] ^ low[:, :-2]) + low[:, 1:-1]]
    return out


def encode(row, norm2, bits, lanes):
    """One rotated vector -> (codes, levels)."""
    alpha, levels = TABLES[bits]
    units = alpha / np.sqrt(norm2 / F32(len(row)))
    order = order_of(len(row), lanes)
    trials = []
    for gain in GAINS:
        error, along = best_codes(row[order] * (gain * units), levels)
        trials.append((error / (gain * gain), along))
    codes = np.empty(len(row), np.uint8)
    codes[order] = min(trials, key=lambda trial: trial[0])[1]
    return codes, codewords(codes[None], bits, lanes)[0]
