// Device memory for tests: a buffer that is freed, errors that fail the test.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "turboquant/status.hpp"

namespace turboquant::test {

inline void check_cuda(cudaError_t error, const char* what) { ASSERT_EQ(error, cudaSuccess) << what << ": " << cudaGetErrorString(error); }
#define TQ_CUDA_OK(call) ::turboquant::test::check_cuda((call), #call)

inline void expect_ok(const Status& status) { ASSERT_TRUE(status.ok()) << status.message(); }

template <class T>
class DeviceBuffer {
public:
    DeviceBuffer() = default;
    explicit DeviceBuffer(std::size_t num) : num_(num) { TQ_CUDA_OK(cudaMalloc(reinterpret_cast<void**>(&data_), num * sizeof(T) + 256)); }
    explicit DeviceBuffer(const std::vector<T>& host) : DeviceBuffer(host.size()) { set(host); }
    DeviceBuffer(DeviceBuffer&& other) noexcept : data_(std::exchange(other.data_, nullptr)), num_(other.num_) {}
    DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(num_, other.num_);
        return *this;
    }
    ~DeviceBuffer() { cudaFree(data_); }

    T* get() const { return data_; }
    std::size_t size() const { return num_; }
    void set(const std::vector<T>& host) { TQ_CUDA_OK(cudaMemcpy(data_, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice)); }
    void fill(int byte) { TQ_CUDA_OK(cudaMemset(data_, byte, num_ * sizeof(T))); }
    std::vector<T> host() const {
        std::vector<T> copy(num_);
        TQ_CUDA_OK(cudaMemcpy(copy.data(), data_, num_ * sizeof(T), cudaMemcpyDeviceToHost));
        return copy;
    }

private:
    T* data_ = nullptr;
    std::size_t num_ = 0;
};

}  // namespace turboquant::test
