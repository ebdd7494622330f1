// Decode attention: one query token, G query heads per KV head, one thread, 4,096 cells of two KV heads ("dram": 32,768 cells of
// eight, more than any cache close to a core holds). Time is per cell and KV head, all G query heads together. f16 is llama.cpp's algorithm on the same processor, compiled for the same registers.
#include <benchmark/benchmark.h>

#include "micro/data.hpp"
#include "micro/f16_attention.hpp"
#include "turboquant/cache.hpp"
#include "turboquant/cpu.hpp"

namespace turboquant::bench {
namespace {

struct Size {
    int cells, kv_heads;
};
constexpr Size kNear{4096, 2}, kFar{32768, 8};

auto f16_of_this_machine() {
#ifdef TQ_BENCH_X86
    if (isa_name() == "avx512vnni" || isa_name() == "avx512vbmi") return f16_attention_avx512;
    if (isa_name() == "avx2" || isa_name() == "avxvnni") return f16_attention_avx2;
#endif
    return f16_attention_scalar;
}

void decode_f16(benchmark::State& state, int dim, int group_size, Size size) {
    const std::size_t row = static_cast<std::size_t>(size.kv_heads) * dim;
    const std::vector<std::uint16_t> keys = halves(size.cells * row, 1), values = halves(size.cells * row, 2);
    const std::vector<float> query = normals(row * group_size, 3);
    std::vector<float> out(query.size());
    const F16Attention args{size.kv_heads * group_size, group_size, dim, size.cells, query.data(), keys.data(), values.data(), 0.1f, out.data()};
    const auto attention = f16_of_this_machine();
    for (auto _ : state) {
        attention(args);
        benchmark::ClobberMemory();
    }
    state.counters["per_cell_and_head"] = per(1.0 * size.cells * size.kv_heads);
}

std::unique_ptr<TileStore> filled(const Spec& spec, CacheSide side, Worker worker, Size size) {
    auto store = std::move(TileStore::create(spec, {side, size.kv_heads, size.cells, 1}).value());
    const std::size_t row = static_cast<std::size_t>(size.kv_heads) * spec.head_dim;
    const std::vector<float> rows = normals(size.cells * row, side == CacheSide::keys ? 1 : 2);
    std::vector<std::int64_t> cells(size.cells);
    for (int i = 0; i < size.cells; ++i) cells[i] = i;
    store->write(worker, rows.data(), row, cells.data(), size.cells);
    store->seal(worker);
    return store;
}

void decode(benchmark::State& state, Spec spec, int group_size, int queries, Size size) {
    Team team;
    const Worker worker{&team, 0, 1};
    const auto keys = filled(spec, CacheSide::keys, worker, size), values = filled(spec, CacheSide::values, worker, size);
    const std::size_t d = spec.head_dim, heads = static_cast<std::size_t>(size.kv_heads) * group_size;
    const std::vector<float> query = normals(heads * queries * d, 3);
    std::vector<float> out(query.size());
    AttentionArgs args;
    args.num_queries = queries;
    args.num_heads = static_cast<int>(heads);
    args.num_cells = size.cells;
    args.query = query.data();
    args.query_stride = d;
    args.query_head_stride = d * queries;
    args.scale = 0.1f;
    args.out = out.data();
    args.out_stride = d;
    args.out_query_stride = d * heads;
    AttentionScratch scratch;
    attend(worker, *keys, *values, args, scratch);  // decides about the keys and seals them
    for (auto _ : state) {
        attend(worker, *keys, *values, args, scratch);
        benchmark::ClobberMemory();
    }
    state.counters[queries == 1 ? "per_cell_and_head" : "per_cell_head_query"] = per(1.0 * size.cells * size.kv_heads * queries);
}

const int registered = [] {
    for (const int dim : {64, 128}) {
        for (const int group_size : {1, 3, 4, 7, 8}) {
            const std::string what = "/d" + std::to_string(dim) + "/G" + std::to_string(group_size);
            benchmark::RegisterBenchmark(("decode" + what + "/f16").c_str(), decode_f16, dim, group_size, kNear);
            for (const char* name : {"k4v4", "k3v2", "k8v8"}) {
                Spec spec = find_preset(name).value().spec;
                spec.head_dim = dim;
                benchmark::RegisterBenchmark(("decode" + what + "/" + name).c_str(), decode, spec, group_size, 1, kNear);
                if (spec.value_bits > 4) continue;
                spec.trellis_codes = false;
                benchmark::RegisterBenchmark(("decode" + what + "/" + name + "-scalar-codes").c_str(), decode, spec, group_size, 1, kNear);
            }
        }
        for (const char* name : {"k4v4", "k3v2"}) {
            Spec spec = find_preset(name).value().spec;
            spec.head_dim = dim;
            benchmark::RegisterBenchmark(("dram/d" + std::to_string(dim) + "/G4/" + name).c_str(), decode, spec, 4, 1, kFar);
        }
        benchmark::RegisterBenchmark(("dram/d" + std::to_string(dim) + "/G4/f16").c_str(), decode_f16, dim, 4, kFar);
        Spec spec;
        spec.head_dim = dim;
        benchmark::RegisterBenchmark(("prefill/d" + std::to_string(dim) + "/G4/k4v4").c_str(), decode, spec, 4, 64, kNear);
    }
    return 0;
}();

}  // namespace
}  // namespace turboquant::bench
