// Programmatic dependent launch: lets the next kernel of the stream start, and waits for the one before to be complete. Before compute
// capability 9.0 there is none (launch.cpp does not ask for it), and nothing to do.
#pragma once

#include "cuda/device/warp.cuh"

namespace turboquant::device {

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
TQ_DEV void launch_dependents() { asm volatile("griddepcontrol.launch_dependents;"); }
TQ_DEV void wait_for_predecessor() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
#else
TQ_DEV void launch_dependents() {}
TQ_DEV void wait_for_predecessor() {}
#endif

}  // namespace turboquant::device
