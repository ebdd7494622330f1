#include "fingerprint.hpp"

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fstream>

#include <fmt/format.h>

namespace turboquant::tool {
namespace {

constexpr std::uint64_t kStart = 0xcbf29ce484222325u, kFactor = 0x100000001b3u;
constexpr std::uint64_t kPiece = 64 << 10, kPieces = 256, kWhole = 64 << 20;

std::uint64_t hashed(std::uint64_t hash, std::string_view bytes) {
    for (const char byte : bytes) hash = (hash ^ static_cast<unsigned char>(byte)) * kFactor;
    return hash;
}

}  // namespace

std::string hash_of(std::string_view bytes) { return fmt::format("{:016x}", hashed(kStart, bytes)); }

Result<std::string> hash_of_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    if (!file) return unsupported(fmt::format("cannot read '{}': {}", path, std::strerror(errno)));
    const auto size = static_cast<std::uint64_t>(file.tellg());
    std::uint64_t hash = hashed(kStart, std::to_string(size));
    std::string piece;
    const std::uint64_t pieces = size <= kWhole ? (size + kPiece - 1) / kPiece : kPieces;
    for (std::uint64_t i = 0; i < pieces; ++i) {
        const std::uint64_t at = size <= kWhole ? i * kPiece : (size - kPiece) / (kPieces - 1) * i;
        piece.resize(std::min(kPiece, size - at));
        file.seekg(static_cast<std::streamoff>(at));
        if (!file.read(piece.data(), static_cast<std::streamsize>(piece.size())))
            return unsupported(fmt::format("cannot read '{}': {}", path, std::strerror(errno)));
        hash = hashed(hash, piece);
    }
    return fmt::format("{:016x}", hash);
}

}  // namespace turboquant::tool
