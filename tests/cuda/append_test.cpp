// The whole encoding kernel, thread by thread on the CPU, with the cases of the GPU's tests, smaller ones.
#include "cuda/cta.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#define __global__
#define __shared__ static
#define __forceinline__
#define __grid_constant__
#define __launch_bounds__(...)

inline Dimensions blockIdx;

inline bool __any_sync(unsigned mask, bool yes) { return __ballot_sync(mask, yes) != 0; }
inline bool __all_sync(unsigned mask, bool yes) { return __ballot_sync(mask, yes) == ~0u; }
inline std::uint32_t __reduce_and_sync(unsigned, std::uint32_t word) {
    return turboquant::test::combine_lanes(word, [](std::uint32_t a, std::uint32_t b) { return a & b; });
}
inline bool __syncthreads_or(bool yes) {
    static bool any[2];
    static int turn[1024];
    const int own = turn[threadIdx.x]++ % 2;  // two in turn: one is read while the other is set
    any[own] = any[own] || yes;
    __syncthreads();
    const bool result = any[own];
    __syncthreads();
    if (threadIdx.x == 0) any[own] = false;
    return result;
}
inline std::uint32_t __funnelshift_r(std::uint32_t low, std::uint32_t high, int by) {
    return static_cast<std::uint32_t>((static_cast<std::uint64_t>(high) << 32 | low) >> (by & 31));
}
inline int __clzll(std::uint64_t x) { return x == 0 ? 64 : __builtin_clzll(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __popc(std::uint32_t x) { return __builtin_popcount(x); }
inline int __popcll(std::uint64_t x) { return __builtin_popcountll(x); }
inline void atomicAnd(std::uint32_t* to, std::uint32_t mask) { *to &= mask; }
inline void atomicOr(std::uint32_t* to, std::uint32_t bits) { *to |= bits; }

#include "core/half.hpp"
#include "cuda/append/fill.hpp"
#include "cuda/append/kernel.cuh"

namespace turboquant::device {

int lane_id() { return static_cast<int>(threadIdx.x & 31); }
Meeting meet(const std::uint32_t* words, int num) {
    static std::uint32_t met[1024][32][kMeetWords];
    auto& mine = met[threadIdx.x];
    for (int w = 0; w < num; ++w) {
        const std::uint32_t* all = test::Cta::current()->meet(words[w]);
        for (int i = 0; i < 32; ++i) mine[i][w] = all[i];
    }
    return mine;
}

}  // namespace turboquant::device

namespace turboquant::cuda {

alignas(16) std::uint8_t append_codes[1 << 17];

}  // namespace turboquant::cuda

namespace turboquant::test {

int processors = 132;  // of the device that is played

template <class T>
class DeviceBuffer {
public:
    DeviceBuffer() = default;
    explicit DeviceBuffer(std::vector<T> values) : data_(values.size() + 128 / sizeof(T)), num_(values.size()) { std::copy(values.begin(), values.end(), get()); }
    T* get() { return reinterpret_cast<T*>((reinterpret_cast<std::uintptr_t>(data_.data()) + 127) / 128 * 128); }
    const T* get() const { return const_cast<DeviceBuffer*>(this)->get(); }
    std::vector<T> host() const { return {get(), get() + num_}; }

private:
    std::vector<T> data_;
    std::size_t num_ = 0;
};

static std::uint16_t to_bits(cuda::Number number, float value) {
    return number == cuda::Number::fp16 ? float_to_half(value) : static_cast<std::uint16_t>(device::as_bits(device::round_to_bf16(value)) >> 16);
}
static float from_bits(cuda::Number number, std::uint16_t bits) {
    return number == cuda::Number::fp16 ? half_to_float(bits) : device::as_float(static_cast<std::uint32_t>(bits) << 16);
}

template <int kHeadDim>
static void play(const cuda::AppendLaunch& launch) {
    for (int block = launch.grid; block-- > 0;) {  // the last one first: none may count on those before it
        blockIdx.x = static_cast<unsigned>(block);
        std::fill_n(cuda::append_codes, sizeof cuda::append_codes, std::uint8_t{0xa5});
        Cta::run(cuda::kAppendThreads, [&] { cuda::append_kernel<kHeadDim>(launch.params, launch.layout); });
    }
}

static void run_append(const cuda::PagedCache& cache, const cuda::AppendArgs& args) {
    const Status status = cuda::check_append(cache, args);
    ASSERT_TRUE(status.ok()) << status.message();
    const cuda::AppendLaunch launch = cuda::append_launch(cache, args, processors);
    switch (cache.spec.head_dim) {
        case 64: return play<64>(launch);
        case 80: return play<80>(launch);
        case 96: return play<96>(launch);
        case 128: return play<128>(launch);
        default: return play<256>(launch);
    }
}

}  // namespace turboquant::test

#include "append_cases.hpp"

namespace turboquant::test {
namespace {

const std::vector<std::vector<int>> kFew = {{70, 5, 16}, {1, 1, 1}, {3, 60, 0}, {1, 1, 17}};

TEST(AppendKernel, SmallTilesAndLargeOnes) {
    for (int played : {132, 8, 1}) {
        processors = played;
        check({.page = page(128, 4, 4), .kv_heads = 1, .steps = kFew});
        check({.page = page(128, 3, 2), .kv_heads = 1, .steps = kFew, .skip_every = 9});
    }
}

TEST(AppendKernel, HeadSizes) {
    for (int played : {132, 1}) {
        processors = played;
        check({.page = page(64, 2, 3), .kv_heads = 1, .steps = {{70, 5}, {1, 60}}});
        check({.page = page(80, 8, 4), .kv_heads = 1, .steps = {{70, 5}, {1, 60}}});
        check({.page = page(96, 4, 8), .kv_heads = 1, .steps = {{70, 5}, {1, 60}}});
        check({.page = page(256, 3, 2), .kv_heads = 1, .steps = {{70, 5}, {1, 60}}});
    }
}

TEST(AppendKernel, NumberFormatsAndOddNumbers) {
    processors = 1;
    for (cuda::Number number : {cuda::Number::bf16, cuda::Number::fp16, cuda::Number::fp32}) {
        check({.page = page(128, 4, 4), .kv_heads = 1, .number = number, .steps = {{130, 7}, {1, 5}}, .odd_numbers = true});
    }
    cuda::PageSpec plain = page(128, 4, 4);
    plain.centred_keys = plain.gain_search = false;
    check({.page = plain, .kv_heads = 1, .with_sequences = false, .steps = kFew});
}

TEST(AppendKernel, TurnsKeysAsTheUnfusedPathDoes) {
    for (cuda::RopeStyle style : {cuda::RopeStyle::half_split, cuda::RopeStyle::interleaved}) {
        for (int played : {132, 1}) {
            processors = played;
            check({.page = page(128, 4, 4), .kv_heads = 1, .steps = kFew, .rope = style, .rotary_dim = 128, .position_bytes = 8});
            check({.page = page(80, 4, 4), .kv_heads = 1, .number = cuda::Number::fp16, .steps = {{70, 5}, {1, 60}}, .rope = style, .rotary_dim = 32, .max_position = 1000});
        }
    }
}

}  // namespace
}  // namespace turboquant::test
