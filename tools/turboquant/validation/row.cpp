#include "validation/row.hpp"

#include <atomic>
#include <cmath>
#include <thread>

#include <fmt/format.h>

namespace turboquant::validation {

const std::vector<Group>& groups() {
    static const std::vector<Group> all = {
        {"codebooks", codebook_rows}, {"rotations", rotation_rows},  {"mse", distortion_rows}, {"shipped coder", shipped_rows},
        {"prod", product_rows},       {"attention", attention_rows}, {"bytes", byte_rows},     {"search", search_rows},
        {"speed", speed_rows},
    };
    return all;
}

Sample sample_of(const std::vector<double>& values) {
    Sample s;
    for (double v : values) s.mean += v;
    s.mean /= static_cast<double>(values.size());
    if (values.size() < 2) return s;
    double squares = 0;
    for (double v : values) squares += (v - s.mean) * (v - s.mean);
    s.deviation = std::sqrt(squares / static_cast<double>(values.size() - 1));
    s.error = s.deviation / std::sqrt(static_cast<double>(values.size()));
    return s;
}

Row row_of(std::string group, std::string name, std::optional<double> paper, double theory, const Sample& measured, double extra,
           const std::string& extra_reason) {
    const double half = kErrors * measured.error + extra;
    std::string how = fmt::format("theory ± {:g} standard errors", kErrors);
    if (!extra_reason.empty()) how += " + " + extra_reason;
    return {std::move(group), std::move(name), paper, theory, measured.mean, theory - half, theory + half, how};
}

void parallel(int threads, int count, const std::function<void(int)>& task) {
    std::atomic<int> next{0};
    const auto work = [&] {
        for (int i = next++; i < count; i = next++) task(i);
    };
    std::vector<std::thread> others;
    for (int t = 1; t < threads; ++t) others.emplace_back(work);
    work();
    for (std::thread& other : others) other.join();
}

}  // namespace turboquant::validation
