// The file that lets eval go on where it was stopped, and the rows made from what it holds.
#include "eval_state.hpp"

#include <gtest/gtest.h>

#include <unistd.h>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <limits>

#include "eval_report.hpp"
#include "fingerprint.hpp"

namespace turboquant::tool {
namespace {

const Json kFingerprint = {{"model", "abc"}, {"batch size", 64}};

// Each test has a file of its own, gone before it and after it.
class OneFile : public testing::Test {
protected:
    OneFile() { std::remove(path.c_str()); }
    ~OneFile() override { std::remove(path.c_str()); }

    const std::string path = testing::TempDir() + "tq_" + testing::UnitTest::GetInstance()->current_test_info()->name() + "_" + std::to_string(getpid());
};
using EvalStateFile = OneFile;
using FingerprintFile = OneFile;

std::string read(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

void write(const std::string& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

ChunkRecord record(const std::string& cache, int chunk, float kl) {
    ChunkRecord out{cache, 32, chunk, 1.5, 4.375, 4.5, 1000, "", {}};
    out.scores.add({kl, 0.125f, 2.5f, true});
    out.scores.add({kl / 3, -0.3333333f, 1.25f, false});
    return out;
}

TEST_F(EvalStateFile, GoesOnWhereItWasStopped) {
    {
        auto state = EvalState::open(path, kFingerprint);
        ASSERT_TRUE(state.ok()) << state.status().message();
        ASSERT_TRUE(state.value().add(record("f16", 0, 0)).ok());
        ASSERT_TRUE(state.value().add(record("k4v4", 0, 0.0123456789f)).ok());
        ASSERT_TRUE(state.value().add(GenerationRecord{"k4v4", 32, 0, {5, 6, 7}}).ok());
    }
    auto state = EvalState::open(path, kFingerprint);
    ASSERT_TRUE(state.ok()) << state.status().message();
    EXPECT_EQ(state.value().size(), 3u);
    const ChunkRecord* found = state.value().chunk("k4v4", 32, 0);
    ASSERT_TRUE(found);
    const ChunkRecord same = record("k4v4", 0, 0.0123456789f);
    EXPECT_EQ(found->scores.kl, same.scores.kl);  // bit for bit: a run in two parts gives the figures of one
    EXPECT_EQ(found->scores.change, same.scores.change);
    EXPECT_EQ(found->scores.same, "10");
    EXPECT_EQ(found->full_bits, 4.5);
    ASSERT_TRUE(state.value().generation("k4v4", 32, 0));
    EXPECT_EQ(state.value().generation("k4v4", 32, 0)->tokens, (std::vector<std::int32_t>{5, 6, 7}));
    EXPECT_FALSE(state.value().chunk("k4v4", 64, 0));
    EXPECT_FALSE(state.value().chunk("k4v4", 32, 1));
}

TEST_F(EvalStateFile, KeepsWhatIsNotFinite) {
    {
        auto state = EvalState::open(path, kFingerprint);
        ASSERT_TRUE(state.value().add(record("q4_0", 0, std::numeric_limits<float>::quiet_NaN())).ok());
    }
    auto state = EvalState::open(path, kFingerprint);
    ASSERT_TRUE(state.ok()) << state.status().message();
    EXPECT_TRUE(std::isnan(state.value().chunk("q4_0", 32, 0)->scores.kl[0]));
    EXPECT_EQ(summarise(state.value().chunk("q4_0", 32, 0)->scores).not_finite, 2u);
}

TEST_F(EvalStateFile, RefusesAnotherFingerprintAndSaysWhatDiffers) {
    ASSERT_TRUE(EvalState::open(path, kFingerprint).ok());
    Json other = kFingerprint;
    other["batch size"] = 512;
    const auto state = EvalState::open(path, other);
    ASSERT_FALSE(state.ok());
    const std::string& message = state.status().message();
    EXPECT_EQ(state.status().code(), StatusCode::invalid_argument);
    EXPECT_NE(message.find("another batch size: 64 there, 512 now"), std::string::npos) << message;
}

TEST_F(EvalStateFile, DropsALineThatWasBeingWritten) {
    {
        auto state = EvalState::open(path, kFingerprint);
        ASSERT_TRUE(state.value().add(record("f16", 0, 0)).ok());
    }
    const std::string whole = read(path);
    write(path, whole + R"({"cache":"k4v4","cont)");
    {
        auto state = EvalState::open(path, kFingerprint);
        ASSERT_TRUE(state.ok()) << state.status().message();
        EXPECT_EQ(state.value().size(), 1u);
        EXPECT_EQ(read(path), whole);
        ASSERT_TRUE(state.value().add(record("k4v4", 0, 1)).ok());
    }
    EXPECT_EQ(EvalState::open(path, kFingerprint).value().size(), 2u);
    write(path, whole.substr(0, 20));  // not even the first line was whole
    EXPECT_EQ(EvalState::open(path, kFingerprint).value().size(), 0u);
    EXPECT_EQ(EvalState::open(path, kFingerprint).value().size(), 0u);
}

TEST_F(EvalStateFile, RefusesOtherFilesAndBrokenLines) {
    for (const char* text : {"a shopping list", "a shopping\nlist\n", "{\"results\": []}\n"}) {
        write(path, text);
        const auto state = EvalState::open(path, kFingerprint);
        ASSERT_FALSE(state.ok()) << text;
        EXPECT_NE(state.status().message().find("is not a state file"), std::string::npos);
        EXPECT_EQ(read(path), text);  // it is somebody's
    }
    std::remove(path.c_str());
    ASSERT_TRUE(EvalState::open(path, kFingerprint).ok());
    const std::string first = read(path);
    for (const char* line : {"nonsense\n", "{\"cache\": \"k4v4\"}\n",
                             "{\"cache\":\"a\",\"context\":32,\"chunk\":0,\"seconds\":1,\"bits\":1,\"full_bits\":1,\"bytes\":1,"
                             "\"remark\":\"\",\"kl\":[1,2],\"nll\":[1],\"change\":[1,2],\"same\":\"10\"}\n"}) {
        write(path, first + line);
        const auto state = EvalState::open(path, kFingerprint);
        ASSERT_FALSE(state.ok()) << line;
        EXPECT_NE(state.status().message().find("line 2 "), std::string::npos) << state.status().message();
    }
    EXPECT_FALSE(EvalState::open("/no/such/folder/state", kFingerprint).ok());
}

EvalState measured() {
    EvalState state = EvalState::open("", kFingerprint).value();
    for (int chunk = 0; chunk < 2; ++chunk) {
        EXPECT_TRUE(state.add(record("f16", chunk, 0)).ok());
        EXPECT_TRUE(state.add(record("k4v4", chunk, 0.75f)).ok());
        EXPECT_TRUE(state.add(record("bad", chunk, chunk == 0 ? 1.0f : std::numeric_limits<float>::quiet_NaN())).ok());
        EXPECT_TRUE(state.add(GenerationRecord{"f16", 32, chunk, {1, 2, 3, 4}}).ok());
        EXPECT_TRUE(state.add(GenerationRecord{"k4v4", 32, chunk, {1, chunk == 0 ? 9 : 2, 3, 4}}).ok());
        EXPECT_TRUE(state.add(GenerationRecord{"bad", 32, chunk, {1}}).ok());
    }
    return state;
}

TEST(EvalReport, MakesARowOfAllChunks) {
    const auto rows = eval_rows(measured(), "f16", {"k4v4", "bad"}, {32}, 2, 4);
    ASSERT_EQ(rows.size(), 3u);
    const Json results = eval_results(rows);
    EXPECT_EQ(results[0]["cache"], "f16");
    EXPECT_EQ(results[0]["kl_mean"], 0.0);
    EXPECT_EQ(results[0]["ppl_ratio"], 1.0);
    EXPECT_EQ(results[1]["kl_mean"], 0.5);
    EXPECT_EQ(results[1]["kl_max"], 0.75);
    EXPECT_EQ(results[1]["tokens"], 4);
    EXPECT_EQ(results[1]["seconds"], 3.0);
    EXPECT_EQ(results[1]["bits"], 4.375);
    EXPECT_EQ(results[1]["kl_mean_error"], nullptr);  // too few tokens for two blocks
    // The text of chunk 0 differs in its second token, that of chunk 1 nowhere.
    const Json& generation = results[1]["generation"];
    EXPECT_EQ(generation["first_difference_min"], 1);
    EXPECT_EQ(generation["first_difference_median"], 2.5);
    EXPECT_EQ(generation["equal_fraction"], 0.625);
}

TEST(EvalReport, SaysWhatIsNotFiniteAndGivesNoFigures) {
    const auto rows = eval_rows(measured(), "f16", {"k4v4", "bad"}, {32}, 2, 0);
    const Json bad = eval_results(rows)[2];
    for (const char* key : {"kl_mean", "kl_median", "kl_99", "kl_999", "kl_max", "top1", "ppl", "ppl_ratio", "rms_change"})
        EXPECT_EQ(bad[key], nullptr) << key;
    EXPECT_EQ(bad["tokens_not_finite"], 2);
    EXPECT_NE(bad["remark"].get<std::string>().find("not finite at 2 of 4 tokens"), std::string::npos);
    EXPECT_EQ(bad.dump().find("nan"), std::string::npos);
    EXPECT_EQ(eval_table(rows, false).find("nan"), std::string::npos);
}

TEST(EvalReport, MarkdownHasTheColumnsOfTheTable) {
    const auto rows = eval_rows(measured(), "f16", {"k4v4"}, {32}, 2, 4);
    const Json environment = {{"model", "m.gguf"}, {"text", "t.txt"}, {"chunks", 2}, {"batch", 64},
                              {"cpu", "c"},        {"threads", 1},    {"date", "d"}};
    const std::string text = eval_markdown(rows, environment);
    EXPECT_NE(text.find("m.gguf of t.txt, 2 chunks, batches of 64"), std::string::npos) << text;
    EXPECT_NE(text.find("| 32 | k4v4 | 4.38 | 4.50 | 0.50000 | "), std::string::npos) << text;
}

TEST_F(FingerprintFile, TellsTextsAndFilesApart) {
    EXPECT_EQ(hash_of(""), "cbf29ce484222325");  // FNV-1a's own first value
    EXPECT_EQ(hash_of("a"), "af63dc4c8601ec8c");
    write(path, std::string(100000, 'x'));
    const std::string before = hash_of_file(path).value();
    write(path, std::string(99999, 'x') + "y");
    EXPECT_NE(hash_of_file(path).value(), before);
    EXPECT_FALSE(hash_of_file("/no/such/file").ok());
}

}  // namespace
}  // namespace turboquant::tool
