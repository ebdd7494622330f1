#include "problem.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <thread>

#include "core/codebook.hpp"
#include "core/half.hpp"
#include "cuda/attend/attend_for.hpp"
#include "cuda/prefill/prefill_for.hpp"

namespace turboquant::test {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

void set_half(std::uint8_t* at, std::uint16_t half) { std::memcpy(at, &half, 2); }
double half_at(const std::uint8_t* at) {
    std::uint16_t half;
    std::memcpy(&half, at, 2);
    return half_to_float(half);
}

// Root mean square of the codewords of evenly drawn codes.
double spread(int bits) {
    double sum = 0;
    for (int c = 0; c < 1 << bits; ++c) sum += std::pow(codeword_of(bits, c), 2);
    return std::sqrt(sum / (1 << bits));
}

template <class Work>
void in_parallel(int num, Work&& work) {
    std::atomic<int> next{0};
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < std::max(1u, std::thread::hardware_concurrency()); ++i) {
        threads.emplace_back([&] {
            for (int n; (n = next++) < num;) work(n);
        });
    }
    for (auto& t : threads) t.join();
}

}  // namespace

std::uint16_t to_bits(cuda::Number number, float value) {
    if (number == cuda::Number::fp16) return float_to_half(value);
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
    return static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}
float from_bits(cuda::Number number, std::uint16_t bits) {
    return number == cuda::Number::fp16 ? half_to_float(bits) : std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

Result<cuda::Workspace> workspace_of(const cuda::PageSpec& page, int kv_heads, int query_heads, int num_queries) {
    return cuda::attend_workspace_for(forced_target, page, kv_heads, query_heads, num_queries);
}

Result<cuda::Workspace> prefill_workspace_of(const cuda::PageSpec& page) { return cuda::prefill_workspace_for(forced_target, page); }
Status enqueue_attention(bool prefill, const cuda::PagedCache& cache, const cuda::AttendArgs& args, cudaStream_t stream) {
    return prefill ? cuda::prefill_for(forced_target, cache, args, stream) : cuda::attend_for(forced_target, cache, args, stream);
}

std::string describe(const ProblemSpec& s) {
    std::string text = "k" + std::to_string(s.page.key_bits) + "v" + std::to_string(s.page.value_bits) + " d" + std::to_string(s.page.head_dim) + " heads " +
                       std::to_string(s.kv_heads) + "x" + std::to_string(s.group) + " queries " + std::to_string(s.num_queries) + " lengths";
    for (std::size_t i = 0; i < std::min<std::size_t>(s.lengths.size(), 12); ++i) text += " " + std::to_string(s.lengths[i]);
    if (s.lengths.size() > 12) text += " ... (" + std::to_string(s.lengths.size()) + ")";
    if (s.window) text += " window " + std::to_string(s.window);
    if (s.softcap != 0) text += " cap " + std::to_string(s.softcap);
    if (s.sinks) text += " sinks";
    return text + " start " + std::to_string(static_cast<int>(s.start));
}

Problem::Problem(const ProblemSpec& the_spec) : spec(the_spec), layout_{spec.page.head_dim, spec.page.key_bits, spec.page.value_bits} {
    const int batch = static_cast<int>(spec.lengths.size()), d = spec.page.head_dim, heads = spec.kv_heads * spec.group;
    std::mt19937 engine(spec.seed);
    std::normal_distribution<float> normal;
    first_.push_back(0);
    for (int b = 0; b < batch; ++b) first_.push_back(first_.back() + (spec.queries.empty() ? spec.num_queries : spec.queries[b]));
    const int longest = *std::max_element(spec.lengths.begin(), spec.lengths.end());
    table_stride_ = std::max(1, (longest + kPageTokens - 1) / kPageTokens) + 3;
    for (int length : spec.lengths) num_pages_ += (length + kPageTokens - 1) / kPageTokens;
    num_pages_ += 5;

    const std::size_t blob = layout_.blob_bytes();
    clean_.resize(static_cast<std::size_t>(num_pages_) * spec.kv_heads * blob);
    const double key_unit = 1 / spread(spec.page.key_bits), value_unit = 1 / spread(spec.page.value_bits);
    std::vector<float> shared(static_cast<std::size_t>(spec.kv_heads) * d);  // what the references of a head have in common
    for (float& x : shared) x = 2 * normal(engine);
    for (std::size_t n = 0; n < static_cast<std::size_t>(num_pages_) * spec.kv_heads; ++n) {
        std::uint8_t* keys = &clean_[n * blob];
        std::uint8_t* values = keys + layout_.offset(Side::value);
        for (std::size_t i = 0; i < blob; i += 4) {
            const std::uint32_t bits = engine();
            std::memcpy(keys + i, &bits, 4);
        }
        for (int t = 0; t < kPageTokens; ++t) {
            float k = static_cast<float>(key_unit) * (1 + 0.2f * normal(engine)), v = static_cast<float>(value_unit) * std::exp(0.7f * normal(engine));
            if (t == 5 && n % 5 == 0) { k *= 4; v /= 256; }  // a sink
            set_half(keys + layout_.keys().scales_offset() + 2 * PageSide::scale_index(t), float_to_half(std::abs(k)));
            set_half(values + layout_.values().scales_offset() + 2 * PageSide::scale_index(t), float_to_half(v));
        }
        for (int j = 0; j < layout_.keys().padded_dim(); ++j) {
            const float x = j < d ? shared[n % spec.kv_heads * d + j] + 0.3f * normal(engine) : 0.0f;
            set_half(keys + layout_.keys().reference_offset() + 2 * j, float_to_half(x));
        }
    }
    query_.resize(static_cast<std::size_t>(tokens()) * heads * d);
    std::vector<std::uint16_t> bits(query_.size());
    for (std::size_t i = 0; i < query_.size(); ++i) {
        bits[i] = to_bits(spec.query_number, spec.sharpness * normal(engine));
        query_[i] = from_bits(spec.query_number, bits[i]);
    }
    query_device_ = DeviceBuffer<std::uint16_t>(bits);
    output_device_ = DeviceBuffer<std::uint8_t>(query_.size() * 4);
    log_sum_ = DeviceBuffer<float>(static_cast<std::size_t>(tokens()) * heads);
    if (spec.sinks) {
        for (int h = 0; h < heads; ++h) sinks_.push_back(3 * normal(engine));
        sinks_device_ = DeviceBuffer<float>(sinks_);
    }
    start_device_ = DeviceBuffer<std::int32_t>(std::vector<std::int32_t>(first_.begin(), first_.end()));
    pool_device_ = DeviceBuffer<std::uint8_t>(clean_.size());
    table_device_ = DeviceBuffer<std::int32_t>(static_cast<std::size_t>(batch) * table_stride_);
    lengths_device_ = DeviceBuffer<std::int32_t>(static_cast<std::size_t>(batch));
    make_tables(spec.seed + 1);

    cache.spec = spec.page;
    cache.kv_heads = spec.kv_heads;
    cache.pages = pool_device_.get();
    cache.head_stride = static_cast<std::int64_t>(blob);
    cache.page_stride = cache.head_stride * spec.kv_heads;
    args.batch = batch;
    args.query_heads = heads;
    args.num_queries = spec.num_queries;
    args.query = query_device_.get();
    args.query_number = spec.query_number;
    args.query_token_stride = args.output_token_stride = static_cast<std::int64_t>(heads) * d;
    args.query_head_stride = args.output_head_stride = d;
    args.output = output_device_.get();
    args.output_number = spec.output_number;
    args.log_sum = log_sum_.get();
    args.lengths = lengths_device_.get();
    args.block_table = table_device_.get();
    args.table_stride = table_stride_;
    args.query_start = spec.queries.empty() ? nullptr : start_device_.get();
    args.sinks = spec.sinks ? sinks_device_.get() : nullptr;
    args.scale = 1 / std::sqrt(static_cast<float>(d));
    args.softcap = spec.softcap;
    args.window = spec.window;
    args.start = spec.start;
    const auto workspace = spec.prefill ? prefill_workspace_of(spec.page) : workspace_of(spec.page, spec.kv_heads, heads, spec.num_queries);
    if (!workspace.ok()) {
        ADD_FAILURE() << workspace.status().message();
        return;
    }
    workspace_ = DeviceBuffer<std::uint8_t>(workspace.value().bytes);
    workspace_.fill(0xff);
    TQ_CUDA_OK(cudaMemset(workspace_.get(), 0, workspace.value().zeroed));
    args.workspace = workspace_.get();
    args.workspace_bytes = workspace.value().bytes;
}

// A random permutation of the pool's pages; entries beyond a sequence's pages name no page.
void Problem::make_tables(unsigned seed) {
    std::mt19937 engine(seed);
    std::vector<int> order(num_pages_);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), engine);
    table_.assign(spec.lengths.size() * table_stride_, 0x7ffffff0);
    pool_.assign(clean_.size(), 0);
    const std::size_t page = layout_.blob_bytes() * spec.kv_heads;
    std::vector<bool> used(num_pages_, false);
    int next = 0;
    for (std::size_t b = 0; b < spec.lengths.size(); ++b) {
        for (int i = 0; i < (spec.lengths[b] + kPageTokens - 1) / kPageTokens; ++i) {
            used[order[next]] = true;
            table_[b * table_stride_ + i] = order[next++];
        }
    }
    pool_ = clean_;
    for (int n = 0; n < num_pages_; ++n) {
        if (!used[n]) std::fill_n(pool_.begin() + n * page, page, 0xff);  // every number in there is a NaN
    }
    poison_unused();
    pool_device_.set(pool_);
    table_device_.set(table_);
    lengths_device_.set(std::vector<std::int32_t>(spec.lengths.begin(), spec.lengths.end()));
}

void Problem::poison_unused() {
    const std::uint16_t bad[] = {0x7e01, 0xfe00, 0x7c00, 0xfc00, 0xfbff};
    for (std::size_t b = 0; b < spec.lengths.size(); ++b) {
        if (spec.lengths[b] % kPageTokens == 0) continue;
        const int page = table_[b * table_stride_ + spec.lengths[b] / kPageTokens];
        for (int h = 0; h < spec.kv_heads; ++h) {
            std::uint8_t* keys = &pool_[(static_cast<std::size_t>(page) * spec.kv_heads + h) * layout_.blob_bytes()];
            for (int t = spec.lengths[b] % kPageTokens; t < kPageTokens; ++t) {
                set_half(keys + layout_.keys().scales_offset() + 2 * PageSide::scale_index(t), bad[t % 5]);
                set_half(keys + layout_.offset(Side::value) + layout_.values().scales_offset() + 2 * PageSide::scale_index(t), bad[(t + 2) % 5]);
            }
        }
    }
}

void Problem::change(const std::vector<int>& lengths, unsigned seed) {
    spec.lengths = lengths;
    make_tables(seed);
}

Status Problem::enqueue(cudaStream_t stream) { return enqueue_attention(spec.prefill, cache, args, stream); }

std::vector<float> Problem::run() {
    output_device_.fill(0xff);
    log_sum_.fill(0xff);
    expect_ok(enqueue(nullptr));
    TQ_CUDA_OK(cudaDeviceSynchronize());
    return output();
}

std::vector<float> Problem::output() const {
    const std::vector<std::uint8_t> bytes = output_device_.host();
    std::vector<float> out(query_.size());
    for (std::size_t i = 0; i < out.size(); ++i) {
        if (spec.output_number == cuda::Number::fp32) {
            std::memcpy(&out[i], &bytes[4 * i], 4);
        } else {
            std::uint16_t bits;
            std::memcpy(&bits, &bytes[2 * i], 2);
            out[i] = from_bits(spec.output_number, bits);
        }
    }
    return out;
}

bool Problem::zeroed_is_zero() const {
    const auto workspace = workspace_of(spec.page, spec.kv_heads, args.query_heads, spec.num_queries);
    const std::vector<std::uint8_t> bytes = workspace_.host();
    return std::all_of(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(workspace.value().zeroed), [](std::uint8_t b) { return b == 0; });
}

double Problem::error(const std::vector<float>& out) const {
    const int d = spec.page.head_dim, heads = spec.kv_heads * spec.group, batch = static_cast<int>(spec.lengths.size());
    const auto key_rotation = rotation_tables(d, Rotation::hadamard, spec.page.seed, Side::key);
    const auto value_rotation = rotation_tables(d, Rotation::hadamard, spec.page.seed, Side::value);
    const std::vector<float> sums = log_sum_.host();
    std::vector<double> worst(static_cast<std::size_t>(batch) * spec.kv_heads, 0.0);
    in_parallel(batch * spec.kv_heads, [&](int unit) {
        const int b = unit / spec.kv_heads, h = unit % spec.kv_heads, length = spec.lengths[b], queries = queries_of(b);
        std::vector<std::int8_t> k(static_cast<std::size_t>(length) * d), v(k.size());
        std::vector<double> key_scale(length), value_scale(length);
        std::vector<const std::uint8_t*> reference(length);
        for (int t = 0; t < length; ++t) {
            const std::uint8_t* keys =
                &pool_[(static_cast<std::size_t>(table_[static_cast<std::size_t>(b) * table_stride_ + t / kPageTokens]) * spec.kv_heads + h) * layout_.blob_bytes()];
            const std::uint8_t* values = keys + layout_.offset(Side::value);
            const int in_page = t % kPageTokens;
            for (int j = 0; j < d; ++j) {
                k[static_cast<std::size_t>(t) * d + j] = static_cast<std::int8_t>(codeword_of(spec.page.key_bits, page_get_code(layout_.keys(), keys, in_page, j)));
                v[static_cast<std::size_t>(t) * d + j] = static_cast<std::int8_t>(codeword_of(spec.page.value_bits, page_get_code(layout_.values(), values, in_page, j)));
            }
            key_scale[t] = half_at(keys + layout_.keys().scales_offset() + 2 * PageSide::scale_index(in_page));
            value_scale[t] = half_at(values + layout_.values().scales_offset() + 2 * PageSide::scale_index(in_page));
            reference[t] = keys + layout_.keys().reference_offset();
        }
        for (int g = 0; g < spec.group; ++g) {
            const int head = h * spec.group + g;
            double error = 0, power = 0;
            for (int i = 0; i < queries; ++i) {
                const std::size_t token = static_cast<std::size_t>(first_[b] + i), at = (token * heads + head) * d;
                const int position = length - queries + i, begin = spec.window ? std::max(0, position - spec.window + 1) : 0;
                std::vector<float> rotated(query_.begin() + static_cast<std::ptrdiff_t>(at), query_.begin() + static_cast<std::ptrdiff_t>(at) + d);
                const std::vector<float> plain = rotated;
                rotate_forward(*key_rotation, rotated.data());
                std::vector<double> score(std::max(0, position + 1), -kInfinity), sum(d, 0.0);
                double largest = spec.sinks ? sinks_[head] : -kInfinity, total = 0, offset = 0;
                for (int t = begin; t <= position; ++t) {
                    if (t == begin || t % kPageTokens == 0) {
                        offset = 0;
                        for (int j = 0; j < d; ++j) offset += plain[j] * half_at(reference[t] + 2 * j);
                    }
                    double dot = 0;
                    for (int j = 0; j < d; ++j) dot += static_cast<double>(rotated[j]) * k[static_cast<std::size_t>(t) * d + j];
                    score[t] = (dot * key_scale[t] + offset) * args.scale;
                    if (spec.softcap != 0) score[t] = spec.softcap * std::tanh(score[t] / spec.softcap);
                    largest = std::max(largest, score[t]);
                }
                if (spec.sinks) total += std::exp(sinks_[head] - largest);
                for (int t = begin; t <= position; ++t) {
                    const double weight = std::exp(score[t] - largest);
                    total += weight;
                    for (int j = 0; j < d; ++j) sum[j] += weight * value_scale[t] * v[static_cast<std::size_t>(t) * d + j];
                }
                std::vector<float> want(d);
                for (int j = 0; j < d; ++j) want[j] = total == 0 ? 0.0f : static_cast<float>(sum[j] / total);
                rotate_inverse(*value_rotation, want.data());
                for (int j = 0; j < d; ++j) {
                    error += std::pow(static_cast<double>(want[j]) - out[at + j], 2);
                    power += std::pow(static_cast<double>(want[j]), 2);
                }
                const double wanted_sum = total == 0 ? -kInfinity : largest + std::log(total), got_sum = sums[token * heads + head];
                if (!(wanted_sum == got_sum || std::abs(wanted_sum - got_sum) < 2e-3 + (spec.prefill ? 1e-2 * spec.sharpness : 0))) worst[unit] = kInfinity;  // prefill: as prefill_gpu.cpp says
            }
            const double relative = power == 0 ? (error == 0 ? 0 : kInfinity) : std::sqrt(error / power);
            if (!(relative <= worst[unit])) worst[unit] = std::isnan(relative) ? kInfinity : relative;
        }
    });
    return worst.empty() ? 0 : *std::max_element(worst.begin(), worst.end());
}

}  // namespace turboquant::test
