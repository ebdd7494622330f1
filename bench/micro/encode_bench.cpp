// Encoding: vectors by the kernel, and whole tiles as the store seals them. Time is per vector of one KV head.
#include <benchmark/benchmark.h>

#include "cpu/tile_codec.hpp"
#include "micro/data.hpp"

namespace turboquant::bench {
namespace {

Coder coder_of(int dim, int bits, bool trellis = true) {
    Spec spec;
    spec.trellis_codes = trellis;
    spec.head_dim = dim;
    spec.key_bits = bits;
    return make_coder(spec, Side::key);
}

void encode(benchmark::State& state, int dim, int bits, bool trellis) {
    const Coder coder = coder_of(dim, bits, trellis);
    const cpu::CoderParams params = cpu::coder_params(coder);
    const std::vector<float> x = normals(static_cast<std::size_t>(kTileTokens) * dim, 1);
    std::vector<std::uint8_t> codes(x.size());
    float scales[kTileTokens];
    for (auto _ : state) {
        cpu::kernels().encode(params, x.data(), kTileTokens, codes.data(), scales);
        benchmark::DoNotOptimize(codes.data());
        benchmark::ClobberMemory();
    }
    state.counters["per_vector"] = per(kTileTokens);
}

void seal(benchmark::State& state, int dim, int bits) {
    const cpu::TileCodec codec(coder_of(dim, bits));
    const std::vector<std::uint16_t> rows = halves(static_cast<std::size_t>(kTileTokens) * dim, 1);
    std::vector<std::uint8_t> blob(codec.layout().blob_bytes());
    cpu::CodecScratch scratch;
    for (auto _ : state) {
        codec.seal(rows.data(), dim, ~0ull, true, {}, blob.data(), scratch);
        benchmark::ClobberMemory();
    }
    state.counters["per_vector"] = per(kTileTokens);
}

void open(benchmark::State& state, int dim, int bits) {
    const cpu::TileCodec codec(coder_of(dim, bits));
    std::vector<std::uint16_t> rows = halves(static_cast<std::size_t>(kTileTokens) * dim, 1);
    std::vector<std::uint8_t> blob(codec.layout().blob_bytes());
    cpu::CodecScratch scratch;
    codec.seal(rows.data(), dim, ~0ull, true, {}, blob.data(), scratch);
    for (auto _ : state) {
        codec.open(blob.data(), {}, rows.data(), dim, scratch);
        benchmark::ClobberMemory();
    }
    state.counters["per_vector"] = per(kTileTokens);
}

const int registered = [] {
    for (const int dim : {64, 80, 128}) {
        for (const int bits : {2, 3, 4, 8}) {
            const std::string what = "/d" + std::to_string(dim) + "/" + std::to_string(bits) + "bit";
            benchmark::RegisterBenchmark(("encode" + what).c_str(), encode, dim, bits, true);
            if (bits <= 4) benchmark::RegisterBenchmark(("encode" + what + "-scalar-codes").c_str(), encode, dim, bits, false);
            benchmark::RegisterBenchmark(("seal" + what).c_str(), seal, dim, bits);
            benchmark::RegisterBenchmark(("open" + what).c_str(), open, dim, bits);
        }
    }
    return 0;
}();

}  // namespace
}  // namespace turboquant::bench
