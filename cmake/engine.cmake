# The engine (llama.cpp) as imported targets. Its headers and libraries come from TQ_ENGINE_DIR, which
# scripts/engine prepares in the user's cache directory; nothing of it is part of this repository.
foreach(needed source/include/llama.h source/ggml/include/ggml.h source/ggml/src/ggml-backend-impl.h
               build/bin/libllama.so build/bin/libggml.so build/bin/libggml-base.so)
  if(NOT EXISTS "${TQ_ENGINE_DIR}/${needed}")
    message(FATAL_ERROR "TQ_ENGINE_DIR=${TQ_ENGINE_DIR} holds no ${needed}; run scripts/engine, which prints the directory to use")
  endif()
endforeach()

# Headers only: what the plug-in compiles against. Its ggml symbols resolve in the host program at load time.
add_library(tq_engine_headers INTERFACE)
target_include_directories(tq_engine_headers SYSTEM INTERFACE
  ${TQ_ENGINE_DIR}/source/ggml/include ${TQ_ENGINE_DIR}/source/ggml/src)

# Headers and shared libraries: what a program of ours links.
add_library(tq_engine INTERFACE)
target_include_directories(tq_engine SYSTEM INTERFACE ${TQ_ENGINE_DIR}/source/include)
target_link_libraries(tq_engine INTERFACE tq_engine_headers
  ${TQ_ENGINE_DIR}/build/bin/libllama.so ${TQ_ENGINE_DIR}/build/bin/libggml.so ${TQ_ENGINE_DIR}/build/bin/libggml-base.so)
target_link_options(tq_engine INTERFACE "LINKER:-rpath,${TQ_ENGINE_DIR}/build/bin")
