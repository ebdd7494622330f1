#include "svg.hpp"

#include <cmath>

#include <fmt/format.h>

#include "table.hpp"

namespace turboquant::tool {
namespace {

// Two decimals; without "-0", so that the same picture is the same text everywhere.
std::string number(double value) {
    const double cents = std::round(value * 100);
    return fmt::format("{:g}", cents == 0 ? 0.0 : cents / 100);
}

const char* name_of(Anchor anchor) { return anchor == Anchor::start ? "start" : anchor == Anchor::middle ? "middle" : "end"; }

}  // namespace

std::string escaped(std::string_view text) {
    std::string out;
    for (const char c : text) {
        switch (c) {
            case '&': out += "&amp;"; break;
            case '<': out += "&lt;"; break;
            case '>': out += "&gt;"; break;
            case '"': out += "&quot;"; break;
            case '\'': out += "&#39;"; break;
            default:
                if (static_cast<unsigned char>(c) >= 0x20) out += c;
        }
    }
    return out;
}

double text_width(std::string_view text, double size) {
    return 0.58 * size * static_cast<double>(display_width(std::string(text)));
}

Svg::Svg(double width, double height, std::string_view title) {
    body_ = fmt::format(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" role=\"img\" "
        "font-family=\"system-ui, Helvetica, Arial, sans-serif\">\n<title>{2}</title>\n",
        number(width), number(height), escaped(title));
    rect(0, 0, width, height, "#ffffff");
}

void Svg::shape(const std::string& element, std::string_view tip) {
    const std::string name = element.substr(1, element.find(' ') - 1);
    body_ += tip.empty() ? element + "/>\n" : fmt::format("{}><title>{}</title></{}>\n", element, escaped(tip), name);
}

void Svg::circle(double x, double y, double radius, std::string_view fill, std::string_view tip) {
    shape(fmt::format(R"(<circle cx="{}" cy="{}" r="{}" fill="{}")", number(x), number(y), number(radius), fill), tip);
}

void Svg::rect(double x, double y, double width, double height, std::string_view fill, std::string_view tip) {
    shape(fmt::format(R"(<rect x="{}" y="{}" width="{}" height="{}" fill="{}")", number(x), number(y), number(width),
                      number(height), fill),
          tip);
}

void Svg::line(double x1, double y1, double x2, double y2, std::string_view colour, double width, bool dotted) {
    shape(fmt::format(R"(<line x1="{}" y1="{}" x2="{}" y2="{}" stroke="{}" stroke-width="{}"{})", number(x1), number(y1),
                      number(x2), number(y2), colour, number(width), dotted ? " stroke-dasharray=\"2 3\"" : ""),
          "");
}

void Svg::text(double x, double y, std::string_view text, double size, std::string_view colour, Anchor anchor, double degrees) {
    const std::string turn =
        degrees == 0 ? "" : fmt::format(" transform=\"rotate({} {} {})\"", number(degrees), number(x), number(y));
    body_ += fmt::format("<text x=\"{}\" y=\"{}\" font-size=\"{}\" fill=\"{}\" text-anchor=\"{}\"{}>{}</text>\n", number(x),
                         number(y), number(size), colour, name_of(anchor), turn, escaped(text));
}

std::string Svg::str() const { return body_ + "</svg>\n"; }

}  // namespace turboquant::tool
