// Times attention and encoding on pages of records, the plain path: what it costs that nobody has made it fast. Prints a table and, to the file
// given with --json, the results. Rows are random numbers that append() itself has coded; page numbers are shuffled.
//
//   tq_gpu_plain_bench [--json FILE]
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "timing.hpp"
#include "turboquant/cuda.hpp"

using namespace turboquant;

namespace {

constexpr int kHeads = 8, kGroup = 4, kHeadDim = 128;

struct Named {
    const char* name;
    cuda::PageSpec spec;
};

std::vector<Named> specs() {
    const auto make = [](int key_bits, int value_bits, Estimator estimator, Sketch sketch, ValueScheme scheme, bool trellis) {
        cuda::PageSpec spec;
        spec.head_dim = kHeadDim;
        spec.key_bits = key_bits;
        spec.value_bits = value_bits;
        spec.key_estimator = estimator;
        spec.sketch = sketch;
        spec.value_scheme = scheme;
        spec.trellis_codes = trellis;
        spec.centred_keys = estimator == Estimator::mse;
        return spec;
    };
    return {{"paper-k3v2", make(3, 2, Estimator::prod, Sketch::gaussian, ValueScheme::group, false)},
            {"k3v2 orthogonal sketch, groups", make(3, 2, Estimator::prod, Sketch::orthogonal, ValueScheme::group, false)},
            {"k4v4 prod, rotated", make(4, 4, Estimator::prod, Sketch::gaussian, ValueScheme::rotated, false)},
            {"k4v4 mse, groups", make(4, 4, Estimator::mse, Sketch::gaussian, ValueScheme::group, false)},
            {"k4v4 trellis", make(4, 4, Estimator::mse, Sketch::gaussian, ValueScheme::rotated, true)},
            {"k3v2 trellis", make(3, 2, Estimator::mse, Sketch::gaussian, ValueScheme::rotated, true)}};
}

void measure(const Named& named, int batch, int length, std::ofstream* json, bool* first) {
    const int pages = batch * length / 64, tokens = batch * length;
    cuda::PagedCache cache;
    cache.spec = named.spec;
    cache.kv_heads = kHeads;
    cache.head_stride = static_cast<std::int64_t>(cuda::blob_bytes(named.spec));
    cache.page_stride = cache.head_stride * kHeads;
    Buffer pool(static_cast<std::size_t>(cache.page_stride) * pages);
    cache.pages = pool.data;
    std::vector<float> table(std::max<std::size_t>(1, cuda::sketch_table_bytes(named.spec) / sizeof(float)));
    if (cuda::sketch_table_bytes(named.spec) > 0) must(cuda::fill_sketch_table(named.spec, table.data()));
    Buffer sketch(table);
    cache.sketch_table = sketch.as<float>();
    std::mt19937 engine(1);
    std::normal_distribution<float> normal;
    std::vector<std::int32_t> order(pages), starts, lengths(batch, length);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), engine);
    std::vector<std::int64_t> slots;
    for (int t = 0; t < tokens; ++t) slots.push_back(order[t / 64] * 64ll + t % 64);
    for (int b = 0; b <= batch; ++b) starts.push_back(b * length);
    // Two thousand random rows, again and again.
    const int rows = std::min(tokens, 2048);
    std::vector<std::uint16_t> numbers(static_cast<std::size_t>(rows) * kHeads * kHeadDim);
    for (auto& x : numbers) {
        const float v = normal(engine);
        std::uint32_t bits;
        std::memcpy(&bits, &v, 4);
        x = static_cast<std::uint16_t>(bits >> 16);
    }
    Buffer input(numbers), slots_device(slots), order_device(order), starts_device(starts), lengths_device(lengths);
    cuda::AppendArgs append;
    append.tokens = rows;
    append.keys = append.values = input.data;
    append.key_token_stride = append.value_token_stride = kHeads * kHeadDim;
    append.key_head_stride = append.value_head_stride = kHeadDim;
    for (int done = 0; done < tokens; done += rows) {
        append.slots = slots_device.as<std::int64_t>() + done;
        must(cuda::append(cache, append, nullptr));
    }
    append.slots = slots_device.as<std::int64_t>();
    const double append_us = median_microseconds(2, 7, 3, [&] { must(cuda::append(cache, append, nullptr)); });

    const int heads = kHeads * kGroup;
    const auto needed = cuda::attend_workspace(named.spec, kHeads, heads, 1);
    if (!needed.ok()) must(needed.status());
    Buffer workspace(needed.value().bytes), output(static_cast<std::size_t>(batch) * heads * kHeadDim * 2);
    must(cudaMemset(workspace.data, 0, needed.value().zeroed));
    std::vector<std::uint16_t> queries(static_cast<std::size_t>(batch) * heads * kHeadDim);
    for (std::size_t i = 0; i < queries.size(); ++i) queries[i] = numbers[i * 7 % numbers.size()];
    Buffer query_device(queries);
    cuda::AttendArgs attend;
    attend.batch = batch;
    attend.query_heads = heads;
    attend.query = query_device.data;
    attend.output = output.data;
    attend.query_token_stride = attend.output_token_stride = heads * kHeadDim;
    attend.query_head_stride = attend.output_head_stride = kHeadDim;
    attend.lengths = lengths_device.as<std::int32_t>();
    attend.block_table = order_device.as<std::int32_t>();
    attend.table_stride = length / 64;
    attend.scale = 1 / std::sqrt(static_cast<float>(kHeadDim));
    attend.workspace = workspace.data;
    attend.workspace_bytes = needed.value().bytes;
    const double attend_us = median_microseconds(2, 7, 3, [&] { must(cuda::attend(cache, attend, nullptr)); });
    const double gb_per_s = static_cast<double>(cache.page_stride) * pages / attend_us * 1e-3;
    std::printf("%-32s batch %3d context %6d   attend %10.1f us  %7.1f GB/s of codes   append of %4d tokens %9.1f us\n", named.name, batch, length, attend_us, gb_per_s, rows, append_us);
    if (!json) return;
    *json << (*first ? "" : ",\n") << "{\"op\": \"attend\", \"path\": \"plain\", \"preset\": \"" << named.name << "\", \"group\": " << kGroup << ", \"head_dim\": " << kHeadDim << ", \"batch\": " << batch
          << ", \"context\": " << length << ", \"us\": " << attend_us << ", \"gb_per_s\": " << gb_per_s << "},\n{\"op\": \"append\", \"path\": \"plain\", \"preset\": \"" << named.name
          << "\", \"head_dim\": " << kHeadDim << ", \"tokens\": " << rows << ", \"us\": " << append_us << "}";
    *first = false;
}

}  // namespace

int main(int argc, char** argv) {
    std::ofstream file;
    for (int i = 1; i + 1 < argc; ++i) {
        if (std::strcmp(argv[i], "--json") == 0) file.open(argv[i + 1]);
    }
    const auto devices = cuda::devices();
    if (devices.empty()) return 77;
    std::printf("%s, 8 KV heads, group 4, head_dim 128\n", devices[0].name.c_str());
    bool first = true;
    if (file.is_open()) file << "{\"environment\": {\"device\": \"" << devices[0].name << "\"}, \"results\": [\n";
    for (const Named& named : specs()) {
        for (const auto& [batch, length] : {std::pair{1, 1024}, {1, 32768}, {64, 1024}, {8, 8192}}) measure(named, batch, length, file.is_open() ? &file : nullptr, &first);
    }
    if (file.is_open()) file << "\n]}\n";
}
