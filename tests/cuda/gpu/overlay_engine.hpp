// A cache with an exact overlay on the device, and beside it what the CPU knows: which page has which slot (the twin of the device's decisions),
// every row that was ever given, and attention over exact rows of exact pages and decoded values of the others, in double precision.
#pragma once

#include <algorithm>
#include <cmath>
#include <random>

#include "core/half.hpp"
#include "core/reference.hpp"
#include "cuda/overlay/assign.hpp"
#include "cuda/overlay_team.hpp"
#include "problem.hpp"

namespace turboquant::test {

struct Part {
    std::vector<std::int32_t> table{};
    int length = 0, count = 0;           // count: new ones among length, or queries
};

struct Setup {
    cuda::PageSpec page{};
    int kv_heads = 2, group = 4, pages = 80, slots = 12;
    cuda::Start start = cuda::Start::after;
    unsigned seed = 1;
};

struct Query {
    int window = 0;
    float softcap = 0;
    bool sinks = false, prefill = false;
    double limit = 2e-3;
};

class Engine {
public:
    explicit Engine(const Setup& the_setup)
        : setup(the_setup), layout_{setup.page.head_dim, setup.page.key_bits, setup.page.value_bits}, tables_layout_{setup.pages, setup.slots}, engine_(setup.seed),
          host_(tables_layout_.rows_offset(), 0) {
        mirror = tables_layout_.tables(host_.data());
        Spec spec;
        spec.head_dim = setup.page.head_dim;
        spec.key_bits = setup.page.key_bits;
        spec.value_bits = setup.page.value_bits;
        spec.seed = setup.page.seed;
        spec.trellis_codes = false;
        coder_[0] = make_coder(spec, Side::key);
        coder_[1] = make_coder(spec, Side::value);
        const std::size_t blob = layout_.blob_bytes();
        std::vector<std::uint8_t> bytes(blob * setup.kv_heads * setup.pages, 0xff);  // NaN all over
        pool_ = DeviceBuffer<std::uint8_t>(bytes);
        const auto memory = cuda::overlay_memory(setup.page, setup.kv_heads, setup.pages, setup.slots);
        if (!memory.ok()) {
            ADD_FAILURE() << memory.status().message();
            return;
        }
        overlay_ = DeviceBuffer<std::uint8_t>(memory.value().bytes);
        overlay_.fill(0xff);
        TQ_CUDA_OK(cudaMemset(overlay_.get(), 0, memory.value().zeroed));
        cache.spec = setup.page;
        cache.kv_heads = setup.kv_heads;
        cache.pages = pool_.get();
        cache.head_stride = static_cast<std::int64_t>(blob);
        cache.page_stride = cache.head_stride * setup.kv_heads;
        cache.overlay = {overlay_.get(), setup.slots, setup.pages};
        for (auto& rows : content_) rows.assign(static_cast<std::size_t>(setup.pages) * setup.kv_heads * kPageTokens * setup.page.head_dim, 0);
        slots_device_ = DeviceBuffer<std::int64_t>(kMostTokens);
        for (auto& rows : rows_) rows = DeviceBuffer<std::uint16_t>(static_cast<std::size_t>(kMostTokens) * setup.kv_heads * setup.page.head_dim);
        for (auto* buffer : {&start_, &lengths_}) *buffer = DeviceBuffer<std::int32_t>(64);
        table_ = DeviceBuffer<std::int32_t>(4096);
        query_ = DeviceBuffer<std::uint16_t>(static_cast<std::size_t>(kMostTokens) * heads() * setup.page.head_dim);
        output_ = DeviceBuffer<float>(query_.size());
        sums_ = DeviceBuffer<float>(static_cast<std::size_t>(kMostTokens) * heads());
        scratch_ = DeviceBuffer<std::uint8_t>(cuda::overlay_scratch(setup.page, heads(), kMostTokens));
        sinks_ = DeviceBuffer<float>(static_cast<std::size_t>(heads()));
        std::normal_distribution<float> normal;
        for (int h = 0; h < heads(); ++h) sink_.push_back(2 * normal(engine_));
        sinks_.set(sink_);
        workspace_ = DeviceBuffer<std::uint8_t>(std::size_t{512} << 20);
        TQ_CUDA_OK(cudaMemset(workspace_.get(), 0, workspace_.size()));
    }

    // New random rows for the parts, in device memory; the mirror follows.
    void prepare(const std::vector<Part>& parts) {
        set_tables(parts);
        std::vector<std::int64_t> places;
        for (const Part& part : parts) {
            for (int i = part.length - part.count; i < part.length; ++i) places.push_back(part.table.at(i / kPageTokens) * static_cast<std::int64_t>(kPageTokens) + i % kPageTokens);
        }
        places_ = places;
        const int d = setup.page.head_dim;
        std::normal_distribution<float> normal;
        for (int side = 0; side < 2; ++side) {
            std::vector<std::uint16_t> bits(places.size() * setup.kv_heads * d);
            for (std::size_t i = 0; i < bits.size(); ++i) {
                bits[i] = to_bits(cuda::Number::bf16, normal(engine_) + (side == 0 ? static_cast<float>(i % d % 7) - 3.0f : 0.0f));
                const std::size_t token = i / (static_cast<std::size_t>(setup.kv_heads) * d), head = i / d % setup.kv_heads;
                row(side, static_cast<int>(places[token] / kPageTokens), static_cast<int>(head), static_cast<int>(places[token] % kPageTokens))[i % d] = float_to_half(from_bits(cuda::Number::bf16, bits[i]));
            }
            rows_[side].set(bits);
        }
        slots_device_.set(places);
    }
    Status enqueue_append(cudaStream_t stream, int batch, int tokens) {
        cuda::AppendArgs args;
        args.tokens = tokens;
        args.keys = rows_[0].get();
        args.values = rows_[1].get();
        args.key_token_stride = args.value_token_stride = static_cast<std::int64_t>(setup.kv_heads) * setup.page.head_dim;
        args.key_head_stride = args.value_head_stride = setup.page.head_dim;
        args.slots = slots_device_.get();
        args.batch = batch;
        args.query_start = start_.get();
        args.lengths = lengths_.get();
        args.block_table = table_.get();
        args.table_stride = kStride;
        args.start = setup.start == cuda::Start::after ? setup.start : cuda::Start::overlapped;
        return cuda::append(cache, args, stream);
    }
    // After the device has done it: what the CPU says.
    void follow(const std::vector<Part>& parts) {
        cuda::AssignParams p{mirror, places_.data(), start_host_.data(), lengths_host_.data(), table_host_.data(), kStride, static_cast<std::int32_t>(parts.size())};
        TeamOfOne one;
        cuda::assign_slots(one, p);
        compare_tables();
        const std::vector<std::uint8_t> pool = pool_.host();
        for (int i = 0; i < *mirror.num_work; ++i) {
            const cuda::SlotWork& work = mirror.todo[mirror.work[i]];
            if (work.sealed >= 0) check_sealed(pool, work.sealed, work.sealed_rows);
        }
    }
    void append(const std::vector<Part>& parts) {
        prepare(parts);
        expect_ok(enqueue_append(nullptr, static_cast<int>(parts.size()), static_cast<int>(places_.size())));
        TQ_CUDA_OK(cudaDeviceSynchronize());
        follow(parts);
    }
    void compare_tables() {
        std::vector<std::uint8_t> head(tables_layout_.rows_offset());
        TQ_CUDA_OK(cudaMemcpy(head.data(), overlay_.get(), head.size(), cudaMemcpyDeviceToHost));
        const cuda::OverlayTables device = tables_layout_.tables(head.data());
        const auto same = [](const void* a, const void* b, int num) { return std::memcmp(a, b, 4 * static_cast<std::size_t>(num)) == 0; };
        EXPECT_EQ(*device.clock, *mirror.clock);
        EXPECT_EQ(*device.num_work, *mirror.num_work);
        EXPECT_TRUE(same(device.slot_of_page, mirror.slot_of_page, setup.pages)) << "slot_of_page after call " << *mirror.clock;
        EXPECT_TRUE(same(device.page_of_slot, mirror.page_of_slot, setup.slots)) << "page_of_slot after call " << *mirror.clock;
        EXPECT_TRUE(same(device.wanted, mirror.wanted, setup.slots));
        EXPECT_TRUE(same(device.filled, mirror.filled, setup.slots));
    }

    void prepare_queries(const std::vector<Part>& parts) {
        set_tables(parts);
        std::normal_distribution<float> normal;
        std::vector<std::uint16_t> bits(static_cast<std::size_t>(start_host_.back()) * heads() * setup.page.head_dim);
        query_host_.resize(bits.size());
        for (std::size_t i = 0; i < bits.size(); ++i) {
            bits[i] = to_bits(cuda::Number::bf16, 1.2f * normal(engine_));
            query_host_[i] = from_bits(cuda::Number::bf16, bits[i]);
        }
        query_.set(bits);
        output_.fill(0xff);
        sums_.fill(0xff);
        scratch_.fill(0xff);
    }
    Status enqueue_attend(cudaStream_t stream, const Query& q, int batch, int most) {
        cuda::AttendArgs args;
        args.batch = batch;
        args.query_heads = heads();
        args.num_queries = most;
        args.query = query_.get();
        args.query_token_stride = args.output_token_stride = static_cast<std::int64_t>(heads()) * setup.page.head_dim;
        args.query_head_stride = args.output_head_stride = setup.page.head_dim;
        args.output = output_.get();
        args.output_number = cuda::Number::fp32;
        args.log_sum = sums_.get();
        args.lengths = lengths_.get();
        args.block_table = table_.get();
        args.table_stride = kStride;
        args.query_start = start_.get();
        args.sinks = q.sinks ? sinks_.get() : nullptr;
        args.scale = scale();
        args.softcap = q.softcap;
        args.window = q.window;
        args.start = q.prefill && setup.start == cuda::Start::overlapped_tables ? cuda::Start::overlapped : setup.start;
        args.workspace = workspace_.get();
        args.workspace_bytes = workspace_.size();
        args.scratch = scratch_.get();
        args.scratch_bytes = scratch_.size();
        return enqueue_attention(q.prefill, cache, args, stream);
    }
    // parts: count queries each, which stand at the sequences' ends. Returns the largest relative error of a (sequence, KV head).
    double attend(const std::vector<Part>& parts, const Query& q = {}) {
        prepare_queries(parts);
        int most = 1;
        for (const Part& part : parts) most = std::max(most, part.count);
        const auto once = [&] {
            expect_ok(enqueue_attend(nullptr, q, static_cast<int>(parts.size()), most));
            TQ_CUDA_OK(cudaDeviceSynchronize());
            return output_.host();
        };
        const std::vector<float> first = once(), second = once();
        const std::size_t used = query_host_.size();
        EXPECT_EQ(std::memcmp(first.data(), second.data(), 4 * used), 0) << "the same input gives other bits";
        return check_output(parts, q);
    }
    double check_output(const std::vector<Part>& parts, const Query& q) {
        const double worst = error(parts, q, output_.host(), sums_.host());
        EXPECT_LT(worst, q.limit) << "call " << *mirror.clock << ", window " << q.window << ", cap " << q.softcap << ", sinks " << q.sinks << ", prefill " << q.prefill;
        return worst;
    }
    bool exact(int page) const { return mirror.slot_of_page[page] != 0; }

    // What copies and the like do, for the mirror too.
    void forget(const std::vector<std::int32_t>& pages) {
        DeviceBuffer<std::int32_t> list(pages);
        cuda::PageList args;
        args.num = static_cast<int>(pages.size());
        args.destination = list.get();
        expect_ok(cuda::forget_pages(cache, args, nullptr));
        TQ_CUDA_OK(cudaDeviceSynchronize());
        for (int page : pages) cuda::forget_page(mirror, page);
        compare_tables();
    }
    void copy(std::int32_t from, std::int32_t to) {
        DeviceBuffer<std::int32_t> source(std::vector<std::int32_t>{from}), destination(std::vector<std::int32_t>{to});
        cuda::PageList args;
        args.num = 1;
        args.source = source.get();
        args.destination = destination.get();
        expect_ok(cuda::copy_pages(cache, cache, args, nullptr));
        TQ_CUDA_OK(cudaDeviceSynchronize());
        cuda::forget_page(mirror, to);
        compare_tables();
    }
    void set_tables(const std::vector<Part>& parts) {
        start_host_.assign(1, 0);
        lengths_host_.clear();
        table_host_.assign(parts.size() * kStride, 0x7ffffff0);
        for (std::size_t b = 0; b < parts.size(); ++b) {
            start_host_.push_back(start_host_.back() + parts[b].count);
            lengths_host_.push_back(parts[b].length);
            std::copy(parts[b].table.begin(), parts[b].table.end(), table_host_.begin() + static_cast<std::ptrdiff_t>(b * kStride));
        }
        start_.set(start_host_);
        lengths_.set(lengths_host_);
        table_.set(table_host_);
    }

    static constexpr int kMostTokens = 4096, kStride = 64;
    Setup setup;
    cuda::PagedCache cache;

private:
    int heads() const { return setup.kv_heads * setup.group; }
    float scale() const { return 1 / std::sqrt(static_cast<float>(setup.page.head_dim)); }
    std::uint16_t* row(int side, int page, int head, int place) {
        return &content_[side][((static_cast<std::size_t>(page) * setup.kv_heads + head) * kPageTokens + place) * setup.page.head_dim];
    }
    const std::uint8_t* blob(const std::vector<std::uint8_t>& pool, int page, int head) const { return &pool[(static_cast<std::size_t>(page) * setup.kv_heads + head) * layout_.blob_bytes()]; }
    static std::uint16_t half_in(const std::uint8_t* at) {
        std::uint16_t half;
        std::memcpy(&half, at, 2);
        return half;
    }

    void check_sealed(const std::vector<std::uint8_t>& pool, int page, int num) {
        const int d = setup.page.head_dim;
        for (int head = 0; head < setup.kv_heads; ++head) {
            const std::uint8_t* keys = blob(pool, page, head);
            const std::uint16_t* rows[kTileTokens];
            for (int t = 0; t < kPageTokens; ++t) rows[t] = row(0, page, head, t);
            std::vector<std::uint16_t> mean(layout_.keys().padded_dim(), 0);
            reference::tile_reference(d, rows, ~0ull >> (kPageTokens - num), mean.data());
            ASSERT_EQ(std::memcmp(mean.data(), keys + layout_.keys().reference_offset(), 2 * mean.size()), 0) << "reference of page " << page << " after call " << *mirror.clock;
            for (int t = 0; t < num; ++t) {
                for (Side side : {Side::key, Side::value}) {
                    std::vector<float> x(d);
                    std::vector<std::uint8_t> codes(d);
                    for (int j = 0; j < d; ++j) x[j] = half_to_float(row(side == Side::value, page, head, t)[j]) - (side == Side::key ? half_to_float(mean[j]) : 0.0f);
                    std::uint16_t scale;
                    reference::encode(coder_[side == Side::value], x.data(), codes.data(), &scale);
                    const std::uint8_t* part = keys + layout_.offset(side);
                    for (int j = 0; j < d; ++j) ASSERT_EQ(page_get_code(layout_.of(side), part, t, j), codes[j]) << "page " << page << " token " << t << " dim " << j;
                    ASSERT_EQ(half_in(part + layout_.of(side).scales_offset() + 2 * PageSide::scale_index(t)), scale);
                }
            }
        }
    }

    double error(const std::vector<Part>& parts, const Query& q, const std::vector<float>& out, const std::vector<float>& sums) {
        const std::vector<std::uint8_t> pool = pool_.host();
        const int d = setup.page.head_dim;
        double worst = 0;
        int token = 0;
        for (const Part& part : parts) {
            const int pages = (part.length + kPageTokens - 1) / kPageTokens;
            const cuda::CodedPages coded = cuda::coded_pages(mirror.slot_of_page, setup.pages, part.table.data(), pages);
            for (int h = 0; h < setup.kv_heads; ++h) {
                std::vector<float> k(static_cast<std::size_t>(part.length) * d), v(k.size());
                for (int t = 0; t < part.length; ++t) {
                    const int page = part.table[t / kPageTokens], place = t % kPageTokens;
                    const bool from_codes = t / kPageTokens >= coded.first && t / kPageTokens < coded.end;
                    for (Side side : {Side::key, Side::value}) {
                        float* x = &(side == Side::key ? k : v)[static_cast<std::size_t>(t) * d];
                        const std::uint8_t* part_of = blob(pool, page, h) + layout_.offset(side);
                        std::vector<std::uint8_t> codes(d);
                        for (int j = 0; j < d; ++j) codes[j] = static_cast<std::uint8_t>(page_get_code(layout_.of(side), part_of, place, j));
                        if (from_codes) reference::decode(coder_[side == Side::value], codes.data(), half_in(part_of + layout_.of(side).scales_offset() + 2 * PageSide::scale_index(place)), x);
                        for (int j = 0; j < d; ++j) {
                            if (!from_codes) x[j] = half_to_float(row(side == Side::value, page, h, place)[j]);
                            else if (side == Side::key) x[j] += half_to_float(half_in(part_of + layout_.keys().reference_offset() + 2 * j));
                        }
                    }
                }
                double bad = 0, power = 0;
                for (int i = 0; i < part.count; ++i) {
                    const int position = part.length - part.count + i, begin = q.window ? std::max(0, position - q.window + 1) : 0;
                    for (int g = 0; g < setup.group; ++g) {
                        const std::size_t at = static_cast<std::size_t>(token + i) * heads() + h * setup.group + g;
                        const double sink = sink_[h * setup.group + g];
                        std::vector<double> weight(std::max(0, position + 1)), want(d, 0.0);
                        double top = q.sinks ? sink : -1e300, total = 0;
                        for (int t = begin; t <= position; ++t) {
                            double dot = 0;
                            for (int j = 0; j < d; ++j) dot += static_cast<double>(query_host_[at * d + j]) * k[static_cast<std::size_t>(t) * d + j];
                            weight[t] = dot * scale();
                            if (q.softcap != 0) weight[t] = q.softcap * std::tanh(weight[t] / q.softcap);
                            top = std::max(top, weight[t]);
                        }
                        for (int t = begin; t <= position; ++t) {
                            weight[t] = std::exp(weight[t] - top);
                            total += weight[t];
                            for (int j = 0; j < d; ++j) want[j] += weight[t] * v[static_cast<std::size_t>(t) * d + j];
                        }
                        if (q.sinks) total += std::exp(sink - top);
                        for (int j = 0; j < d; ++j) {
                            const double wanted = total == 0 ? 0 : want[j] / total;
                            bad += std::pow(wanted - out[at * d + j], 2);
                            power += wanted * wanted;
                        }
                        const double wanted_sum = total == 0 ? -INFINITY : top + std::log(total);
                        EXPECT_TRUE(wanted_sum == sums[at] || std::abs(wanted_sum - sums[at]) < (q.prefill ? 1.5e-2 : 2e-3)) << "log-sum-exp " << sums[at] << " for " << wanted_sum;
                    }
                }
                const double relative = power == 0 ? (bad == 0 ? 0 : INFINITY) : std::sqrt(bad / power);
                worst = std::isnan(relative) ? INFINITY : std::max(worst, relative);
            }
            token += part.count;
        }
        return worst;
    }

    PageLayout layout_;
    cuda::OverlayLayout tables_layout_;
    std::mt19937 engine_;
    std::vector<std::uint8_t> host_;
    Coder coder_[2];
    std::vector<std::uint16_t> content_[2];      // of all pages, as binary16: what append was last given for each place
    std::vector<std::int64_t> places_;
    std::vector<std::int32_t> start_host_, lengths_host_, table_host_;
    std::vector<float> query_host_, sink_;
    DeviceBuffer<std::uint8_t> pool_, overlay_, workspace_, scratch_;
    DeviceBuffer<std::int64_t> slots_device_;
    DeviceBuffer<std::int32_t> start_, lengths_, table_;
    DeviceBuffer<std::uint16_t> rows_[2], query_;
    DeviceBuffer<float> output_, sums_, sinks_;

public:
    cuda::OverlayTables mirror;                  // in host_
};

}  // namespace turboquant::test
