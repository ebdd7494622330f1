// The tool's text tables and the numbers in them.
#include "table.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace turboquant::tool {
namespace {

TEST(Table, ColumnsLineUpWhateverTheCharacters) {
    Table table({{"cache", Table::Align::left}, {"tokens/s"}, {"note", Table::Align::left}});
    table.add({"f16", "1.00 ± 0.10", "x"});
    table.add({"k4v4-plain", "12.5"});
    EXPECT_EQ(table.text(false),
              "cache          tokens/s  note\n"
              "----------  -----------  ----\n"
              "f16         1.00 ± 0.10  x\n"
              "k4v4-plain         12.5\n");
}

TEST(Table, BytesAreGivenInTheLargestUnitThatKeepsAWholePart) {
    EXPECT_EQ(format_bytes(0), "0 B");
    EXPECT_EQ(format_bytes(1023), "1023 B");
    EXPECT_EQ(format_bytes(1024), "1.00 KiB");
    EXPECT_EQ(format_bytes(1536 * 1024), "1.50 MiB");
    EXPECT_EQ(format_bytes(90.0 * 1024 * 1024), "90.0 MiB");
    EXPECT_EQ(format_bytes(3.0 * 1024 * 1024 * 1024), "3.00 GiB");
}

TEST(Table, BitsOfNothingAreADash) {
    EXPECT_EQ(format_bits(0), "-");
    EXPECT_EQ(format_bits(4.376), "4.38");
}

TEST(Spread, IsTheSampleMeanAndStandardDeviation) {
    const std::vector<double> samples = {2, 4, 4, 4, 5, 5, 7, 9};
    EXPECT_DOUBLE_EQ(spread(samples).mean, 5.0);
    EXPECT_NEAR(spread(samples).stddev, 2.13809, 1e-5);
    EXPECT_EQ(spread(std::vector<double>{3}).stddev, 0.0);
    EXPECT_EQ(spread(std::vector<double>{}).mean, 0.0);
}

}  // namespace
}  // namespace turboquant::tool
