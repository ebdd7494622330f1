// The measuring part of bench: fills caches, runs decode and prefill in turn on each, and takes stock.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "session.hpp"
#include "turboquant/spec.hpp"

namespace turboquant::tool {

struct BenchOptions {
    EngineOptions engine;
    std::vector<std::string> caches{"f16", "q8_0", "q4_0", std::string(presets().front().name)};
    std::vector<int> depths{0};
    int prompt = 512, generate = 32, repetitions = 3;
    SessionOptions session;
    bool refill = false, json = false;
};

struct Measurement {
    std::string cache, test;
    int depth = 0, tokens = 0;
    std::vector<double> samples;  // tokens per second
    CacheUse use;                 // after the first repetition
};

using Sessions = std::vector<std::unique_ptr<Session>>;

// All depths, both tests, every session, in an order that treats the sessions alike. After an interrupt (interrupt.hpp), what there is by then: no
// measurement without a sample.
Result<std::vector<Measurement>> measure_all(const BenchOptions& options, Sessions& sessions);

}  // namespace turboquant::tool
