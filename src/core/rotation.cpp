#include "core/rotation.hpp"

#include <cmath>
#include <map>
#include <mutex>
#include <numbers>
#include <tuple>

#include "core/counter_rng.hpp"

namespace turboquant {
namespace {

// Quadratic character of GF(q), q an odd prime: +1 for squares, -1 for the others, 0 for 0.
std::vector<int> quadratic_character(int q) {
    std::vector<int> chi(q, -1);
    chi[0] = 0;
    for (int x = 1; x < q; ++x) chi[x * x % q] = 1;
    return chi;
}

// Paley I: order q + 1, q = 3 mod 4. H = I + S with S the bordered (skew) Jacobsthal matrix.
std::vector<float> paley_one(int q) {
    const std::vector<int> chi = quadratic_character(q);
    const int n = q + 1;
    std::vector<float> h(static_cast<std::size_t>(n) * n);
    for (int i = 0; i < n; ++i) {
        for (int j = 0; j < n; ++j) {
            int s = 0;
            if (i == 0 && j > 0) s = 1;
            if (j == 0 && i > 0) s = -1;
            if (i > 0 && j > 0) s = chi[((i - j) % q + q) % q];
            h[static_cast<std::size_t>(i) * n + j] = static_cast<float>(s + (i == j ? 1 : 0));
        }
    }
    return h;
}

// Paley II: order 2(q + 1), q = 1 mod 4. Each entry c of the symmetric conference matrix becomes a 2x2 block.
std::vector<float> paley_two(int q) {
    const std::vector<int> chi = quadratic_character(q);
    const int n = q + 1, order = 2 * n;
    std::vector<float> h(static_cast<std::size_t>(order) * order);
    for (int i = 0; i < n; ++i) {
        for (int j = 0; j < n; ++j) {
            int c = 0;
            if ((i == 0) != (j == 0)) c = 1;
            if (i > 0 && j > 0) c = chi[((i - j) % q + q) % q];
            const int zero_block[4] = {1, -1, -1, -1}, one_block[4] = {1, 1, 1, -1};
            for (int e = 0; e < 4; ++e) {
                const int value = c == 0 ? zero_block[e] : c * one_block[e];
                h[static_cast<std::size_t>(2 * i + e / 2) * order + 2 * j + e % 2] = static_cast<float>(value);
            }
        }
    }
    return h;
}

// Standard normals by Box-Muller from the counter generator.
double normal(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
    const double u = (static_cast<double>(counter_word(seed, stream, 2 * index) >> 11) + 0.5) * 0x1p-53;
    const double v = static_cast<double>(counter_word(seed, stream, 2 * index + 1) >> 11) * 0x1p-53;
    return std::sqrt(-2 * std::log(u)) * std::cos(2 * std::numbers::pi * v);
}

// Q of the QR decomposition of a Gaussian matrix with R's diagonal made positive: Haar distributed (Mezzadri 2007).
// Modified Gram-Schmidt, twice, in double precision.
std::vector<float> haar_matrix(int d, std::uint64_t seed, std::uint64_t stream) {
    std::vector<double> q(static_cast<std::size_t>(d) * d);
    for (std::size_t i = 0; i < q.size(); ++i) q[i] = normal(seed, stream, i);
    for (int i = 0; i < d; ++i) {
        double* row = &q[static_cast<std::size_t>(i) * d];
        for (int pass = 0; pass < 2; ++pass) {
            for (int k = 0; k < i; ++k) {
                const double* other = &q[static_cast<std::size_t>(k) * d];
                double dot = 0;
                for (int j = 0; j < d; ++j) dot += row[j] * other[j];
                for (int j = 0; j < d; ++j) row[j] -= dot * other[j];
            }
            double power = 0;
            for (int j = 0; j < d; ++j) power += row[j] * row[j];
            const double inverse = 1 / std::sqrt(power);
            for (int j = 0; j < d; ++j) row[j] *= inverse;
        }
    }
    return {q.begin(), q.end()};
}

bool is_prime(int n) {
    for (int i = 2; i * i <= n; ++i) {
        if (n % i == 0) return false;
    }
    return n > 1;
}

std::shared_ptr<const RotationTables> make_tables(int head_dim, Rotation kind, std::uint64_t seed, std::uint64_t stream) {
    auto tables = std::make_shared<RotationTables>();
    tables->head_dim = head_dim;
    tables->kind = kind;
    tables->run = head_dim & -head_dim;
    int odd = head_dim / tables->run;
    if (odd > 1) {  // an odd part takes a factor 4 of the power of two
        tables->base = 4 * odd;
        tables->run /= 4;
    }
    tables->norm = static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim)));
    for (int j = 0; j < head_dim; ++j) tables->sign.push_back(counter_sign(seed, stream, j) ? -1.0f : 1.0f);
    tables->paley = paley_hadamard(tables->base);
    if (kind == Rotation::haar) tables->dense = haar_matrix(head_dim, seed, stream);
    return tables;
}

// The Sylvester factor: butterflies over the index bits of a run, highest first.
void butterflies(float* x, int run) {
    for (int h = run / 2; h >= 1; h /= 2) {
        for (int i = 0; i < run; i += 2 * h) {
            for (int j = i; j < i + h; ++j) {
                const float u = x[j], v = x[j + h];
                x[j] = u + v;
                x[j + h] = u - v;
            }
        }
    }
}

// The Paley factor: y[i][b] = sum over a, ascending, of P[i][a] * x[a][b] (or P transposed).
void paley_stage(const RotationTables& t, float* x, bool transposed) {
    std::vector<float> column(t.base);
    for (int b = 0; b < t.run; ++b) {
        for (int a = 0; a < t.base; ++a) column[a] = x[a * t.run + b];
        for (int i = 0; i < t.base; ++i) {
            float sum = 0;
            for (int a = 0; a < t.base; ++a) {
                const float term = t.paley[transposed ? a * t.base + i : i * t.base + a] * column[a];
                sum = a == 0 ? term : sum + term;
            }
            x[i * t.run + b] = sum;
        }
    }
}

void dense_product(const RotationTables& t, float* x, bool transposed) {
    const int d = t.head_dim;
    const std::vector<float> in(x, x + d);
    for (int i = 0; i < d; ++i) {
        float sum = 0;
        for (int j = 0; j < d; ++j) {
            const std::size_t at = transposed ? static_cast<std::size_t>(j) * d + i : static_cast<std::size_t>(i) * d + j;
            sum += t.dense[at] * in[j];
        }
        x[i] = sum;
    }
}

}  // namespace

std::vector<float> paley_hadamard(int order) {
    if (order == 1) return {1.0f};
    if (order % 4 != 0) return {};
    if (is_prime(order - 1)) return paley_one(order - 1);
    if (order % 8 == 4 && is_prime(order / 2 - 1)) return paley_two(order / 2 - 1);
    return {};
}

bool has_hadamard(int order) {
    if (order < 1) return false;
    const int odd = order / (order & -order);
    return odd == 1 || (order % 4 == 0 && !paley_hadamard(4 * odd).empty());
}

std::vector<float> normal_matrix(int order, std::uint64_t seed, std::uint64_t stream) {
    std::vector<float> numbers(static_cast<std::size_t>(order) * order);
    for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<float>(normal(seed, stream, i));
    return numbers;
}

std::shared_ptr<const RotationTables> rotation_tables(int order, Rotation kind, std::uint64_t seed, std::uint64_t stream) {
    static std::mutex mutex;
    static std::map<std::tuple<int, Rotation, std::uint64_t, std::uint64_t>, std::shared_ptr<const RotationTables>> made;
    const std::lock_guard lock(mutex);
    auto& entry = made[{order, kind, seed, stream}];
    if (!entry) entry = make_tables(order, kind, seed, stream);
    return entry;
}

void rotate_forward(const RotationTables& t, float* x) {
    if (t.kind == Rotation::haar) return dense_product(t, x, false);
    for (int j = 0; j < t.head_dim; ++j) x[j] *= t.sign[j];
    for (int a = 0; a < t.base; ++a) butterflies(x + a * t.run, t.run);
    if (t.base > 1) paley_stage(t, x, false);
    for (int j = 0; j < t.head_dim; ++j) x[j] *= t.norm;
}

void rotate_inverse(const RotationTables& t, float* x) {
    if (t.kind == Rotation::haar) return dense_product(t, x, true);
    for (int a = 0; a < t.base; ++a) butterflies(x + a * t.run, t.run);
    if (t.base > 1) paley_stage(t, x, true);
    for (int j = 0; j < t.head_dim; ++j) x[j] *= t.norm * t.sign[j];
}

}  // namespace turboquant
