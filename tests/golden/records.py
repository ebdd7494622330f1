"""The golden data files: a sequence of records, each a line "name dtype shape", then the numbers, little-endian."""
import math

import numpy as np


def collect(make):
    """What make(put) puts, by name."""
    records = {}

    def put(name, array):
        assert name not in records, name
        array = np.ascontiguousarray(array)
        records[name] = array.astype(array.dtype.newbyteorder("<"))
    make(put)
    return records


def write(path, records):
    with open(path, "wb") as file:
        for name, array in records.items():
            file.write(f"{name} {array.dtype.str[1:]} {','.join(map(str, array.shape))}\n".encode() + array.tobytes())


def read(path):
    data, at, records = path.read_bytes(), 0, {}
    while at < len(data):
        end = data.index(b"\n", at)
        name, dtype, shape = data[at:end].decode().split(" ")
        shape = tuple(map(int, shape.split(",")))
        array = np.frombuffer(data, "<" + dtype, math.prod(shape), end + 1).reshape(shape)
        records[name] = array
        at = end + 1 + array.nbytes
    return records


def same(a, b):
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype == np.float64:  # solved numbers: the last digits are the C library's
        return bool(np.allclose(a, b, rtol=1e-9, atol=0))
    return a.tobytes() == b.tobytes()
