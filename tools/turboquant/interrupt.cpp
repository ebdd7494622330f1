#include "interrupt.hpp"

#include <csignal>

namespace turboquant::tool {
namespace {

volatile std::sig_atomic_t caught = 0;

void on_signal(int number) {
    caught = number;
    std::signal(number, SIG_DFL);
}

}  // namespace

void catch_interrupts() {
    for (const int number : {SIGINT, SIGTERM})
        if (std::signal(number, on_signal) == SIG_IGN) std::signal(number, SIG_IGN);
}

int interrupted() { return caught; }

}  // namespace turboquant::tool
