// What eval has measured so far, chunk by chunk, and the file that keeps it, so that a run that was stopped goes on. No engine.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "divergence.hpp"
#include "terminal.hpp"
#include "turboquant/status.hpp"

namespace turboquant::tool {

// One chunk of text evaluated with one cache.
struct ChunkRecord {
    std::string cache;
    int context = 0, chunk = 0;  // tokens of the chunk, and its number in the text
    double seconds = 0;          // decoding only
    double bits = 0;             // bits per value with the whole chunk in the cache
    double full_bits = 0;        // the same over the layers that attend to everything; equal where all do
    std::int64_t bytes = 0;      // of the whole cache
    std::string remark;
    Scores scores;
};

// What one cache generated greedily after a prompt from the beginning of a chunk.
struct GenerationRecord {
    std::string cache;
    int context = 0, chunk = 0;
    std::vector<std::int32_t> tokens;
};

Json to_json(const ChunkRecord& record);
Json to_json(const GenerationRecord& record);

class EvalState {
public:
    // An empty path: nothing is kept. An existing file must have the same fingerprint (an object of plain values, all that
    // results depend on); the error names what differs. A last line that was cut off while it was written is dropped.
    static Result<EvalState> open(const std::string& path, const Json& fingerprint);

    Status add(ChunkRecord record);
    Status add(GenerationRecord record);

    // nullptr when there is none.
    const ChunkRecord* chunk(const std::string& cache, int context, int chunk) const;
    const GenerationRecord* generation(const std::string& cache, int context, int chunk) const;

    std::size_t size() const { return chunks_.size() + generations_.size(); }

private:
    explicit EvalState(std::string path) : path_(std::move(path)) {}
    Status read(const std::string& text, const Json& fingerprint);
    Status write_line(const Json& line) const;

    std::string path_;
    std::vector<ChunkRecord> chunks_;
    std::vector<GenerationRecord> generations_;
};

}  // namespace turboquant::tool
