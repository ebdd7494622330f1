// An attention problem on random pages, and what it should give, in double precision over decoded values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/page.hpp"
#include "cuda/target.hpp"
#include "device.hpp"
#include "turboquant/cuda.hpp"

namespace turboquant::test {

// Whose attention and prefill kernels run: the device's own, or those of --target.
inline std::optional<cuda::Target> forced_target;
Result<cuda::Workspace> workspace_of(const cuda::PageSpec& page, int kv_heads, int query_heads, int num_queries);
Result<cuda::Workspace> prefill_workspace_of(const cuda::PageSpec& page);
Status enqueue_attention(bool prefill, const cuda::PagedCache& cache, const cuda::AttendArgs& args, cudaStream_t stream);

struct ProblemSpec {
    cuda::PageSpec page{};
    int kv_heads = 2, group = 4, num_queries = 1;
    std::vector<int> lengths{};
    std::vector<int> queries{};               // per sequence; empty: num_queries each
    int window = 0;
    float softcap = 0, sharpness = 1.5f;
    bool sinks = false;
    cuda::Number query_number = cuda::Number::bf16, output_number = cuda::Number::fp32;
    cuda::Start start = cuda::Start::after;
    unsigned seed = 1;
    bool prefill = false;                     // the verb
};

std::string describe(const ProblemSpec& spec);

class Problem {
public:
    explicit Problem(const ProblemSpec& spec);

    // Enqueues, waits, and returns the output as floats, [tokens][heads][head_dim].
    std::vector<float> run();
    // Enqueues only.
    Status enqueue(cudaStream_t stream);
    std::vector<float> output() const;
    std::vector<float> log_sum() const { return log_sum_.host(); }

    // Largest relative error of a (sequence, head); NaN anywhere gives infinity. out: as run() returns it. Also compares the
    // log-sum-exp, in absolute numbers, if there is one.
    double error(const std::vector<float>& out) const;
    // What must be zero between launches of the workspace is.
    bool zeroed_is_zero() const;

    const PageLayout& layout() const { return layout_; }
    int tokens() const { return first_.back(); }
    int queries_of(int b) const { return first_[b + 1] - first_[b]; }
    // Other lengths (not longer than the first ones) and another page table, in the same device memory.
    void change(const std::vector<int>& lengths, unsigned seed);

    ProblemSpec spec;
    cuda::PagedCache cache;
    cuda::AttendArgs args;

private:
    void make_tables(unsigned seed);
    void poison_unused();

    PageLayout layout_;
    std::vector<int> first_;                  // first token of each sequence, and the end
    int table_stride_ = 0, num_pages_ = 0;
    std::vector<std::uint8_t> clean_, pool_;
    std::vector<std::int32_t> table_;
    std::vector<float> query_, sinks_;
    DeviceBuffer<std::uint8_t> pool_device_, output_device_, workspace_;
    DeviceBuffer<std::uint16_t> query_device_;
    DeviceBuffer<std::int32_t> table_device_, lengths_device_, start_device_;
    DeviceBuffer<float> sinks_device_, log_sum_;
};

// Number formats on the host.
std::uint16_t to_bits(cuda::Number number, float value);
float from_bits(cuda::Number number, std::uint16_t bits);

}  // namespace turboquant::test
