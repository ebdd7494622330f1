// Writes pictures as SVG: a few shapes and text on white, nothing that a browser or a document would have to load.
#pragma once

#include <string>
#include <string_view>

namespace turboquant::tool {

enum class Anchor { start, middle, end };

// Lengths are in user units (pixels at natural size), x to the right and y downwards from the upper left corner.
class Svg {
public:
    // title: what a screen reader says of the picture.
    Svg(double width, double height, std::string_view title);

    // tip: shown while the pointer rests on the shape; none when it is empty.
    void circle(double x, double y, double radius, std::string_view fill, std::string_view tip = "");
    void rect(double x, double y, double width, double height, std::string_view fill, std::string_view tip = "");
    void line(double x1, double y1, double x2, double y2, std::string_view colour, double width = 1, bool dotted = false);

    // y: the base line. degrees: turned clockwise around (x, y).
    void text(double x, double y, std::string_view text, double size, std::string_view colour = "#222222",
              Anchor anchor = Anchor::start, double degrees = 0);

    std::string str() const;  // the whole file

private:
    void shape(const std::string& element, std::string_view tip);
    std::string body_;
};

// How wide a text of this size becomes, roughly: fonts differ.
double text_width(std::string_view text, double size);

// As SVG wants it between tags and in attributes; what XML cannot hold (control characters) is left out.
std::string escaped(std::string_view text);

}  // namespace turboquant::tool
