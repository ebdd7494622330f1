# The properties that every target of ours shares. Flags live on targets, never globally.

# Encoding is defined bit for bit: a compiler that fuses a*b+c by itself changes codes between machines.
add_library(tq_flags INTERFACE)
target_compile_options(tq_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-ffp-contract=off;-Wall;-Wextra;-Wshadow>
  $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<BOOL:${TQ_WERROR}>>:-Werror>)
# Kernels are always optimised: a debug build of them would be too slow to test. (-O3 for the scalar row, whose lanes are loops;
# with sanitizers that takes g++ minutes per file.)
set(TQ_KERNEL_FLAGS -O3)
if(TQ_SANITIZE)
  set(TQ_KERNEL_FLAGS -O1 -g1)
  if(TQ_SANITIZE STREQUAL "thread")
    set(sanitizers -fsanitize=thread)
  elseif(TQ_SANITIZE STREQUAL "address")
    set(sanitizers -fsanitize=address,undefined -fno-sanitize-recover=undefined)
  else()
    message(FATAL_ERROR "TQ_SANITIZE is '${TQ_SANITIZE}'; supported: address, thread, or empty")
  endif()
  target_compile_options(tq_flags INTERFACE ${sanitizers} -fno-omit-frame-pointer)
  target_link_options(tq_flags INTERFACE ${sanitizers})
endif()
