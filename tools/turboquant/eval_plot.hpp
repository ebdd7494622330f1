// eval's picture: how far caches are from f16 over the bits they take, one panel for each context length. No engine.
#pragma once

#include <string>
#include <vector>

namespace turboquant::tool {

// Whose cache it is; `floor` is f16 with other rounding, drawn as a line that nothing can be told apart from.
enum class PlotSeries { ours, engine, floor };

struct PlotPoint {
    std::string cache;
    PlotSeries series = PlotSeries::ours;
    int context = 0;
    double bits = 0;      // per value, everything counted
    double kl = 0;        // mean; NaN or infinite: named below the panel, not drawn
    double kl_error = 0;  // standard error of it; NaN: none known
};

// An SVG file. Both axes are the same in all panels; the divergence is logarithmic. model: for the titles.
std::string eval_plot(const std::vector<PlotPoint>& points, const std::string& model);

// Where an axis from low to high has its labels. Logarithmic: 1, 2 and 5 times powers of ten, or the powers alone when that would
// be more than a handful.
std::vector<double> log_ticks(double low, double high);
std::vector<double> linear_ticks(double low, double high);

}  // namespace turboquant::tool
