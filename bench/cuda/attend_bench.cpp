// Times attention and append on the GPU: CUDA graphs of many launches, each on another part of the cache (well over the L2), page tables
// random. Prints a table and, to the file given with --json, the results.
//
//   tq_gpu_bench [--baseline FILE] [--json FILE] [--quick] [--only TEXT] [--target 80|86|120] [--overlay]
//
// --only: measures what has this in its name, as in "attend k4v4 uniform G4 d128".
// --target: attention with the kernels for other devices, and nothing else (the build must have them: TQ_CUDA_FORCED_TARGETS).
// --overlay: attention and append with and without an exact overlay, and nothing else.
// FILE of --baseline: what bench/cuda/baseline.py prints, lines "batch context group microseconds".
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
#include <string>
#include <tuple>
#include <vector>

#include "core/half.hpp"
#include "core/page.hpp"
#include "cuda/attend/attend_for.hpp"
#include "cuda/overlay/tables.hpp"
#include "turboquant/cuda.hpp"

using namespace turboquant;

namespace {

void must(cudaError_t error, const char* what) {
    if (error == cudaSuccess) return;
    std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
    std::exit(1);
}
#define MUST(call) must((call), #call)
void must(const Status& status) {
    if (status.ok()) return;
    std::fprintf(stderr, "%s\n", status.message().c_str());
    std::exit(1);
}

template <class T>
void allocate(T** memory, std::size_t bytes) { must(cudaMalloc(reinterpret_cast<void**>(memory), bytes), "cudaMalloc"); }

constexpr int kHeads = 8;
constexpr std::size_t kPoolBytes = 6ull << 30, kRotate = 600ull << 20, kOverlayBytes = 2ull << 30;

struct Memory {
    std::uint8_t *pool = nullptr, *workspace = nullptr, *rows = nullptr, *overlay = nullptr, *scratch = nullptr;
    std::uint16_t* query = nullptr;
    float* output = nullptr;
    std::int32_t *table = nullptr, *lengths = nullptr, *start = nullptr;
    std::int64_t* slots = nullptr;
    float* cosines = nullptr;
    std::int32_t* positions = nullptr;
    std::size_t workspace_bytes = 512ull << 20;

    Memory() {
        allocate(&pool, kPoolBytes);
        allocate(&workspace, workspace_bytes);
        MUST(cudaMemset(workspace, 0, workspace_bytes));
        allocate(&rows, 256 << 20);
        allocate(&overlay, kOverlayBytes);
        allocate(&scratch, 64 << 20);
        allocate(&query, 64 << 20);
        allocate(&output, 64 << 20);
        allocate(&table, 64 << 20);
        allocate(&lengths, 1 << 20);
        allocate(&start, 1 << 20);
        allocate(&slots, 1 << 20);
        allocate(&cosines, 4 << 20);
        MUST(cudaMemset(cosines, 0x3e, 4 << 20));
        allocate(&positions, 1 << 20);
        std::vector<std::uint16_t> bf16(32 << 20);
        std::mt19937 engine(7);
        std::normal_distribution<float> normal;
        std::vector<std::uint16_t> some(1 << 16);
        for (auto& bits : some) {
            const float x = normal(engine);
            std::uint32_t u;
            std::memcpy(&u, &x, 4);
            bits = static_cast<std::uint16_t>(u >> 16);
        }
        for (std::size_t i = 0; i < bf16.size(); ++i) bf16[i] = some[(i * 7 + i / 65536) % some.size()];
        MUST(cudaMemcpy(query, bf16.data(), 64 << 20, cudaMemcpyHostToDevice));
        for (int i = 0; i < 4; ++i) MUST(cudaMemcpy(rows + (static_cast<std::size_t>(i) << 26), bf16.data(), 64 << 20, cudaMemcpyHostToDevice));
    }

    // Random codes with sensible scales and references, as many bytes as asked for.
    void fill(const cuda::PageSpec& spec, std::size_t bytes) {
        static std::tuple<int, int, int> filled;
        static std::size_t filled_bytes = 0;
        const std::tuple<int, int, int> now{spec.head_dim, spec.key_bits, spec.value_bits};
        if (filled == now && filled_bytes >= bytes) return;
        filled = now;
        filled_bytes = bytes;
        const PageLayout layout{spec.head_dim, spec.key_bits, spec.value_bits};
        const std::size_t blob = layout.blob_bytes(), num = 1009;
        std::vector<std::uint8_t> some(num * blob);
        std::mt19937 engine(11);
        std::normal_distribution<float> normal;
        for (std::size_t n = 0; n < num; ++n) {
            std::uint8_t* keys = &some[n * blob];
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
            for (int j = 0; j < layout.keys().padded_dim(); ++j) put(layout.keys().reference_offset() + 2 * j, j < spec.head_dim ? normal(engine) : 0.0f);
        }
        MUST(cudaMemcpy(pool, some.data(), some.size(), cudaMemcpyHostToDevice));
        const std::size_t wanted = std::min(kPoolBytes, bytes);
        for (std::size_t have = some.size(); have < wanted;) {
            const std::size_t more = std::min(have, wanted - have);
            MUST(cudaMemcpy(pool + have, pool, more, cudaMemcpyDeviceToDevice));
            have += more;
        }
    }
};

// Median microseconds of one of `num` launches in a graph.
double time_graph(int num, const std::function<void(int, cudaStream_t)>& enqueue) {
    cudaStream_t stream;
    MUST(cudaStreamCreate(&stream));
    enqueue(0, stream);
    MUST(cudaStreamSynchronize(stream));
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    MUST(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    for (int i = 0; i < num; ++i) enqueue(i, stream);
    MUST(cudaStreamEndCapture(stream, &graph));
    MUST(cudaGraphInstantiate(&executable, graph, 0));
    cudaEvent_t begin, end;
    MUST(cudaEventCreate(&begin));
    MUST(cudaEventCreate(&end));
    std::vector<float> times;
    for (int i = 0; i < 9; ++i) {
        MUST(cudaEventRecord(begin, stream));
        MUST(cudaGraphLaunch(executable, stream));
        MUST(cudaEventRecord(end, stream));
        MUST(cudaEventSynchronize(end));
        float ms;
        MUST(cudaEventElapsedTime(&ms, begin, end));
        if (i >= 2) times.push_back(ms);
    }
    MUST(cudaGraphExecDestroy(executable));
    MUST(cudaGraphDestroy(graph));
    MUST(cudaEventDestroy(begin));
    MUST(cudaEventDestroy(end));
    MUST(cudaStreamDestroy(stream));
    std::sort(times.begin(), times.end());
    return times[times.size() / 2] * 1000.0 / num;
}

struct Measurement {
    std::string op, preset, shape;
    int group, head_dim, batch, context, queries;
    bool overlapped;
    double us, gb_per_s, speedup;
};

class Bench {
public:
    std::map<std::tuple<int, int, int>, double> baseline;
    std::vector<Measurement> results;
    std::optional<cuda::Target> target;  // empty: the device's own
    std::string only;                    // part of a name; empty: everything

    static cuda::PageSpec spec(int head_dim, int kb, int vb) {
        cuda::PageSpec s;
        s.head_dim = head_dim;
        s.key_bits = kb;
        s.value_bits = vb;
        return s;
    }

    void attend(const cuda::PageSpec& s, int group, const std::vector<int>& lengths, int queries, bool overlapped, const std::string& shape, int context, bool overlay = false) {
        if (!wanted("attend", s, shape, group)) return;
        const int batch = static_cast<int>(lengths.size()), heads = kHeads * group;
        const auto needed = cuda::attend_workspace_for(target, s, kHeads, heads, queries);
        if (!needed.ok()) return;
        const std::size_t blob = cuda::blob_bytes(s), page = blob * kHeads;
        int stride = 0;
        std::size_t pages = 0;
        for (int n : lengths) {
            stride = std::max(stride, (n + 63) / 64);
            pages += (n + 63) / 64;
        }
        const std::size_t bytes = pages * page;
        const int rotate = static_cast<int>(std::min<std::size_t>({600, kRotate / bytes + 1, kPoolBytes / bytes}));
        if (rotate < 1) return;
        memory_.fill(s, rotate * bytes);
        std::vector<std::int32_t> order(pages), table(static_cast<std::size_t>(batch) * stride, 0);
        std::iota(order.begin(), order.end(), 0);
        std::mt19937 engine(1234);
        std::shuffle(order.begin(), order.end(), engine);
        for (int b = 0, next = 0; b < batch; ++b) {
            for (int i = 0; i < (lengths[b] + 63) / 64; ++i) table[static_cast<std::size_t>(b) * stride + i] = order[next++];
        }
        MUST(cudaMemcpy(memory_.table, table.data(), table.size() * 4, cudaMemcpyHostToDevice));
        MUST(cudaMemcpy(memory_.lengths, lengths.data(), lengths.size() * 4, cudaMemcpyHostToDevice));
        cuda::PagedCache cache;
        cache.spec = s;
        cache.kv_heads = kHeads;
        cache.head_stride = static_cast<std::int64_t>(blob);
        cache.page_stride = static_cast<std::int64_t>(page);
        cuda::AttendArgs args;
        args.batch = batch;
        args.query_heads = heads;
        args.num_queries = queries;
        args.query = memory_.query;
        args.query_token_stride = args.output_token_stride = static_cast<std::int64_t>(heads) * s.head_dim;
        args.query_head_stride = args.output_head_stride = s.head_dim;
        args.output = memory_.output;
        args.lengths = memory_.lengths;
        args.block_table = memory_.table;
        args.table_stride = stride;
        args.scale = 1 / std::sqrt(static_cast<float>(s.head_dim));
        args.start = overlapped ? cuda::Start::overlapped_tables : cuda::Start::after;
        args.workspace = memory_.workspace;
        args.workspace_bytes = memory_.workspace_bytes;
        std::size_t overlay_bytes = 0;
        if (overlay) {
            cache.overlay = {nullptr, 3 * batch, static_cast<int>(pages)};
            overlay_bytes = fill_overlay(cache, table, lengths, stride, rotate);
            args.scratch = memory_.scratch;
            args.scratch_bytes = 64 << 20;
        }
        const int num = std::max(rotate, bytes < (100u << 20) ? 20 : bytes < (1u << 30) ? 5 : 2);
        const double us = time_graph(num, [&](int i, cudaStream_t stream) {
            cache.pages = memory_.pool + static_cast<std::size_t>(i % rotate) * bytes;
            if (overlay) cache.overlay.memory = memory_.overlay + static_cast<std::size_t>(i % rotate) * overlay_bytes;
            must(cuda::attend_for(target, cache, args, stream));
        });
        const auto found = baseline.find({batch, context, group});
        const bool comparable = found != baseline.end() && s.head_dim == 128 && queries == 1 && shape == "uniform";
        add({"attend", name(s), shape, group, s.head_dim, batch, context, queries, overlapped, us, bytes / us * 1e-3, comparable ? found->second / us : 0});
    }

    struct AppendKind {
        bool overlapped = false, rope = false, overlay = false;
        const char* words() const { return rope ? ", rope" : overlay ? ", overlay" : ""; }
    };

    void append(const cuda::PageSpec& s, int tokens, int sequences, const AppendKind& kind) {
        if (!wanted("append", s, std::string(sequences == 1 ? "chunk" : "single tokens") + kind.words(), 1)) return;
        const std::size_t blob = cuda::blob_bytes(s), page = blob * kHeads;
        const int position = sequences == 1 ? 0 : 37, per = tokens / sequences, pages_each = (position + per + 63) / 64 + 1;
        std::vector<std::int32_t> table, lengths(sequences, 64 + position + per), start;
        std::vector<std::int64_t> slots;
        for (int b = 0; b < sequences; ++b) {
            start.push_back(b * per);
            for (int i = 0; i < pages_each; ++i) table.push_back((b * pages_each + i) * 7919 % (sequences * pages_each));
            for (int i = 0; i < per; ++i) slots.push_back(table[b * pages_each + 1 + (position + i) / 64] * 64ll + (position + i) % 64);
        }
        start.push_back(tokens);
        MUST(cudaMemcpy(memory_.table, table.data(), table.size() * 4, cudaMemcpyHostToDevice));
        MUST(cudaMemcpy(memory_.lengths, lengths.data(), lengths.size() * 4, cudaMemcpyHostToDevice));
        MUST(cudaMemcpy(memory_.start, start.data(), start.size() * 4, cudaMemcpyHostToDevice));
        MUST(cudaMemcpy(memory_.slots, slots.data(), slots.size() * 8, cudaMemcpyHostToDevice));
        memory_.fill(s, static_cast<std::size_t>(sequences) * pages_each * page * 20);
        const std::size_t row_bytes = static_cast<std::size_t>(tokens) * kHeads * s.head_dim * 2;
        const int rotate = static_cast<int>(std::min<std::size_t>(20, (120ull << 20) / row_bytes));
        cuda::PagedCache cache;
        cache.spec = s;
        cache.kv_heads = kHeads;
        cache.head_stride = static_cast<std::int64_t>(blob);
        cache.page_stride = static_cast<std::int64_t>(page);
        cuda::AppendArgs args;
        args.tokens = tokens;
        args.key_token_stride = args.value_token_stride = static_cast<std::int64_t>(kHeads) * s.head_dim;
        args.key_head_stride = args.value_head_stride = s.head_dim;
        args.slots = memory_.slots;
        args.batch = sequences;
        args.query_start = memory_.start;
        args.lengths = memory_.lengths;
        args.block_table = memory_.table;
        args.table_stride = pages_each;
        args.start = kind.overlapped ? cuda::Start::overlapped : cuda::Start::after;
        if (kind.rope) {  // tables of any numbers, positions from 0 on
            std::vector<std::int32_t> positions(tokens);
            for (int i = 0; i < tokens; ++i) positions[i] = i;
            MUST(cudaMemcpy(memory_.positions, positions.data(), positions.size() * 4, cudaMemcpyHostToDevice));
            args.rope = {cuda::RopeStyle::half_split, s.head_dim, memory_.cosines, memory_.cosines + s.head_dim / 2, s.head_dim, tokens, memory_.positions, 4};
        }
        std::size_t overlay_bytes = 0;
        if (kind.overlay) {
            cache.overlay = {nullptr, 3 * sequences, sequences * pages_each};
            overlay_bytes = fill_overlay(cache, table, std::vector<int>(lengths.begin(), lengths.end()), pages_each, 20);
        }
        const double us = time_graph(20, [&](int i, cudaStream_t stream) {
            args.keys = memory_.rows + (i % rotate) * row_bytes;
            args.values = memory_.rows + (128ull << 20) + (i % rotate) * row_bytes;
            cache.pages = memory_.pool + static_cast<std::size_t>(i % rotate) * sequences * pages_each * page;
            if (kind.overlay) cache.overlay.memory = memory_.overlay + static_cast<std::size_t>(i % rotate) * overlay_bytes;
            must(cuda::append(cache, args, stream));
        });
        const double bytes = 2.0 * row_bytes + static_cast<double>(tokens) / 64 * page;
        add({"append", name(s), std::string(sequences == 1 ? "chunk" : "single tokens") + kind.words(), 1, s.head_dim, sequences, tokens, 1, kind.overlapped, us, bytes / us * 1e-3, 0});
    }

    // Some shapes with an overlay, and without one if that is asked for.
    void overlays(const cuda::PageSpec& s, std::initializer_list<bool> with) {
        for (int group : {4, 8}) {
            for (const auto& [batch, context] : {std::pair{1, 1024}, {1, 8192}, {8, 8192}, {64, 1024}, {64, 8192}}) {
                for (bool overlapped : {false, true}) {
                    for (bool overlay : with) attend(s, group, std::vector<int>(batch, context), 1, overlapped, overlay ? "overlay" : "uniform", context, overlay);
                }
            }
        }
        for (bool overlay : with) {
            append(s, 64, 64, {.overlay = overlay});
            append(s, 2048, 1, {.overlay = overlay});
        }
    }

    void copies() {
        const std::size_t bytes = 2ull << 30;
        const double us = time_graph(3, [&](int, cudaStream_t stream) { MUST(cudaMemcpyAsync(memory_.pool + bytes, memory_.pool, bytes, cudaMemcpyDeviceToDevice, stream)); });
        add({"copy", "-", "2 GiB", 1, 0, 1, 0, 1, false, us, 2.0 * bytes / us * 1e-3, 0});
    }

private:
    bool wanted(const char* op, const cuda::PageSpec& s, const std::string& shape, int group) const {
        return (std::string(op) + " " + name(s) + " " + shape + " G" + std::to_string(group) + " d" + std::to_string(s.head_dim) + " ").find(only) != std::string::npos;
    }
    // So many overlays, one after another, in which each sequence's first page and last two pages have slots. Returns the bytes of one.
    std::size_t fill_overlay(const cuda::PagedCache& cache, const std::vector<std::int32_t>& table, const std::vector<int>& lengths, int stride, int num) {
        const auto needed = cuda::overlay_memory(cache.spec, cache.kv_heads, cache.overlay.num_pages, cache.overlay.num_slots);
        if (!needed.ok()) must(needed.status());
        const std::size_t bytes = (needed.value().bytes + 255) / 256 * 256;
        if (bytes * num > kOverlayBytes) must(unsupported("the overlays do not fit in the memory that this program sets aside for them"));
        const cuda::OverlayLayout layout{cache.overlay.num_pages, cache.overlay.num_slots};
        std::vector<std::uint8_t> head(layout.rows_offset(), 0);
        const cuda::OverlayTables tables = layout.tables(head.data());
        int slot = 0;
        for (std::size_t b = 0; b < lengths.size(); ++b) {
            const int last = (lengths[b] - 1) / kPageTokens;
            for (int i : {0, last - 1, last}) {
                const std::int32_t page = i < 0 ? -1 : table[b * static_cast<std::size_t>(stride) + static_cast<std::size_t>(i)];
                if (page < 0 || tables.slot_of_page[page]) continue;
                tables.page_of_slot[slot] = page + 1;
                tables.filled[slot] = kPageTokens;
                tables.slot_of_page[page] = ++slot;
            }
        }
        for (int i = 0; i < num; ++i) {
            std::uint8_t* one = memory_.overlay + static_cast<std::size_t>(i) * bytes;
            MUST(cudaMemcpy(one, head.data(), head.size(), cudaMemcpyHostToDevice));
            for (std::size_t at = head.size(); at < bytes; at += 64 << 20) MUST(cudaMemcpy(one + at, memory_.rows, std::min<std::size_t>(64 << 20, bytes - at), cudaMemcpyDeviceToDevice));
        }
        return bytes;
    }
    static std::string name(const cuda::PageSpec& s) { return std::string("k") + std::to_string(s.key_bits) + "v" + std::to_string(s.value_bits); }
    void add(const Measurement& r) {
        results.push_back(r);
        std::printf("%-7s %-5s %-13s G%-2d d%-3d q%-2d %4d x %-6d %-10s %9.2f us %7.0f GB/s", r.op.c_str(), r.preset.c_str(), r.shape.c_str(), r.group, r.head_dim, r.queries, r.batch,
                    r.context, r.overlapped ? "overlapped" : "", r.us, r.gb_per_s);
        if (r.speedup > 0) std::printf("  %.2fx of bf16", r.speedup);
        std::printf("\n");
        std::fflush(stdout);
    }
    Memory memory_;
};

}  // namespace

int main(int argc, char** argv) {
    std::string json, base, only;
    std::optional<cuda::Target> target;
    bool quick = false, only_overlay = false;
    for (int i = 1; i < argc; ++i) {
        const std::string arg = argv[i];
        if (arg == "--quick") quick = true;
        else if (arg == "--overlay") only_overlay = true;
        else if (arg == "--only" && i + 1 < argc) only = argv[++i];
        else if (arg == "--target" && i + 1 < argc) target = static_cast<cuda::Target>(std::atoi(argv[++i]));
        else if (arg == "--json" && i + 1 < argc) json = argv[++i];
        else if (arg == "--baseline" && i + 1 < argc) base = argv[++i];
        else {
            std::fprintf(stderr, "unknown argument %s; see the comment at the top of bench/cuda/attend_bench.cpp\n", argv[i]);
            return 2;
        }
    }
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
        std::fprintf(stderr, "no CUDA device\n");
        return 77;
    }
    cudaDeviceProp device;
    MUST(cudaGetDeviceProperties(&device, 0));
    Bench bench;
    bench.target = target;
    bench.only = only;
    if (!base.empty()) {
        std::ifstream file(base);
        int batch, context, group;
        double us;
        while (file >> batch >> context >> group >> us) bench.baseline[{batch, context, group}] = us;
    }
    if (only.empty()) bench.copies();
    if (only_overlay) {
        bench.overlays(Bench::spec(128, 4, 4), {false, true});
        return 0;
    }
    const auto s44 = Bench::spec(128, 4, 4), s32 = Bench::spec(128, 3, 2);
    std::mt19937 engine(5);
    std::vector<int> ragged;
    long sum = 0;
    for (int i = 0; i < 64; ++i) {
        ragged.push_back(static_cast<int>(128 * std::pow(256.0, engine() / 4294967296.0)));
        sum += (ragged.back() + 63) / 64 * 64;
    }
    const int even = static_cast<int>(sum / 64 / 64 * 64);
    for (const auto& s : {s44, s32}) {
        for (int group : {4, 8}) {
            bench.attend(s, group, ragged, 1, false, "ragged", even);
            bench.attend(s, group, std::vector<int>(64, even), 1, false, "as ragged", even);
        }
        for (int queries : {2, 4, 8}) bench.attend(s, 4, std::vector<int>(64, 8192), queries, false, "verify", 8192);
        bench.attend(s, 16, std::vector<int>(64, 8192), 1, false, "uniform", 8192);
        bench.attend(s, 1, std::vector<int>(64, 8192), 1, false, "uniform", 8192);
    }
    for (int d : {64, 80, 96, 112, 192, 256}) {
        for (int bits : {44, 43, 33, 22}) bench.attend(Bench::spec(d, bits / 10, bits % 10), 8, std::vector<int>(64, 8192), 1, false, "uniform", 8192);
    }
    bench.attend(Bench::spec(128, 8, 4), 4, std::vector<int>(64, 8192), 1, false, "uniform", 8192);
    if (!target) bench.overlays(s44, {true});
    for (const auto& s : {s44, s32}) {
        if (target) break;
        for (bool rope : {false, true}) {
            for (bool overlapped : {false, true}) {
                bench.append(s, 64, 64, {.overlapped = overlapped, .rope = rope});
                bench.append(s, 256, 256, {.overlapped = overlapped, .rope = rope});
                bench.append(s, 2048, 1, {.overlapped = overlapped, .rope = rope});
                bench.append(s, 8192, 1, {.overlapped = overlapped, .rope = rope});
            }
        }
    }
    for (const auto& s : {s44, s32}) {
        for (int group : {4, 8}) {
            for (int batch : {1, 8, 64}) {
                for (int context : {1024, 8192, 32768, 131072}) {
                    if ((quick && context > 8192) || batch * context > 64 * 32768) continue;
                    bench.attend(s, group, std::vector<int>(batch, context), 1, false, "uniform", context);
                    if (batch * context <= 65536) bench.attend(s, group, std::vector<int>(batch, context), 1, true, "uniform", context);
                }
            }
        }
    }
    if (!json.empty()) {
        std::FILE* f = std::fopen(json.c_str(), "w");
        if (!f) {
            std::fprintf(stderr, "cannot write %s\n", json.c_str());
            return 1;
        }
        std::fprintf(f, "{\"environment\": {\"device\": \"%s\", \"processors\": %d, \"kv_heads\": %d}, \"results\": [", device.name, device.multiProcessorCount, kHeads);
        const char* comma = "";
        for (const Measurement& r : bench.results) {
            std::fprintf(f, "%s\n{\"op\": \"%s\", \"preset\": \"%s\", \"shape\": \"%s\", \"group\": %d, \"head_dim\": %d, \"batch\": %d, \"context\": %d, \"queries\": %d, \"overlapped\": %s, \"us\": %.3f, \"gb_per_s\": %.1f, \"speedup_vs_bf16\": %s}",
                         comma, r.op.c_str(), r.preset.c_str(), r.shape.c_str(), r.group, r.head_dim, r.batch, r.context, r.queries, r.overlapped ? "true" : "false", r.us, r.gb_per_s,
                         r.speedup > 0 ? std::to_string(r.speedup).c_str() : "null");
            comma = ",";
        }
        std::fprintf(f, "\n]}\n");
        std::fclose(f);
    }
    return 0;
}
