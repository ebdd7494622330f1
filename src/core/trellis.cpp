#include "core/trellis.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

#include "core/counter_rng.hpp"

namespace turboquant {
namespace {

constexpr TrellisBook make(int bits, float alpha, std::array<std::int8_t, 16> positive) {
    TrellisBook book{bits, alpha, {}};
    const int half = 1 << bits;
    for (int k = 0; k < half; ++k) {
        book.level[half + k] = positive[k];
        book.level[half - 1 - k] = static_cast<std::int8_t>(-positive[k]);
    }
    return book;
}

constexpr TrellisBook kBooks[] = {
#define TQ_TRELLIS(bits, alpha, ...) make(bits, alpha, {__VA_ARGS__}),
#include "core/trellis_tables.inc"
#undef TQ_TRELLIS
};

// A tenth of a unit on both sides: at a bucket's edge, kernels that round in other ways than trellis_bucket may choose either.
constexpr bool no_bucket_holds_two_thresholds() {
    for (const TrellisBook& book : kBooks) {
        for (int s = 0; s < 4; ++s) {
            for (int k = 1; k < book.subset_size(); ++k) {
                const float at = book.threshold(s, k);
                if (trellis_bucket(at - 0.1f) != trellis_bucket(at + 0.1f)) return false;
                if (k > 1 && trellis_bucket(book.threshold(s, k - 1)) == trellis_bucket(at)) return false;
            }
        }
    }
    return true;
}
static_assert(no_bucket_holds_two_thresholds(), "the levels in trellis_tables.inc need another kBucketsPerUnit");

// Number i of a stream: Box-Muller on the counter generator.
float gaussian_number(std::uint64_t stream, std::uint64_t i) {
    constexpr std::uint64_t kSeed = 0x7472656c6c6973;
    const double u = (static_cast<double>(counter_word(kSeed, stream, 2 * i) >> 11) + 0.5) * 0x1p-53;
    const double v = static_cast<double>(counter_word(kSeed, stream, 2 * i + 1) >> 11) * 0x1p-53;
    return static_cast<float>(std::sqrt(-2 * std::log(u)) * std::cos(2 * std::numbers::pi * v));
}

std::vector<float> gaussian_numbers(std::uint64_t stream, int num) {
    std::vector<float> x(num);
    for (int i = 0; i < num; ++i) x[i] = gaussian_number(stream, i);
    return x;
}

// best_path for levels that are no integers yet.
float path(const float* level, int bits, const float* x, int num, std::uint8_t* index) {
    const int per_subset = 1 << (bits - 1);
    // Per number: the nearest level of each subset; per state (u, u1) it may be in afterwards: u2 of the state it came from.
    std::vector<std::array<std::uint8_t, 4>> nearest(num), from(num);
    std::array<float, 4> error{0, INFINITY, INFINITY, INFINITY};  // of the best path into each state (2 * u1 + u2)
    for (int n = 0; n < num; ++n) {
        std::array<float, 4> cost;
        for (int s = 0; s < 4; ++s) {
            int k = 0;
            while (k + 1 < per_subset && x[n] >= 0.5f * (level[4 * k + s] + level[4 * k + 4 + s])) ++k;
            nearest[n][s] = static_cast<std::uint8_t>(4 * k + s);
            const float distance = x[n] - level[4 * k + s];
            cost[s] = distance * distance;
        }
        std::array<float, 4> next;
        for (int u = 0; u < 2; ++u) {
            for (int u1 = 0; u1 < 2; ++u1) {
                const float if_0 = error[2 * u1] + cost[2 * u + u1], if_1 = error[2 * u1 + 1] + cost[2 * (u ^ 1) + u1];
                next[2 * u + u1] = if_0 > if_1 ? if_1 : if_0;
                from[n][2 * u + u1] = if_0 > if_1;
            }
        }
        error = next;
    }
    int state = 0;
    for (int s = 1; s < 4; ++s) {
        if (error[state] > error[s]) state = s;
    }
    const float least = error[state];
    for (int n = num - 1; n >= 0; --n) {
        const int u = state >> 1, u1 = state & 1, u2 = from[n][state];
        index[n] = nearest[n][2 * (u ^ u2) + u1];
        state = 2 * u1 + u2;
    }
    return least;
}

}  // namespace

const TrellisBook& trellis_book(int bits) { return kBooks[bits - 2]; }

float best_path(const TrellisBook& book, const float* x, int num, std::uint8_t* index) {
    float level[32];
    for (int i = 0; i < book.num_levels(); ++i) level[i] = book.level[i];
    return path(level, book.bits, x, num, index);
}

double trellis_mse(const TrellisBook& book, int num_numbers) {
    std::vector<float> x = gaussian_numbers(2, num_numbers), scaled = x;
    for (float& v : scaled) v *= book.alpha;
    std::vector<std::uint8_t> index(num_numbers);
    best_path(book, scaled.data(), num_numbers, index.data());
    double dot = 0, power = 0, all = 0;
    for (int i = 0; i < num_numbers; ++i) {
        const double level = book.level[index[i]];
        dot += x[i] * level;
        power += level * level;
        all += static_cast<double>(x[i]) * x[i];
    }
    return (all - dot * dot / power) / all;
}

TrellisBook solve_trellis(int bits) {
    const int n = 2 << bits, half = n / 2, num = 16384;
    // Start: quantiles of a wider Gaussian, where the density of good levels is.
    std::vector<double> positive(half);
    for (int k = 0; k < half; ++k) {
        const double wanted = (half + k + 0.5) / n;
        double low = 0, high = 8;
        for (int step = 0; step < 60; ++step) {
            const double middle = (low + high) / 2;
            (0.5 * std::erfc(-middle / 1.5 / std::numbers::sqrt2) < wanted ? low : high) = middle;
        }
        positive[k] = low;
    }
    std::vector<std::uint8_t> index(num);
    std::vector<float> level(n);
    for (int iteration = 0; iteration < 60; ++iteration) {
        for (int k = 0; k < half; ++k) {
            level[half + k] = static_cast<float>(positive[k]);
            level[half - 1 - k] = -level[half + k];
        }
        const std::vector<float> x = gaussian_numbers(16 + iteration, num);
        path(level.data(), bits, x.data(), num, index.data());
        std::vector<double> sum(half, 0.0), count(half, 0.0);
        for (int i = 0; i < num; ++i) {
            const int k = index[i] >= half ? index[i] - half : half - 1 - index[i];
            sum[k] += index[i] >= half ? x[i] : -x[i];
            count[k] += 1;
        }
        const double step = iteration < 20 ? 1 : 0.25;  // later steps average the samples' noise away
        for (int k = 0; k < half; ++k) {
            if (count[k] > 2) positive[k] += step * (sum[k] / count[k] - positive[k]);
        }
        std::sort(positive.begin(), positive.end());
    }
    TrellisBook best{};
    double best_mse = std::numeric_limits<double>::infinity();
    for (int largest = 64; largest <= 127; ++largest) {
        const double scale = largest / positive.back();
        std::array<std::int8_t, 16> rounded{};
        for (int k = 0; k < half; ++k) rounded[k] = static_cast<std::int8_t>(std::lround(positive[k] * scale));
        if (rounded[0] <= 0 || std::adjacent_find(rounded.begin(), rounded.begin() + half) != rounded.begin() + half) continue;
        const TrellisBook book = make(bits, static_cast<float>(scale), rounded);
        if (const double mse = trellis_mse(book, num); mse < best_mse) {
            best_mse = mse;
            best = book;
        }
    }
    return best;
}

}  // namespace turboquant
