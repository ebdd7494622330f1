#include "eval_plot.hpp"

#include <algorithm>
#include <cmath>
#include <set>

#include <fmt/format.h>

#include "svg.hpp"

namespace turboquant::tool {
namespace {

constexpr double kPanelWidth = 420, kPanelHeight = 320, kGap = 30;
constexpr double kLeft = 74, kTop = 40, kBottom = 56, kRight = 20;
constexpr double kMarker = 4, kSmall = 11, kTiny = 10;
constexpr std::size_t kMostTicks = 7;
constexpr const char *kOurs = "#1769aa", *kEngine = "#c0561a", *kGrey = "#777777", *kGrid = "#e4e4e4", *kBad = "#a00000";

struct Box {
    double left, top, right, bottom;

    double overlap(const Box& other) const {
        const double width = std::min(right, other.right) - std::max(left, other.left);
        const double height = std::min(bottom, other.bottom) - std::max(top, other.top);
        return width > 0 && height > 0 ? width * height : 0;
    }
    double area() const { return (right - left) * (bottom - top); }
};

struct Axes {
    double low_bits = 0, high_bits = 1, low_kl = 1e-3, high_kl = 1;
    Box at{};

    double x(double bits) const { return at.left + (bits - low_bits) / (high_bits - low_bits) * (at.right - at.left); }
    double y(double kl) const {
        const double place = std::log(kl / low_kl) / std::log(high_kl / low_kl);
        return at.bottom - std::clamp(place, 0.0, 1.0) * (at.bottom - at.top);
    }
};

bool drawable(const PlotPoint& point) { return std::isfinite(point.kl) && point.kl > 0 && point.bits > 0; }

// Room around all points, and to their right for the names.
Axes axes_around(const std::vector<PlotPoint>& points) {
    double low_bits = INFINITY, high_bits = 0, low_kl = INFINITY, high_kl = 0;
    for (const PlotPoint& point : points) {
        if (!drawable(point)) continue;
        low_kl = std::min(low_kl, point.kl);
        high_kl = std::max(high_kl, point.kl);
        if (point.series == PlotSeries::floor) continue;
        low_bits = std::min(low_bits, point.bits);
        high_bits = std::max(high_bits, point.bits);
    }
    if (high_kl == 0) return {};
    if (high_bits == 0) low_bits = high_bits = 16;  // the floor alone
    const double more = 0.08 * (high_bits - low_bits) + 0.3, factor = std::pow(high_kl / low_kl, 0.08) * 1.3;
    return {std::max(0.0, low_bits - more), high_bits + 2 * more, low_kl / factor, high_kl * factor, {}};
}

void draw_frame(Svg& svg, const Axes& axes, const std::string& title, bool with_labels) {
    const Box& at = axes.at;
    for (double kl : log_ticks(axes.low_kl, axes.high_kl)) {
        svg.line(at.left, axes.y(kl), at.right, axes.y(kl), kGrid);
        if (with_labels) svg.text(at.left - 6, axes.y(kl) + 4, fmt::format("{:g}", kl), kSmall, kGrey, Anchor::end);
    }
    for (double bits : linear_ticks(axes.low_bits, axes.high_bits)) {
        svg.line(axes.x(bits), at.top, axes.x(bits), at.bottom, kGrid);
        svg.text(axes.x(bits), at.bottom + 16, fmt::format("{:g}", bits), kSmall, kGrey, Anchor::middle);
    }
    svg.line(at.left, at.bottom, at.right, at.bottom, kGrey);
    svg.line(at.left, at.top, at.left, at.bottom, kGrey);
    svg.text((at.left + at.right) / 2, at.top - 14, title, 13, "#222222", Anchor::middle);
    svg.text((at.left + at.right) / 2, at.bottom + 34, "bits per value, everything counted", kSmall, "#222222", Anchor::middle);
    if (with_labels)
        svg.text(at.left - 52, (at.top + at.bottom) / 2, "mean KL divergence from f16", kSmall, "#222222", Anchor::middle, -90);
}

// Beside its marker where it hides least of what is there already.
Box place_label(const std::string& label, double x, double y, const Box& panel, const std::vector<Box>& taken) {
    const double width = text_width(label, kSmall), height = kSmall, near = kMarker + 3;
    const double rights[] = {x + near,         x + near,         x + near,      x - near - width,
                             x - near - width, x - near - width, x - width / 2, x - width / 2};
    const double tops[] = {y - height, y - height / 2, y, y - height, y - height / 2, y, y - near - height, y + near};
    Box best{};
    double least = INFINITY;
    for (std::size_t i = 0; i < std::size(tops); ++i) {
        const Box box{rights[i], tops[i], rights[i] + width, tops[i] + height};
        double hidden = box.area() - box.overlap(panel);
        for (const Box& other : taken) hidden += box.overlap(other);
        if (hidden < least - 1e-9) {
            least = hidden;
            best = box;
        }
    }
    return best;
}

void draw_points(Svg& svg, const Axes& axes, const std::vector<PlotPoint>& points) {
    std::vector<Box> taken;
    for (const PlotPoint& point : points) {
        const double x = axes.x(point.bits), y = axes.y(point.kl);
        if (drawable(point) && point.series != PlotSeries::floor)
            taken.push_back({x - kMarker, y - kMarker, x + kMarker, y + kMarker});
    }
    for (const PlotPoint& point : points) {
        if (!drawable(point)) continue;
        const double y = axes.y(point.kl);
        if (point.series == PlotSeries::floor) {
            svg.line(axes.at.left, y, axes.at.right, y, kGrey, 1, true);  // its name below: little is better than the floor
            svg.text(axes.at.right - 4, y + 12, point.cache + ": f16, rounded otherwise", kTiny, kGrey, Anchor::end);
            continue;
        }
        const double x = axes.x(point.bits);
        const char* colour = point.series == PlotSeries::ours ? kOurs : kEngine;
        const bool has_error = std::isfinite(point.kl_error) && point.kl_error > 0;
        if (has_error)
            svg.line(x, axes.y(std::max(point.kl - point.kl_error, axes.low_kl)), x, axes.y(point.kl + point.kl_error), colour,
                     1.5);
        const std::string tip = fmt::format("{}: {:.2f} bits, mean KL {:.3g}{}", point.cache, point.bits, point.kl,
                                            has_error ? fmt::format(" ± {:.1g}", point.kl_error) : "");
        if (point.series == PlotSeries::ours) {
            svg.circle(x, y, kMarker, colour, tip);
        } else {
            svg.rect(x - kMarker, y - kMarker, 2 * kMarker, 2 * kMarker, colour, tip);
        }
        const Box label = place_label(point.cache, x, y, axes.at, taken);
        svg.text(label.left, label.bottom - 2, point.cache, kSmall, colour);
        taken.push_back(label);
    }
}

// What is in no place of the panel, in words below it.
void draw_missing(Svg& svg, const Box& at, const std::vector<PlotPoint>& points) {
    std::string missing;
    bool any = false;
    for (const PlotPoint& point : points) {
        any |= drawable(point);
        if (!std::isfinite(point.kl)) missing += (missing.empty() ? "not finite: " : ", ") + point.cache;
    }
    if (!missing.empty()) svg.text(at.left + 4, at.bottom - 6, missing, kSmall, kBad);
    if (!any) svg.text((at.left + at.right) / 2, (at.top + at.bottom) / 2, "nothing to draw", kSmall, kGrey, Anchor::middle);
}

void draw_legend(Svg& svg, double y, const std::vector<PlotPoint>& points) {
    const auto has = [&](PlotSeries series) {
        return std::any_of(points.begin(), points.end(), [series](const PlotPoint& point) { return point.series == series; });
    };
    double x = kLeft;
    if (has(PlotSeries::ours)) {
        svg.circle(x + kMarker, y, kMarker, kOurs);
        svg.text(x + 14, y + 4, "this project's presets", kSmall, kOurs);
        x += 150;
    }
    if (has(PlotSeries::engine)) {
        svg.rect(x, y - kMarker, 2 * kMarker, 2 * kMarker, kEngine);
        svg.text(x + 14, y + 4, "llama.cpp's caches", kSmall, kEngine);
    }
}

}  // namespace

std::vector<double> log_ticks(double low, double high) {
    std::vector<double> fine, powers;
    const auto first = static_cast<int>(std::floor(std::log10(low))), last = static_cast<int>(std::ceil(std::log10(high)));
    for (int e = first; e <= last; ++e) {
        for (const double times : {1.0, 2.0, 5.0}) {
            const double tick = times * std::pow(10.0, e);
            if (tick < low || tick > high) continue;
            fine.push_back(tick);
            if (times == 1.0) powers.push_back(tick);
        }
    }
    return fine.size() > kMostTicks ? powers : fine;
}

std::vector<double> linear_ticks(double low, double high) {
    double step = std::pow(10.0, std::floor(std::log10(high - low)) - 1);
    for (int i = 0; (high - low) / step > kMostTicks; ++i) step *= i % 3 == 1 ? 2.5 : 2;  // 1, 2, 5, 10, ...
    std::vector<double> ticks;
    for (double tick = std::ceil(low / step); tick * step <= high; ++tick) ticks.push_back(tick * step);
    return ticks;
}

std::string eval_plot(const std::vector<PlotPoint>& points, const std::string& model) {
    std::set<int> contexts;
    for (const PlotPoint& point : points) contexts.insert(point.context);
    const auto panels = static_cast<double>(std::max<std::size_t>(contexts.size(), 1));
    const double height = kTop + kPanelHeight + kBottom + 20;
    Svg svg(kLeft + panels * kPanelWidth + (panels - 1) * kGap + kRight, height,
            model + ": mean KL divergence from f16 over bits per value");
    Axes axes = axes_around(points);
    double left = kLeft;
    for (int context : contexts) {
        std::vector<PlotPoint> here;
        std::copy_if(points.begin(), points.end(), std::back_inserter(here),
                     [&](const PlotPoint& p) { return p.context == context; });
        axes.at = {left, kTop, left + kPanelWidth, kTop + kPanelHeight};
        draw_frame(svg, axes, fmt::format("{}, {} tokens", model, context), left == kLeft);
        draw_points(svg, axes, here);
        draw_missing(svg, axes.at, here);
        left += kPanelWidth + kGap;
    }
    draw_legend(svg, height - 16, points);
    return svg.str();
}

}  // namespace turboquant::tool
