// One line of `turboquant validate`: a number of the paper, the exact one, ours, and the interval in which ours must lie.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace turboquant::validation {

struct Options {
    int threads = 1;
    bool quick = false;  // fewer samples: wider intervals
};

struct Row {
    std::string group;             // what the row is about; kGroups lists them
    std::string name;              // unique
    std::optional<double> paper;   // as printed in arXiv 2504.19874
    std::optional<double> theory;  // exact, or a bound
    double measured = 0;
    std::optional<double> low, high;  // none: for information; nothing can fail
    std::string how;                  // where the interval comes from

    bool judged() const { return low || high; }
    bool passes() const { return (!low || measured >= *low) && (!high || measured <= *high); }
};
using Rows = std::vector<Row>;

// Each fills the rows of one group. A NaN that is judged does not pass.
struct Group {
    const char* name;
    Rows (*run)(const Options& options);
};
// All of them, in the order of the table.
const std::vector<Group>& groups();

Rows distortion_rows(const Options& options);
Rows shipped_rows(const Options& options);
Rows product_rows(const Options& options);
Rows codebook_rows(const Options& options);
Rows rotation_rows(const Options& options);
Rows byte_rows(const Options& options);
Rows attention_rows(const Options& options);
Rows search_rows(const Options& options);
Rows speed_rows(const Options& options);

// Mean, standard deviation and standard error of independent samples.
struct Sample {
    double mean = 0, deviation = 0, error = 0;
};
Sample sample_of(const std::vector<double>& values);

// measured must lie within `errors` standard errors of theory. Four of them are exceeded by chance once in 16,000 rows.
inline constexpr double kErrors = 4;
Row row_of(std::string group, std::string name, std::optional<double> paper, double theory, const Sample& measured,
           double extra = 0, const std::string& extra_reason = "");

// task(i) for i in 0 .. count - 1, each once, on several threads. Results must go to places of their own, so that nothing depends on
// the number of threads.
void parallel(int threads, int count, const std::function<void(int)>& task);

}  // namespace turboquant::validation
