// Plays the 32 lanes of a warp on one thread: each lane is a fiber, and whatever lanes exchange is a meeting of all of them. Provides what
// src/cuda/device/host_warp.hpp declares; include it in one source file of a program.
#pragma once

#include <ucontext.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#include "cuda/device/warp.cuh"

namespace turboquant::test {

class Warp {
public:
    // Runs body once per lane, all of them in step. A lane that returns early while others still exchange something is an error of
    // the kernel, as on the device.
    static void run(const std::function<void()>& body) {
        Warp warp(body);
        current() = &warp;
        bool any = true;
        while (any) {
            any = false;
            for (int i = 0; i < 32; ++i) {
                if (warp.done_[i]) continue;
                warp.lane_ = i;
                swapcontext(&warp.main_, &warp.context_[i]);
                any = true;
            }
        }
        current() = nullptr;
    }

    static Warp*& current() {
        static Warp* warp = nullptr;
        return warp;
    }

    int lane() const { return lane_; }

    // Two buffers in turn: a lane may store for the next meeting while others still read from this one.
    device::Meeting meet(const std::uint32_t* words, int num) {
        const int mine = lane_, buffer = turn_[mine];
        turn_[mine] ^= 1;
        std::memcpy(words_[buffer][mine], words, 4 * static_cast<std::size_t>(num));
        swapcontext(&context_[mine], &main_);
        return words_[buffer];
    }

private:
    static constexpr std::size_t kStack = 1 << 18;

    explicit Warp(const std::function<void()>& body) : body_(body), stacks_(32 * kStack) {
        for (int i = 0; i < 32; ++i) {
            getcontext(&context_[i]);
            context_[i].uc_stack.ss_sp = stacks_.data() + i * kStack;
            context_[i].uc_stack.ss_size = kStack;
            context_[i].uc_link = &main_;
            makecontext(&context_[i], reinterpret_cast<void (*)()>(&Warp::enter), 0);
        }
    }

    static void enter() {
        Warp* warp = current();
        const int lane = warp->lane_;
        warp->body_();
        warp->done_[lane] = true;
        swapcontext(&warp->context_[lane], &warp->main_);
    }

    const std::function<void()>& body_;
    std::vector<char> stacks_;
    ucontext_t main_{}, context_[32]{};
    bool done_[32] = {};
    int turn_[32] = {};
    int lane_ = 0;
    std::uint32_t words_[2][32][device::kMeetWords] = {};
};

}  // namespace turboquant::test

namespace turboquant::device {

int lane_id() { return test::Warp::current()->lane(); }
Meeting meet(const std::uint32_t* words, int num) { return test::Warp::current()->meet(words, num); }

}  // namespace turboquant::device
