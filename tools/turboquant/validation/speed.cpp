// Encoding speed on this machine beside Table 2 of the paper. For information: the paper's figures are from an A100, and what it timed is
// disputed (arXiv 2604.19528).
#include <array>
#include <chrono>
#include <cmath>
#include <numeric>
#include <thread>

#include <fmt/format.h>

#include "core/study/random.hpp"
#include "turboquant/cache.hpp"
#include "turboquant/cpu.hpp"
#include "validation/row.hpp"

namespace turboquant::validation {
namespace {

struct Case {
    int dim;       // the paper's
    int head_dim;  // ours: blocks of this size, the last padded with zeros
    double paper;  // seconds for 100,000 vectors at 4 bits
};
constexpr std::array kCases = {Case{200, 256, 0.0007}, Case{1536, 256, 0.0013}, Case{3072, 256, 0.0021}};
constexpr int kVectors = 100000;

// Seconds to encode `vectors` vectors of `blocks` blocks: writing to a store without a tail encodes each row at once.
double seconds_to_encode(const Options& options, int head_dim, int blocks, int vectors) {
    Spec spec = presets().front().spec;
    spec.head_dim = head_dim;
    spec.centred_keys = spec.balanced_keys = spec.wide_keys = false;
    spec.sink_tokens = spec.kept_keys = spec.tail_tiles = 0;
    const Result<std::unique_ptr<TileStore>> made = TileStore::create(spec, {CacheSide::values, blocks, vectors, 1});
    if (!made.ok()) return NAN;
    TileStore& store = *made.value();
    const auto row = static_cast<std::size_t>(head_dim) * blocks;
    std::vector<double> normal(row * 64);
    study::fill_normal(0x5eed, 0, normal);
    const std::vector<float> rows(normal.begin(), normal.end());  // the same 64 rows again and again
    Team team;
    const auto work = [&](int index) {
        const Worker worker{&team, index, options.threads};
        std::vector<std::int64_t> cells(64);
        for (int first = 0; first < vectors; first += 64) {
            std::iota(cells.begin(), cells.end(), first);
            store.write(worker, rows.data(), row, cells.data(), std::min(64, vectors - first));
        }
    };
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::thread> others;
    for (int t = 1; t < options.threads; ++t) others.emplace_back(work, t);
    work(0);
    for (std::thread& other : others) other.join();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

Rows speed_rows(const Options& options) {
    Rows rows;
    for (const Case& c : kCases) {
        const int blocks = (c.dim + c.head_dim - 1) / c.head_dim;
        const int vectors = (options.quick ? 64 : 1024) * 12 / blocks;
        seconds_to_encode(options, c.head_dim, blocks, 64);  // warm-up
        const double seconds = seconds_to_encode(options, c.head_dim, blocks, vectors) * kVectors / vectors;
        rows.push_back(
            {"speed", fmt::format("encode 100,000 vectors, d={}, 4 bits: seconds", c.dim), c.paper, std::nullopt, seconds,
             std::nullopt, std::nullopt,
             fmt::format("for information: {} x Hadamard {} with gain search, {} threads ({}), from {} vectors; the paper's: A100",
                         blocks, c.head_dim, options.threads, isa_name(), vectors)});
    }
    return rows;
}

}  // namespace turboquant::validation
