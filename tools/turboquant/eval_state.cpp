#include "eval_state.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>

#include <fmt/format.h>

namespace turboquant::tool {
namespace {

constexpr const char* kMark = "turboquant_eval";  // the first line's key; its value is the version of the file's form
constexpr int kForm = 1;

Json to_json(const std::vector<float>& values) {
    Json out = Json::array();
    for (float value : values)  // through text: the float's own six digits instead of the nearest double's seventeen
        out.push_back(std::isfinite(value) ? Json(std::stod(fmt::format("{:.6g}", value))) : Json(nullptr));
    return out;
}

std::vector<float> floats_of(const Json& values) {
    std::vector<float> out;
    for (const Json& value : values) out.push_back(value.is_null() ? std::numeric_limits<float>::quiet_NaN() : value.get<float>());
    return out;
}

ChunkRecord chunk_of(const Json& line) {
    ChunkRecord record{line.at("cache"),   line.at("context"), line.at("chunk"),
                       line.at("seconds"), line.at("bits"),    line.at("full_bits"),
                       line.at("bytes"),   line.at("remark"),  {}};
    record.scores = {floats_of(line.at("kl")), floats_of(line.at("change")), floats_of(line.at("nll")), line.at("same")};
    const Scores& scores = record.scores;
    if (scores.change.size() != scores.size() || scores.nll.size() != scores.size() || scores.same.size() != scores.size())
        throw Json::other_error::create(501, "its lists differ in length", nullptr);
    return record;
}

template <class Record>
const Record* find(const std::vector<Record>& records, const std::string& cache, int context, int chunk) {
    const auto found = std::find_if(records.begin(), records.end(), [&](const Record& record) {
        return record.cache == cache && record.context == context && record.chunk == chunk;
    });
    return found == records.end() ? nullptr : &*found;
}

}  // namespace

Json to_json(const ChunkRecord& record) {
    const Scores& scores = record.scores;
    return {{"cache", record.cache},
            {"context", record.context},
            {"chunk", record.chunk},
            {"seconds", record.seconds},
            {"bits", record.bits},
            {"full_bits", record.full_bits},
            {"bytes", record.bytes},
            {"remark", record.remark},
            {"kl", to_json(scores.kl)},
            {"nll", to_json(scores.nll)},
            {"change", to_json(scores.change)},
            {"same", scores.same}};
}

Json to_json(const GenerationRecord& record) {
    return {{"cache", record.cache}, {"context", record.context}, {"chunk", record.chunk}, {"tokens", record.tokens}};
}

Result<EvalState> EvalState::open(const std::string& path, const Json& fingerprint) {
    EvalState state(path);
    if (path.empty()) return state;
    std::error_code failed;
    if (std::filesystem::exists(path, failed)) {
        std::ifstream file(path, std::ios::binary);
        if (!file) return invalid_argument(fmt::format("cannot read the state file '{}': {}", path, std::strerror(errno)));
        const std::string text{std::istreambuf_iterator<char>(file), {}};
        if (const Status done = state.read(text, fingerprint); !done.ok()) return done;
        const auto whole = text.rfind('\n');  // what follows was being written when the run ended
        if (whole != std::string::npos) {
            if (whole + 1 < text.size()) std::filesystem::resize_file(path, whole + 1, failed);
            if (failed) return unsupported(fmt::format("cannot repair the state file '{}': {}", path, failed.message()));
            return state;
        }
        std::filesystem::resize_file(path, 0, failed);
    }
    Json first;
    first[kMark] = kForm;
    first["fingerprint"] = fingerprint;
    if (const Status done = state.write_line(first); !done.ok()) return done;
    return state;
}

Status EvalState::read(const std::string& text, const Json& fingerprint) {
    std::size_t number = 0;
    for (std::size_t at = 0; at < text.size();) {
        const auto end = text.find('\n', at);
        if (end == std::string::npos) {
            // A first line without an end can only be ours if it begins as ours does; anything else is somebody's file.
            const std::string beginning = fmt::format("{{\"{}\"", kMark);
            if (number == 0 && text.compare(0, beginning.size(), beginning) != 0)
                return invalid_argument(
                    fmt::format("'{}' is not a state file of turboquant eval; give --state another path", path_));
            return {};
        }
        const std::string line_text = text.substr(at, end - at);
        at = end + 1;
        ++number;
        const Json line = Json::parse(line_text, nullptr, false);
        if (number == 1) {
            if (!line.is_object() || !line.contains(kMark) || line[kMark] != kForm || !line.contains("fingerprint"))
                return invalid_argument(
                    fmt::format("'{}' is not a state file of turboquant eval; give --state another path", path_));
            const Json& theirs = line["fingerprint"];
            for (const auto& [key, value] : fingerprint.items()) {
                const Json other = theirs.contains(key) ? theirs[key] : Json(nullptr);
                if (other != value)
                    return invalid_argument(
                        fmt::format("the state file '{}' was made with another {}: {} there, {} now; give "
                                    "--state another path, or remove the file",
                                    path_, key, other.dump(), value.dump()));
            }
            continue;
        }
        try {
            if (line.contains("tokens"))
                generations_.push_back({line.at("cache"), line.at("context"), line.at("chunk"), line.at("tokens")});
            else
                chunks_.push_back(chunk_of(line));
        } catch (const Json::exception& error) {
            return invalid_argument(fmt::format("line {} of the state file '{}' cannot be read ({}); remove the line, or the file",
                                                number, path_, line.is_discarded() ? "it is no JSON" : error.what()));
        }
    }
    return {};
}

Status EvalState::write_line(const Json& line) const {
    if (path_.empty()) return {};
    std::ofstream file(path_, std::ios::binary | std::ios::app);
    file << line.dump() + "\n" << std::flush;
    if (!file) return unsupported(fmt::format("cannot write the state file '{}': {}", path_, std::strerror(errno)));
    return {};
}

Status EvalState::add(ChunkRecord record) {
    const Status done = write_line(to_json(record));
    chunks_.push_back(std::move(record));
    return done;
}

Status EvalState::add(GenerationRecord record) {
    const Status done = write_line(to_json(record));
    generations_.push_back(std::move(record));
    return done;
}

const ChunkRecord* EvalState::chunk(const std::string& cache, int context, int chunk) const {
    return find(chunks_, cache, context, chunk);
}

const GenerationRecord* EvalState::generation(const std::string& cache, int context, int chunk) const {
    return find(generations_, cache, context, chunk);
}

}  // namespace turboquant::tool
