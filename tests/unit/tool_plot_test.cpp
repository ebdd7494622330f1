// The tool's pictures: what is drawn where, and that any name may stand in them.
#include "eval_plot.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <regex>

#include "heat_map.hpp"
#include "files.hpp"
#include "svg.hpp"

namespace turboquant::tool {
namespace {

const double kNaN = std::numeric_limits<double>::quiet_NaN();

std::size_t count(const std::string& text, const std::string& part) {
    std::size_t found = 0;
    for (std::size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++found;
    return found;
}

// The number that an attribute has in the first element with this tip.
double attribute(const std::string& svg, const std::string& tip, const std::string& name) {
    const std::size_t at = svg.find("<title>" + tip);
    if (at == std::string::npos) return kNaN;
    const std::string element = svg.substr(svg.rfind('\n', at), at - svg.rfind('\n', at));
    std::smatch found;
    return std::regex_search(element, found, std::regex(" " + name + "=\"([-0-9.]+)\"")) ? std::stod(found[1]) : kNaN;
}

TEST(Svg, EscapesWhatXmlWouldRead) {
    EXPECT_EQ(escaped("a < b & \"c\" > 'd'\n"), "a &lt; b &amp; &quot;c&quot; &gt; &#39;d&#39;");
    EXPECT_EQ(escaped("Größe ±"), "Größe ±");
    Svg svg(100, 50, "<title>");
    svg.text(1.005, -0.001, "1 < 2", 10);
    svg.circle(5, 5, 2, "#000000", "a & b");
    svg.line(0, 0, 1, 1, "#000000");
    const std::string all = svg.str();
    EXPECT_NE(all.find("width=\"100\" height=\"50\""), std::string::npos);
    EXPECT_NE(all.find("<title>&lt;title&gt;</title>"), std::string::npos);
    EXPECT_NE(all.find("y=\"0\""), std::string::npos) << "no -0";
    EXPECT_NE(all.find("><title>a &amp; b</title></circle>"), std::string::npos);
    EXPECT_EQ(all.substr(all.size() - 7), "</svg>\n");
}

TEST(Ticks, AreRoundAndFew) {
    const auto near = [](const std::vector<double>& ticks, const std::vector<double>& expected) {
        return std::equal(ticks.begin(), ticks.end(), expected.begin(), expected.end(),
                          [](double a, double b) { return std::abs(a - b) < 1e-9 * b; });
    };
    EXPECT_TRUE(near(log_ticks(0.0012, 0.3), {0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2}));
    EXPECT_TRUE(near(log_ticks(0.0009, 4), {0.001, 0.01, 0.1, 1}));
    EXPECT_TRUE(near(linear_ticks(2.6, 9.3), {3, 4, 5, 6, 7, 8, 9}));
    EXPECT_TRUE(near(linear_ticks(2, 17), {5, 10, 15}));
    EXPECT_TRUE(near(linear_ticks(4.1, 5.0), {4.2, 4.4, 4.6, 4.8, 5.0}));
}

TEST(EvalPlot, PutsEveryCacheInItsPlace) {
    const std::vector<PlotPoint> points = {
        {"k4v4", PlotSeries::ours, 2048, 4.9, 0.004, 0.0002}, {"k3v2", PlotSeries::ours, 2048, 3.5, 0.01, kNaN},
        {"q4_0", PlotSeries::engine, 2048, 4.5, 0.04, 0.1},   {"floor", PlotSeries::floor, 2048, 16, 0.003, 0},
        {"q4_0", PlotSeries::engine, 4096, 4.5, 0.05, 0.001}, {"k<2", PlotSeries::ours, 4096, 3.0, kNaN, kNaN}};
    const std::string svg = eval_plot(points, "model");
    EXPECT_EQ(count(svg, "<title>q4_0: 4.50 bits"), 2u);
    EXPECT_NE(svg.find("k4v4: 4.90 bits, mean KL 0.004 ± 0.0002"), std::string::npos);
    EXPECT_NE(svg.find(">model, 2048 tokens<"), std::string::npos);
    EXPECT_NE(svg.find(">model, 4096 tokens<"), std::string::npos);
    EXPECT_NE(svg.find("not finite: k&lt;2"), std::string::npos);
    EXPECT_NE(svg.find(">this project&#39;s presets<"), std::string::npos);
    EXPECT_NE(svg.find(">llama.cpp&#39;s caches<"), std::string::npos);
    EXPECT_EQ(count(svg, "stroke-dasharray"), 1u) << "the floor, in the panel where it was measured";
    EXPECT_LT(attribute(svg, "k3v2", "cx"), attribute(svg, "k4v4", "cx"));
    EXPECT_LT(attribute(svg, "k3v2", "cy"), attribute(svg, "k4v4", "cy")) << "a larger divergence lies higher";
    EXPECT_LT(attribute(svg, "q4_0", "y"), attribute(svg, "k3v2", "cy"));
    // .004 to .01 and .01 to .04 are as far apart on the axis as their logarithms.
    const double low = attribute(svg, "k4v4", "cy"), middle = attribute(svg, "k3v2", "cy"), high = attribute(svg, "q4_0", "y") + 4;
    EXPECT_NEAR((low - middle) / (middle - high), std::log(0.01 / 0.004) / std::log(0.04 / 0.01), 0.01);
    EXPECT_EQ(svg.find("nan"), std::string::npos);
    EXPECT_EQ(svg.find("inf"), std::string::npos);
}

TEST(EvalPlot, NeighboursKeepTheirNamesApart) {
    std::vector<PlotPoint> points;
    for (const char* name : {"k4v4", "k5v4", "k4v3", "q4_0"})
        points.push_back({name, PlotSeries::ours, 512, 5 + 0.02 * points.size(), 0.01, 0});
    points.push_back({"far", PlotSeries::engine, 512, 9, 1, 0});
    const std::string svg = eval_plot(points, "m");
    std::vector<std::pair<double, double>> places;
    const std::regex label("<text x=\"([-0-9.]+)\" y=\"([-0-9.]+)\"[^>]*>(k4v4|k5v4|k4v3|q4_0)<");
    for (std::sregex_iterator it(svg.begin(), svg.end(), label); it != std::sregex_iterator(); ++it)
        places.emplace_back(std::stod((*it)[1]), std::stod((*it)[2]));
    ASSERT_EQ(places.size(), 4u);
    for (std::size_t a = 0; a < 4; ++a)
        for (std::size_t b = 0; b < a; ++b)
            EXPECT_TRUE(std::abs(places[a].first - places[b].first) >= 20 || std::abs(places[a].second - places[b].second) >= 10)
                << a << " " << b;
}

TEST(EvalPlot, SaysSoWhenThereIsNothing) {
    EXPECT_NE(eval_plot({{"k4v4", PlotSeries::ours, 512, 5, kNaN, kNaN}}, "m").find("nothing to draw"), std::string::npos);
    EXPECT_EQ(eval_plot({}, "m").find("nan"), std::string::npos);
    const std::string floor = eval_plot({{"floor", PlotSeries::floor, 512, 16, 0.003, 0}}, "m");
    EXPECT_NE(floor.find("rounded otherwise"), std::string::npos);
    EXPECT_EQ(floor.find("nan"), std::string::npos);
}

TEST(HeatMap, LinesUpAndColoursOnlyWhereAsked) {
    const HeatMap map{
        "title", "depth", {"512", "1024"}, {"0 %", "100 %"}, {{{1, "3/3"}, {0, "0/3"}}, {{0.5, "1/3 x"}, {kNaN, "-"}}}};
    EXPECT_EQ(heat_map(map, false),
              "depth    512   1024\n"
              "  0 %    3/3    0/3\n"
              "100 %  1/3 x      -\n");
    const std::string coloured = heat_map(map, true);
    EXPECT_NE(coloured.find("48;5;28m"), std::string::npos);   // best
    EXPECT_NE(coloured.find("48;5;124m"), std::string::npos);  // worst
    EXPECT_EQ(std::count(coloured.begin(), coloured.end(), '\033'), 6);
    const std::string picture = heat_map_picture({map, map}, "all", "tokens");
    for (const char* part :
         {">title<", ">depth<", ">1024<", ">100 %<", ">1/3 x<", ">tokens<", "#7cbe78", "#e07a6e", "#f7e28a", "#eeeeee"})
        EXPECT_EQ(count(picture, part), 2u) << part;
}

TEST(Plot, IsSvgAndRefusesTheRestBeforeAnythingRuns) {
    EXPECT_TRUE(check_plot("", "eval").ok());
    EXPECT_TRUE(check_plot("picture.svg", "eval").ok());
    const std::string png = check_plot("out/picture.png", "needle").message();
    EXPECT_NE(
        png.find("turboquant needle ... --json > out/picture.json && scripts/plot_eval.py out/picture.json --output out/picture"),
        std::string::npos)
        << png;
    EXPECT_NE(check_plot("picture", "eval").message().find("write --plot picture.svg"), std::string::npos);
    EXPECT_NE(check_plot("/no/such/folder/p.svg", "eval").message().find("no folder '/no/such/folder'"), std::string::npos);
}

}  // namespace
}  // namespace turboquant::tool
