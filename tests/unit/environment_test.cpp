// The list of environment variables: names once each, in our name space, explained.
#include "turboquant/environment.hpp"

#include <gtest/gtest.h>

#include <set>

namespace turboquant {
namespace {

TEST(Environment, VariablesAreUniqueAndExplained) {
    std::set<std::string_view> names;
    for (const EnvironmentVariable& variable : environment_variables()) {
        EXPECT_TRUE(names.insert(variable.name).second) << variable.name;
        EXPECT_EQ(variable.name.substr(0, 3), "TQ_");
        EXPECT_FALSE(variable.meaning.empty());
    }
    EXPECT_TRUE(names.count("TQ_PRESET"));
    EXPECT_TRUE(names.count("TQ_FORCE_ISA"));
}

}  // namespace
}  // namespace turboquant
