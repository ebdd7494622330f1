// How far two distributions of the next token are apart, for one token and over many. Pure arithmetic, no engine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace turboquant::tool {

// The softmax of one row of logits. Not finite (a NaN or +infinity among them, or no logit above -infinity): ok() is false.
class Distribution {
public:
    Distribution() = default;
    explicit Distribution(std::span<const float> logits);

    bool ok() const { return ok_; }
    double log_probability(std::span<const float> logits, std::size_t token) const;  // logits: those it was made from
    std::span<const float> probabilities() const { return probabilities_; }

private:
    friend struct TokenScore;
    std::vector<float> probabilities_;
    double log_normaliser_ = 0;
    bool ok_ = false;
};

// What one token says about a cache. Natural logarithms. NaN where a distribution is not finite.
struct TokenScore {
    float kl = 0;       // KL(base || other) of the next token
    float change = 0;   // probability of the text's next token: other - base
    float nll = 0;      // -log of the probability that the other gives to the text's next token
    bool same = false;  // both have the same most likely token

    // `base` is the softmax of `base_logits`; both rows are the whole vocabulary; next: index of the text's next token.
    static TokenScore of(const Distribution& base, std::span<const float> base_logits, std::span<const float> other_logits,
                         std::size_t next);
};

// Index of the largest logit, the first of equal ones; -1 when one of them is NaN or there are none.
std::int64_t most_likely(std::span<const float> logits);

// The scores of a run of tokens, in the order of the text, one entry for each token in every vector.
struct Scores {
    std::vector<float> kl, change, nll;
    std::string same;  // '1' or '0'

    std::size_t size() const { return kl.size(); }
    void add(const TokenScore& score);
    void append(const Scores& more);
};

struct Summary {
    std::size_t tokens = 0;
    std::size_t not_finite = 0;  // tokens whose scores are not finite; when there are any, the figures below mean nothing
    double kl_mean = 0, kl_median = 0, kl_99 = 0, kl_999 = 0, kl_max = 0;
    double kl_mean_error = 0;  // standard error of kl_mean, see error_of_mean(); NaN when there are fewer than two blocks
    double top1 = 0;           // fraction of tokens with the same most likely token
    double rms_change = 0;     // root of the mean square of `change`
    double nll_mean = 0;       // exp of it is the perplexity
};
Summary summarise(const Scores& scores);

// Linear interpolation between the two nearest ranks, fraction in [0, 1]; values ascending, at least one.
double quantile(std::span<const float> ascending, double fraction);

// Neighbouring tokens are alike, so that the deviation over single tokens would promise too much. The standard error is the
// sample deviation of the means of blocks of kBlock tokens, over the root of their number; an incomplete last block is left out.
inline constexpr std::size_t kBlock = 64;
double error_of_mean(std::span<const float> values);

// Six significant digits, so that what was read from a file equals what was computed.
float shortened(float value);

}  // namespace turboquant::tool
