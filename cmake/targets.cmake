# The properties that every target of ours shares. Flags live on targets, never globally.

# Encoding is defined bit for bit: a compiler that fuses a*b+c by itself changes codes between machines.
add_library(tq_flags INTERFACE)
target_compile_options(tq_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-ffp-contract=off;-Wall;-Wextra;-Wshadow>
  $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<BOOL:${TQ_WERROR}>>:-Werror>)
if(TQ_SANITIZE)
  target_compile_options(tq_flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
  target_link_options(tq_flags INTERFACE -fsanitize=address,undefined)
endif()
