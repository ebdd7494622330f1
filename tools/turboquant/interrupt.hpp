// Ctrl-C and SIGTERM as a question: a long command asks between two steps, ends early and gives what it has. A second signal ends the program at
// once.
#pragma once

namespace turboquant::tool {

// From now on. A signal that the program was told to ignore (nohup, a shell's background) stays ignored.
void catch_interrupts();

// The signal that came, 0 before one did.
int interrupted();

}  // namespace turboquant::tool
