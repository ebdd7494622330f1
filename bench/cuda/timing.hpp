// What the benchmarks of single calls share: errors end them, device memory, and the time of a call.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include "turboquant/status.hpp"

namespace turboquant {

inline void must(cudaError_t error) {
    if (error == cudaSuccess) return;
    std::fprintf(stderr, "%s\n", cudaGetErrorString(error));
    std::exit(1);
}
inline void must(const Status& status) {
    if (status.ok()) return;
    std::fprintf(stderr, "%s\n", status.message().c_str());
    std::exit(1);
}

struct Buffer {
    void* data = nullptr;
    explicit Buffer(std::size_t bytes) { must(cudaMalloc(&data, bytes)); }
    template <class T>
    explicit Buffer(const std::vector<T>& host) : Buffer(host.size() * sizeof(T)) { must(cudaMemcpy(data, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice)); }
    ~Buffer() { cudaFree(data); }
    Buffer(const Buffer&) = delete;
    template <class T>
    const T* as() const { return static_cast<const T*>(data); }
};

// The median of `samples` times, each the mean of `calls` calls, after `warm_ups` of them.
inline double median_microseconds(int warm_ups, int samples, int calls, const std::function<void()>& call) {
    for (int i = 0; i < warm_ups; ++i) call();
    cudaEvent_t begin, end;
    must(cudaEventCreate(&begin));
    must(cudaEventCreate(&end));
    std::vector<float> times;
    for (int i = 0; i < samples; ++i) {
        must(cudaEventRecord(begin));
        for (int n = 0; n < calls; ++n) call();
        must(cudaEventRecord(end));
        must(cudaEventSynchronize(end));
        float ms = 0;
        must(cudaEventElapsedTime(&ms, begin, end));
        times.push_back(ms * 1000 / static_cast<float>(calls));
    }
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
}

}  // namespace turboquant
