// Times prefill and page conversion on the GPU, beside what bench/cuda/prefill_baseline.py measured for bf16. Prints a table and, to the file
// given with --json, the results.
//
//   tq_gpu_prefill_bench [--baseline FILE] [--json FILE] [--only TEXT] [--target 80|86|120]
//
// --only: measures what has this in its name, as in "prefill k4v4 G4 d128 2048 at 32768 ".
// --target: prefill with the kernels for other devices, and nothing else (the build must have them: TQ_CUDA_FORCED_TARGETS).
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <numeric>
#include <optional>
#include <random>
#include <sstream>
#include <string>
#include <tuple>
#include <vector>

#include "core/half.hpp"
#include "core/page.hpp"
#include "cuda/prefill/prefill_for.hpp"
#include "timing.hpp"
#include "turboquant/cuda.hpp"

using namespace turboquant;

namespace {

constexpr int kHeads = 8, kRepeats = 3;

// Random codes with sensible scales and references.
std::vector<std::uint8_t> random_pages(const PageLayout& layout, std::size_t blobs) {
    const std::size_t some = std::min<std::size_t>(blobs, 509), blob = layout.blob_bytes();
    std::vector<std::uint8_t> pool(blobs * blob);
    std::mt19937 engine(11);
    std::normal_distribution<float> normal;
    for (std::size_t n = 0; n < some; ++n) {
        std::uint8_t* keys = &pool[n * blob];
        for (std::size_t i = 0; i < blob; i += 4) {
            const std::uint32_t bits = engine();
            std::memcpy(keys + i, &bits, 4);
        }
        const auto put = [&](std::size_t at, float x) {
            const std::uint16_t half = float_to_half(x);
            std::memcpy(keys + at, &half, 2);
        };
        for (int t = 0; t < kPageTokens; ++t) {
            put(layout.keys().scales_offset() + 2 * t, 0.02f * std::abs(1 + 0.2f * normal(engine)));
            put(layout.offset(Side::value) + layout.values().scales_offset() + 2 * t, 0.03f * std::exp(0.7f * normal(engine)));
        }
        for (int j = 0; j < layout.keys().padded_dim(); ++j) put(layout.keys().reference_offset() + 2 * j, j < layout.head_dim ? 1 + 0.2f * normal(engine) : 0.0f);
    }
    for (std::size_t n = some; n < blobs; ++n) std::memcpy(&pool[n * blob], &pool[n % some * blob], blob);
    return pool;
}

struct Result {
    std::string op, preset;
    int group, head_dim, queries, context;
    double us, tflops, gb_per_s, speedup;
};

class Bench {
public:
    std::map<std::tuple<int, int, int, int>, double> baseline;  // chunk, history, group, head_dim
    std::vector<Result> results;
    std::string only;                    // part of a name; empty: everything
    std::optional<cuda::Target> target;  // empty: the device's own

    void prefill(int head_dim, int kb, int vb, int group, int chunk, int history) {
        if (!wanted({"prefill", name(kb, vb), group, head_dim, chunk, history, 0, 0, 0, 0})) return;
        cuda::PageSpec spec;
        spec.head_dim = head_dim;
        spec.key_bits = kb;
        spec.value_bits = vb;
        const auto workspace = cuda::prefill_workspace_for(target, spec);
        if (!workspace.ok()) return;
        const PageLayout layout{head_dim, kb, vb};
        const int length = history + chunk, pages = (length + kPageTokens - 1) / kPageTokens, heads = kHeads * group;
        std::vector<std::int32_t> table(pages);
        std::iota(table.begin(), table.end(), 0);
        std::mt19937 engine(5);
        std::shuffle(table.begin(), table.end(), engine);
        std::vector<std::uint16_t> query(static_cast<std::size_t>(chunk) * heads * head_dim);
        std::normal_distribution<float> normal;
        for (auto& bits : query) {
            const float x = normal(engine);
            std::uint32_t u;
            std::memcpy(&u, &x, 4);
            bits = static_cast<std::uint16_t>(u >> 16);
        }
        const Buffer pool(random_pages(layout, static_cast<std::size_t>(pages) * kHeads)), queries(query), output(query.size() * 2), work(workspace.value().bytes), tables(table),
            lengths(std::vector<std::int32_t>{length});
        cuda::PagedCache cache;
        cache.spec = spec;
        cache.kv_heads = kHeads;
        cache.pages = pool.data;
        cache.head_stride = static_cast<std::int64_t>(layout.blob_bytes());
        cache.page_stride = cache.head_stride * kHeads;
        cuda::AttendArgs args;
        args.batch = 1;
        args.query_heads = heads;
        args.num_queries = chunk;
        args.query = queries.data;
        args.query_token_stride = args.output_token_stride = static_cast<std::int64_t>(heads) * head_dim;
        args.query_head_stride = args.output_head_stride = head_dim;
        args.output = output.data;
        args.lengths = static_cast<const std::int32_t*>(lengths.data);
        args.block_table = static_cast<const std::int32_t*>(tables.data);
        args.table_stride = pages;
        args.scale = 1 / std::sqrt(static_cast<float>(head_dim));
        args.workspace = work.data;
        args.workspace_bytes = workspace.value().bytes;
        const double us = median_microseconds(3, 9, kRepeats, [&] { must(cuda::prefill_for(target, cache, args, nullptr)); });
        const double flop = 4.0 * heads * head_dim * (static_cast<double>(chunk) * history + 0.5 * chunk * (chunk + 1.0));
        const auto found = baseline.find({chunk, history, group, head_dim});
        add({"prefill", name(kb, vb), group, head_dim, chunk, history, us, flop / us * 1e-6, 0, found == baseline.end() ? 0 : found->second / us});
    }

    void pages(int head_dim, int kb, int vb) {
        cuda::PageSpec spec;
        spec.head_dim = head_dim;
        spec.key_bits = kb;
        spec.value_bits = vb;
        const PageLayout layout{head_dim, kb, vb};
        const int num = 4096;  // 262,144 tokens
        const Buffer pool(random_pages(layout, static_cast<std::size_t>(num) * kHeads)), other(static_cast<std::size_t>(num) * kHeads * std::max(layout.blob_bytes(), cuda::image_bytes(spec, cuda::Layout::rows) + 512));
        cuda::PagedCache cache;
        cache.spec = spec;
        cache.kv_heads = kHeads;
        cache.pages = pool.data;
        cache.head_stride = static_cast<std::int64_t>(layout.blob_bytes());
        cache.page_stride = cache.head_stride * kHeads;
        cuda::PagedCache copy = cache;
        copy.pages = other.data;
        cuda::PageList list;
        list.num = num;
        const double bytes = 2.0 * num * kHeads * static_cast<double>(layout.blob_bytes());
        const auto time = [&](const char* op, const std::function<void()>& call) {
            Result result{op, name(kb, vb), 1, head_dim, 0, num * kPageTokens, 0, 0, 0, 0};
            if (!wanted(result)) return;
            result.us = median_microseconds(3, 9, kRepeats, call);
            result.gb_per_s = bytes / result.us * 1e-3;
            add(result);
        };
        time("copy", [&] { must(cuda::copy_pages(cache, copy, list, nullptr)); });
        for (cuda::Layout as : {cuda::Layout::rows, cuda::Layout::simd64}) {
            cuda::PageImages images;
            images.layout = as;
            images.data = other.data;
            images.head_stride = static_cast<std::int64_t>(cuda::image_bytes(spec, as));
            images.page_stride = images.head_stride * kHeads;
            const bool rows = as == cuda::Layout::rows;
            time(rows ? "to rows" : "to simd64", [&] { must(cuda::export_pages(cache, images, list, nullptr)); });
            time(rows ? "from rows" : "from simd64", [&] { must(cuda::import_pages(images, cache, list, nullptr)); });
        }
    }

private:
    static std::string name(int kb, int vb) { return std::string("k").append(std::to_string(kb)).append("v").append(std::to_string(vb)); }
    bool wanted(const Result& r) const {
        return (r.op + " " + r.preset + " G" + std::to_string(r.group) + " d" + std::to_string(r.head_dim) + " " + std::to_string(r.queries) + " at " + std::to_string(r.context) + " ").find(only) !=
               std::string::npos;
    }
    void add(const Result& r) {
        results.push_back(r);
        std::printf("%-11s %-5s G%-2d d%-3d %5d at %-6d %9.1f us", r.op.c_str(), r.preset.c_str(), r.group, r.head_dim, r.queries, r.context, r.us);
        if (r.tflops > 0) std::printf(" %6.0f TFLOP/s", r.tflops);
        if (r.gb_per_s > 0) std::printf(" %6.0f GB/s", r.gb_per_s);
        if (r.speedup > 0) std::printf("  %.2fx of bf16", r.speedup);
        std::printf("\n");
        std::fflush(stdout);
    }
};

void write_json(const std::string& path, const Bench& bench, const cudaDeviceProp& device) {
    std::FILE* f = std::fopen(path.c_str(), "w");
    if (!f) {
        std::fprintf(stderr, "cannot write %s\n", path.c_str());
        std::exit(1);
    }
    std::fprintf(f, "{\"environment\": {\"device\": \"%s\", \"processors\": %d, \"kv_heads\": %d, \"target\": %s}, \"results\": [", device.name, device.multiProcessorCount, kHeads,
                 bench.target ? std::to_string(static_cast<int>(*bench.target)).c_str() : "null");
    const char* comma = "";
    for (const Result& r : bench.results) {
        std::fprintf(f, "%s\n{\"op\": \"%s\", \"preset\": \"%s\", \"group\": %d, \"head_dim\": %d, \"batch\": 1, \"queries\": %d, \"context\": %d, \"us\": %.1f, \"tflops\": %.1f, \"gb_per_s\": %.1f, \"speedup_vs_bf16\": %s}",
                     comma, r.op.c_str(), r.preset.c_str(), r.group, r.head_dim, r.queries, r.context, r.us, r.tflops, r.gb_per_s, r.speedup > 0 ? std::to_string(r.speedup).c_str() : "null");
        comma = ",";
    }
    std::fprintf(f, "\n]}\n");
    std::fclose(f);
}

}  // namespace

int main(int argc, char** argv) {
    std::string json, base, only;
    std::optional<cuda::Target> target;
    for (int i = 1; i < argc; ++i) {
        const std::string arg = argv[i];
        if (arg == "--only" && i + 1 < argc) only = argv[++i];
        else if (arg == "--target" && i + 1 < argc) target = static_cast<cuda::Target>(std::atoi(argv[++i]));
        else if (arg == "--json" && i + 1 < argc) json = argv[++i];
        else if (arg == "--baseline" && i + 1 < argc) base = argv[++i];
        else {
            std::fprintf(stderr, "unknown argument %s; see the comment at the top of bench/cuda/prefill_bench.cpp\n", argv[i]);
            return 2;
        }
    }
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
        std::fprintf(stderr, "no CUDA device\n");
        return 77;
    }
    cudaDeviceProp device;
    must(cudaGetDeviceProperties(&device, 0));
    Bench bench;
    bench.only = only;
    bench.target = target;
    if (!base.empty()) {
        std::ifstream file(base);
        for (std::string line; std::getline(file, line);) {
            std::istringstream words(line);
            int chunk, history, group, head_dim;
            double us;
            if (words >> chunk >> history >> group >> head_dim >> us) bench.baseline[{chunk, history, group, head_dim}] = us;
        }
    }
    for (int chunk : {512, 2048}) {
        for (int history : {0, 8192, 32768, 131072}) bench.prefill(128, 4, 4, 4, chunk, history);
    }
    for (int bits : {32, 22, 88, 84}) bench.prefill(128, bits / 10, bits % 10, 4, 2048, 32768);
    bench.prefill(128, 4, 4, 8, 2048, 32768);
    bench.prefill(64, 4, 4, 8, 2048, 32768);
    bench.prefill(96, 4, 4, 4, 2048, 32768);
    bench.prefill(192, 4, 4, 4, 2048, 32768);
    bench.prefill(192, 8, 8, 4, 2048, 32768);
    bench.prefill(256, 4, 4, 2, 2048, 32768);
    if (!target) {
        bench.pages(128, 4, 4);
        bench.pages(128, 3, 2);
    }
    if (!json.empty()) write_json(json, bench, device);
    return 0;
}
