// Plays the threads of a CTA on one thread of the host, under the names that CUDA gives to what they do: for code that plans on the device
// (src/cuda/attend/plan.cuh, src/cuda/prefill/plan.cuh). Include it before that code, in one source file of a program. Each thread is a fiber;
// what a warp exchanges is a meeting of its lanes, in step.
#pragma once

#include <ucontext.h>

#include <cstdint>
#include <functional>
#include <vector>

#define __device__
#define __host__

struct Dimensions {
    unsigned x = 0;
};
inline Dimensions threadIdx, blockDim, gridDim;

struct uint4 {
    std::uint32_t x, y, z, w;
};
inline uint4 make_uint4(std::uint32_t x, std::uint32_t y, std::uint32_t z, std::uint32_t w) { return {x, y, z, w}; }
template <class T>
T min(T a, T b) { return b < a ? b : a; }
template <class T>
T max(T a, T b) { return a < b ? b : a; }

namespace turboquant::test {

class Cta {
public:
    // Runs body once per thread; num: a multiple of 32.
    static void run(int num, const std::function<void()>& body) {
        Cta cta(num, body);
        current() = &cta;
        const Dimensions before = blockDim;
        blockDim.x = static_cast<unsigned>(num);
        for (int left = num; left > 0;) {
            left = num;
            int waiting = 0;
            for (int i = 0; i < num; ++i) {
                Thread& thread = cta.threads_[i];
                if (!thread.done) {
                    threadIdx.x = static_cast<unsigned>(i);
                    swapcontext(&cta.main_, &thread.context);
                }
                left -= thread.done;
                waiting += thread.waiting;
            }
            // A barrier opens between rounds, so that the lanes of a warp stay in step.
            if (waiting == left) {
                for (Thread& thread : cta.threads_) thread.waiting = false;
            }
        }
        blockDim = before;
        current() = nullptr;
    }

    static Cta*& current() {
        static Cta* cta = nullptr;
        return cta;
    }

    // Every lane of the warp brings a word; all of them, by lane. Two buffers in turn: a lane may bring the next word while others still read.
    const std::uint32_t* meet(std::uint32_t word) {
        Thread& mine = threads_[threadIdx.x];
        const std::size_t at = (threadIdx.x / 32 * 2 + static_cast<unsigned>(mine.turn)) * 32;
        mine.turn ^= 1;
        words_[at + threadIdx.x % 32] = word;
        swapcontext(&mine.context, &main_);
        return &words_[at];
    }

    void barrier() {
        Thread& mine = threads_[threadIdx.x];
        mine.waiting = true;
        while (mine.waiting) swapcontext(&mine.context, &main_);
    }

private:
    static constexpr std::size_t kStack = 1 << 16;

    struct Thread {
        ucontext_t context{};
        bool done = false, waiting = false;
        int turn = 0;
    };

    Cta(int num, const std::function<void()>& body) : body_(body), stacks_(num * kStack), threads_(num), words_(num * 2) {
        for (int i = 0; i < num; ++i) {
            getcontext(&threads_[i].context);
            threads_[i].context.uc_stack.ss_sp = stacks_.data() + i * kStack;
            threads_[i].context.uc_stack.ss_size = kStack;
            threads_[i].context.uc_link = &main_;
            makecontext(&threads_[i].context, &Cta::enter, 0);
        }
    }

    static void enter() {
        Cta* cta = current();
        Thread& mine = cta->threads_[threadIdx.x];
        cta->body_();
        mine.done = true;
        swapcontext(&mine.context, &cta->main_);
    }

    const std::function<void()>& body_;
    std::vector<char> stacks_;
    std::vector<Thread> threads_;
    std::vector<std::uint32_t> words_;
    ucontext_t main_{};
};

template <class Combine>
std::uint32_t combine_lanes(std::uint32_t word, Combine&& combine) {
    const std::uint32_t* all = Cta::current()->meet(word);
    std::uint32_t result = all[0];
    for (int i = 1; i < 32; ++i) result = combine(result, all[i]);
    return result;
}

}  // namespace turboquant::test

inline void __syncthreads() { turboquant::test::Cta::current()->barrier(); }
inline void __syncwarp() { turboquant::test::Cta::current()->meet(0); }
inline std::uint32_t __shfl_sync(unsigned, std::uint32_t word, int lane) { return turboquant::test::Cta::current()->meet(word)[lane & 31]; }
inline std::uint32_t __shfl_up_sync(unsigned, std::uint32_t word, int by) {
    const int lane = static_cast<int>(threadIdx.x & 31), from = lane < by ? lane : lane - by;
    return turboquant::test::Cta::current()->meet(word)[from];
}
inline std::uint32_t __ballot_sync(unsigned, bool yes) {
    const std::uint32_t* all = turboquant::test::Cta::current()->meet(yes);
    std::uint32_t bits = 0;
    for (int i = 0; i < 32; ++i) bits |= all[i] << i;
    return bits;
}
inline std::uint32_t __reduce_add_sync(unsigned, std::uint32_t word) {
    return turboquant::test::combine_lanes(word, [](std::uint32_t a, std::uint32_t b) { return a + b; });
}
inline std::uint32_t __reduce_min_sync(unsigned, std::uint32_t word) {
    return turboquant::test::combine_lanes(word, [](std::uint32_t a, std::uint32_t b) { return b < a ? b : a; });
}
inline std::uint32_t __reduce_max_sync(unsigned, std::uint32_t word) {
    return turboquant::test::combine_lanes(word, [](std::uint32_t a, std::uint32_t b) { return a < b ? b : a; });
}
inline int __ffs(unsigned word) { return __builtin_ffs(static_cast<int>(word)); }
