// Errors as values: a Status says what was wrong in words, a Result holds a value or a Status.
// Nothing in the library throws, prints or aborts; every public verb that can be misused returns one of these.
#pragma once

#include <string>
#include <utility>
#include <variant>

namespace turboquant {

enum class StatusCode {
    ok,
    invalid_argument,  // the caller's mistake: which argument, what was given, what is supported
    unsupported,       // a sensible request that this build or machine cannot serve
    out_of_memory,
    corrupt,           // bytes from outside that do not describe what they claim to
};

class [[nodiscard]] Status {
public:
    Status() = default;
    Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

    bool ok() const { return code_ == StatusCode::ok; }
    StatusCode code() const { return code_; }
    const std::string& message() const { return message_; }

private:
    StatusCode code_ = StatusCode::ok;
    std::string message_;
};

inline Status invalid_argument(std::string message) {
    return {StatusCode::invalid_argument, std::move(message)};
}
inline Status unsupported(std::string message) {
    return {StatusCode::unsupported, std::move(message)};
}

// A value or the reason why there is none. value() may be called only when ok().
template <class T>
class [[nodiscard]] Result {
public:
    Result(T value) : state_(std::move(value)) {}
    Result(Status status) : state_(std::move(status)) {}

    bool ok() const { return std::holds_alternative<T>(state_); }
    T& value() { return std::get<T>(state_); }
    const T& value() const { return std::get<T>(state_); }
    const Status& status() const { return std::get<Status>(state_); }

private:
    std::variant<T, Status> state_;
};

}  // namespace turboquant
